//! Applications: `ApplicationService`.

use super::domain::{self, Actor, Application, Role, WayIn};
use super::store::Secret;
use crate::access::{ApplicationId, Call, Token};
use crate::contract::{Change, Page};
use crate::database::{Reader, Timestamp, Writer};
use crate::error::{Error, Reply, Result, reply};
use crate::plugin::Kernel;
use crate::proto::checkmate::auth::v1::{self as pb, application_service_server::ApplicationService};
use tonic::Request;

/// The service.
pub struct Applications {
    kernel: Kernel,
}

#[tonic::async_trait]
impl ApplicationService for Applications {
    async fn get_applications(
        &self,
        request: Request<pb::GetApplicationsRequest>,
    ) -> Reply<pb::GetApplicationsResponse> {
        Call::open(request)?;
        let page = Page::all();
        let found = self.kernel.database.reader().await?.applications(&page, None, None).await?;
        let found = page.whole(found, "listApplications")?;
        reply(pb::GetApplicationsResponse { applications: self.messages(found) })
    }

    async fn list_applications(
        &self,
        request: Request<pb::ListApplicationsRequest>,
    ) -> Reply<pb::ListApplicationsResponse> {
        let (_, message) = Call::open(request)?;
        let page = self.kernel.page(&message)?;
        let mut store = self.kernel.database.reader().await?;
        let mut found = store.applications(&page, message.name_contains.as_deref(), message.role.as_deref()).await?;
        let next_page_token = self.kernel.pages.cut(&message, &page, &mut found);
        reply(pb::ListApplicationsResponse { applications: self.messages(found), next_page_token })
    }

    async fn get_application(&self, request: Request<pb::GetApplicationRequest>) -> Reply<pb::GetApplicationResponse> {
        let (_, message) = Call::open(request)?;
        let found = self.kernel.database.reader().await?.must_have_application(&message.application_id).await?;
        reply(pb::GetApplicationResponse { application: Some(self.message(found)) })
    }

    async fn create_application(
        &self,
        request: Request<pb::CreateApplicationRequest>,
    ) -> Reply<pb::CreateApplicationResponse> {
        let (call, message) = Call::open(request)?;
        let expires_at = message.expires_at.as_ref().map(Timestamp::of);
        domain::must_be_future(expires_at, call.now)?;
        let new = self.kernel.new_application(
            message.name,
            message.description,
            domain::with_default_role(message.roles),
            expires_at,
            &call,
        );
        // Before the transaction: hashing takes longer than everything else together.
        let (token, secret) = self.kernel.new_secret(new.id).await?;

        let mut store = self.kernel.database.writer().await?;
        let actor = store.lock_access_for(&call).await?;
        actor.must_not_outlive(expires_at)?;
        let roles = store.must_have_roles(&new.roles).await?;
        actor.must_hold(&domain::grants_of(&roles))?;
        store.insert_application(&new, &secret).await?;
        store.set_roles(new.id, &new.roles).await?;
        self.kernel.commit(store, call.did("application.created", new.id)).await?;

        let secret = token.reveal().to_owned();
        reply(pb::CreateApplicationResponse { application: Some(self.message(new)), secret })
    }

    async fn update_application(
        &self,
        request: Request<pb::UpdateApplicationRequest>,
    ) -> Reply<pb::UpdateApplicationResponse> {
        let (call, message) = Call::open(request)?;
        let mut store = self.kernel.database.writer().await?;
        let actor = store.lock_access_for(&call).await?;
        let before = store.must_have_application(&message.id).await?;
        let after = changed(before.clone(), message, call.now);
        store.may_change(&actor, &before, &after, call.now).await?;

        let way_in = WayIn::of(store.way_in(call.now).await?);
        store.update_application(&after).await?;
        store.set_roles(after.id, &after.roles).await?;
        way_in.must_remain(WayIn::of(store.way_in(call.now).await?))?;
        self.kernel.commit(store, call.did("application.updated", after.id)).await?;
        reply(pb::UpdateApplicationResponse { application: Some(self.message(after)) })
    }

    async fn delete_application(
        &self,
        request: Request<pb::DeleteApplicationRequest>,
    ) -> Reply<pb::DeleteApplicationResponse> {
        let (call, message) = Call::open(request)?;
        let mut store = self.kernel.database.writer().await?;
        let actor = store.lock_access_for(&call).await?;
        let doomed = store.must_have_application(&message.id).await?;
        let roles = store.roles_among(&doomed.roles).await?;
        actor.must_administer(&domain::grants_of(&roles))?;

        let way_in = WayIn::of(store.way_in(call.now).await?);
        store.delete_application(doomed.id).await?;
        way_in.must_remain(WayIn::of(store.way_in(call.now).await?))?;
        self.kernel.commit(store, call.did("application.deleted", doomed.id)).await?;
        reply(pb::DeleteApplicationResponse { success: true })
    }

