//! Roles and the permissions there are: `RoleService`.

use super::domain::{self, ADMIN, Role, WayIn};
use crate::access::{Call, Grants};
use crate::contract::{Change, PERMISSIONS, Page};
use crate::database::{Reader, Timestamp};
use crate::error::{Error, Reply, Result, reply};
use crate::plugin::Kernel;
use crate::proto::checkmate::auth::v1::{self as pb, role_service_server::RoleService};
use tonic::Request;
use uuid::Uuid;

/// The service.
pub(super) struct Roles {
    kernel: Kernel,
}

#[tonic::async_trait]
impl RoleService for Roles {
    async fn get_roles(&self, request: Request<pb::GetRolesRequest>) -> Reply<pb::GetRolesResponse> {
        Call::open(request)?;
        let page = Page::all();
        let found = self.kernel.database.reader().await?.roles(&page, None).await?;
        let found = page.whole(found, "listRoles")?;
        reply(pb::GetRolesResponse { roles: found.into_iter().map(message).collect() })
    }

    async fn list_roles(&self, request: Request<pb::ListRolesRequest>) -> Reply<pb::ListRolesResponse> {
        let (_, request) = Call::open(request)?;
        let page = self.kernel.page(&request)?;
        let mut store = self.kernel.database.reader().await?;
        let mut found = store.roles(&page, request.name_contains.as_deref()).await?;
        let next_page_token = self.kernel.pages.cut(&request, &page, &mut found);
        reply(pb::ListRolesResponse { roles: found.into_iter().map(message).collect(), next_page_token })
    }

    async fn get_role(&self, request: Request<pb::GetRoleRequest>) -> Reply<pb::GetRoleResponse> {
        let (_, request) = Call::open(request)?;
        let found = self.kernel.database.reader().await?.must_have_role(&request.role_id).await?;
        reply(pb::GetRoleResponse { role: Some(message(found)) })
    }

    async fn create_role(&self, request: Request<pb::CreateRoleRequest>) -> Reply<pb::CreateRoleResponse> {
        let (call, request) = Call::open(request)?;
        let grants = Grants::parse(&request.permissions);
        let mut store = self.kernel.database.writer().await?;
        store.lock_access_for(&call).await?.must_hold(&grants)?;
        let new = Role {
            id: self.kernel.ids.next::<Uuid>().to_string(),
            name: request.name,
            description: request.description,
            grants,
            is_system: false,
            created_at: call.now,
            updated_at: call.now,
        };
        store.insert_role(&new).await?;
        self.kernel.commit(store, call.did("role.created", &new.id)).await?;
        reply(pb::CreateRoleResponse { role: Some(message(new)) })
    }

    async fn update_role(&self, request: Request<pb::UpdateRoleRequest>) -> Reply<pb::UpdateRoleResponse> {
        let (call, request) = Call::open(request)?;
        let mut store = self.kernel.database.writer().await?;
        let actor = store.lock_access_for(&call).await?;
        let before = store.must_have_role(&request.id).await?;
        if before.id == ADMIN {
            return Err(Error::Forbidden("The role admin cannot be changed".into()).into());
        }
        let changes_grants = !matches!(
            Change::of_list(request.update_mask.as_ref(), "permissions", request.permissions.clone()),
            Change::Keep
        );
        let after = changed(before.clone(), request, call.now);
        let added = after.grants.beyond(&before.grants).into_iter().collect();
        actor.must_hold(&added)?;
        let removed: Grants = before.grants.beyond(&after.grants).into_iter().collect();
        actor.must_administer(&removed)?;

        let way_in = WayIn::of(store.way_in(call.now).await?);
        store.update_role(&after, changes_grants).await?;
        way_in.must_remain(WayIn::of(store.way_in(call.now).await?))?;
        self.kernel.commit(store, call.did("role.updated", &after.id)).await?;
        reply(pb::UpdateRoleResponse { role: Some(message(after)) })
    }

    async fn delete_role(&self, request: Request<pb::DeleteRoleRequest>) -> Reply<pb::DeleteRoleResponse> {
        let (call, request) = Call::open(request)?;
        let mut store = self.kernel.database.writer().await?;
        let actor = store.lock_access_for(&call).await?;
        let doomed = store.must_have_role(&request.id).await?;
        if doomed.is_system {
            return Err(Error::Forbidden("A system role cannot be deleted".into()).into());
        }
        if call.caller.roles.iter().any(|role| role.id == doomed.id) {
            return Err(Error::Forbidden("You have this role yourself".into()).into());
        }
        actor.must_administer(&doomed.grants)?;
        let way_in = WayIn::of(store.way_in(call.now).await?);
        store.delete_role(&doomed.id).await?;
        way_in.must_remain(WayIn::of(store.way_in(call.now).await?))?;
        self.kernel.commit(store, call.did("role.deleted", &doomed.id)).await?;
        reply(pb::DeleteRoleResponse { success: true })
    }

    async fn get_permissions(&self, request: Request<pb::GetPermissionsRequest>) -> Reply<pb::GetPermissionsResponse> {
        Call::open(request)?;
        reply(pb::GetPermissionsResponse { permissions: PERMISSIONS.iter().map(permission).collect() })
    }

    async fn list_permissions(
        &self,
        request: Request<pb::ListPermissionsRequest>,
    ) -> Reply<pb::ListPermissionsResponse> {
        let (_, request) = Call::open(request)?;
        let page = self.kernel.page(&request)?;
        let after = page.after.as_deref().unwrap_or_default();
        let behind = PERMISSIONS.iter().filter(|known| known.id > after);
        let mut found: Vec<_> = behind.take(page.size + 1).map(permission).collect();
        let next_page_token = self.kernel.pages.cut(&request, &page, &mut found);
        reply(pb::ListPermissionsResponse { permissions: found, next_page_token })
    }
}

impl Roles {
    pub(super) fn new(kernel: Kernel) -> Self {
        Self { kernel }
    }
}

impl Reader {
    async fn must_have_role(&mut self, id: &str) -> Result<Role> {
        self.role(id).await?.ok_or_else(|| Error::NotFound(format!("Role not found: {id}")))
    }
}

fn changed(before: Role, request: pb::UpdateRoleRequest, now: Timestamp) -> Role {
    let mask = request.update_mask.as_ref();
    let name = Change::of(mask, "name", request.name);
    let description = Change::of(mask, "description", request.description);
    let grants = Change::of_list(mask, "permissions", request.permissions).map(|texts| Grants::parse(&texts));
    Role {
        name: name.or(before.name),
        description: description.or_option(before.description),
        grants: grants.or(before.grants),
        updated_at: now,
        ..before
    }
}

fn message(role: Role) -> pb::Role {
    pb::Role {
        is_assignable: role.id != domain::ANONYMOUS,
        id: role.id,
        name: role.name,
        description: role.description,
        permissions: role.grants.names(),
        is_system: role.is_system,
        created_at: Some(role.created_at.message()),
        updated_at: Some(role.updated_at.message()),
    }
}

fn permission(known: &crate::contract::Permission) -> pb::Permission {
    pb::Permission { id: known.id.to_owned(), description: known.description.to_owned() }
}