    async fn regenerate_application_secret(
        &self,
        request: Request<pb::RegenerateApplicationSecretRequest>,
    ) -> Reply<pb::RegenerateApplicationSecretResponse> {
        let (call, message) = Call::open(request)?;
        let (token, secret) = self.kernel.new_secret(ApplicationId::parse(&message.id)?).await?;
        let mut store = self.kernel.database.writer().await?;
        let actor = store.lock_access_for(&call).await?;
        let application = store.must_have_application(&message.id).await?;
        let roles = store.roles_among(&application.roles).await?;
        actor.must_hold(&domain::grants_of(&roles))?;
        if actor.id != Some(application.id) {
            actor.must_not_outlive(application.expires_at)?;
        }
        store.set_secret(application.id, &secret, call.now).await?;
        self.kernel.commit(store, call.did("application.secret_regenerated", application.id)).await?;
        reply(pb::RegenerateApplicationSecretResponse { secret: token.reveal().to_owned() })
    }
}

impl Applications {
    /// On this kernel.
    #[must_use]
    pub fn new(kernel: Kernel) -> Self {
        Self { kernel }
    }

    fn messages(&self, found: Vec<Application>) -> Vec<pb::Application> {
        found.into_iter().map(|application| self.message(application)).collect()
    }

    fn message(&self, application: Application) -> pb::Application {
        // A use that is noted in memory may not be written yet.
        let noted = self.kernel.snapshot.application(application.id).and_then(|known| known.usage.last());
        pb::Application {
            id: application.id.to_string(),
            name: application.name,
            description: application.description,
            roles: application.roles,
            created_by_id: application.created_by_id,
            created_at: Some(application.created_at.message()),
            updated_at: Some(application.updated_at.message()),
            last_used_at: application.last_used_at.max(noted).map(Timestamp::message),
            expires_at: application.expires_at.map(Timestamp::message),
        }
    }
}

impl Kernel {
    pub(super) fn new_application(
        &self,
        name: String,
        description: Option<String>,
        roles: Vec<String>,
        expires_at: Option<Timestamp>,
        call: &Call,
    ) -> Application {
        Application {
            id: self.ids.next(),
            name,
            description,
            roles,
            created_by_id: call.caller.id(),
            created_at: call.now,
            updated_at: call.now,
            last_used_at: None,
            expires_at,
        }
    }

    pub(super) async fn new_secret(&self, id: ApplicationId) -> Result<(Token, Secret)> {
        let token = Token::generate(id, self.entropy)?;
        let hash = self.hashing.hash(token.secret(), self.entropy).await?;
        let secret = Secret { hash, tag: self.key.tag(&token).hex(), tag_key: self.key.name.clone() };
        Ok((token, secret))
    }
}

impl Reader {
    async fn must_have_application(&mut self, id: &str) -> Result<Application> {
        let found = self.application(ApplicationId::parse(id)?).await?;
        found.ok_or_else(|| Error::NotFound(format!("Application not found: {id}")))
    }
}

impl Writer {
    /// The roles with these ids; `NOT_FOUND` names the first that does not exist.
    pub(super) async fn must_have_roles(&mut self, ids: &[String]) -> Result<Vec<Role>> {
        domain::must_be_assignable(ids)?;
        let found = self.roles_among(ids).await?;
        match ids.iter().find(|id| !found.iter().any(|role| role.id == **id)) {
            Some(id) => Err(Error::NotFound(format!("Role not found: {id}"))),
            None => Ok(found),
        }
    }

    async fn may_change(
        &mut self,
        actor: &Actor,
        before: &Application,
        after: &Application,
        now: Timestamp,
    ) -> Result<()> {
        let held = self.roles_among(&before.roles).await?;
        actor.must_administer(&domain::grants_of(&held))?;
        let added: Vec<_> = after.roles.iter().filter(|role| !before.roles.contains(role)).cloned().collect();
        let given = domain::grants_of(&self.must_have_roles(&added).await?);
        actor.must_hold(&given)?;
        if !given.is_empty() {
            actor.must_not_outlive(after.expires_at)?;
        }
        if before.expires_at == after.expires_at {
            return Ok(());
        }
        domain::must_be_future(after.expires_at, now)?;
        if domain::extends(before.expires_at, after.expires_at) {
            // A key that would be refused lives on: that gives its permissions anew.
            let all = self.roles_among(&after.roles).await?;
            actor.must_hold(&domain::grants_of(&all))?;
            actor.must_not_outlive(after.expires_at)?;
        }
        Ok(())
    }
}

fn changed(before: Application, message: pb::UpdateApplicationRequest, now: Timestamp) -> Application {
    let mask = message.update_mask.as_ref();
    let name = Change::of(mask, "name", message.name);
    let description = Change::of(mask, "description", message.description);
    let expires_at = Change::of(mask, "expires_at", message.expires_at.as_ref().map(Timestamp::of));
    let roles = Change::of_list(mask, "roles", message.roles).map(domain::distinct);
    Application {
        name: name.or(before.name),
        description: description.or_option(before.description),
        roles: roles.or(before.roles),
        expires_at: expires_at.or_option(before.expires_at),
        updated_at: now,
        ..before
    }
}
