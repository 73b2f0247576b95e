//! The procedures of the catalog: `CatalogService`.

use super::domain::{self, Contact, ContactId, ContactKind, Group, GroupId, System, SystemId, View, ViewId};
use super::message;
use crate::access::Call;
use crate::contract::Page;
use crate::contract::issue::Issues;
use crate::database::{Reader, Writer};
use crate::error::{Error, Reply, Result, reply};
use crate::json::encode;
use crate::plugin::Kernel;
use crate::proto::checkmate::catalog::v1::{self as pb, catalog_service_server::CatalogService};
use std::collections::HashSet;
use tonic::Request;

/// The service.
pub(super) struct Catalog {
    kernel: Kernel,
}

#[tonic::async_trait]
impl CatalogService for Catalog {
    async fn get_entities(&self, request: Request<pb::GetEntitiesRequest>) -> Reply<pb::GetEntitiesResponse> {
        Call::open(request)?;
        let page = Page::all();
        let mut store = self.kernel.database.reader().await?;
        let systems = page.whole(store.systems(&page, None, None, None).await?, "listSystems")?;
        let groups = page.whole(store.groups(&page, None, None).await?, "listGroups")?;
        let groups = store.with_members(groups).await?;
        reply(pb::GetEntitiesResponse { systems: messages(systems), groups })
    }

    async fn get_systems(&self, request: Request<pb::GetSystemsRequest>) -> Reply<pb::GetSystemsResponse> {
        Call::open(request)?;
        let page = Page::all();
        let found = self.kernel.database.reader().await?.systems(&page, None, None, None).await?;
        reply(pb::GetSystemsResponse { systems: messages(page.whole(found, "listSystems")?) })
    }

    async fn list_systems(&self, request: Request<pb::ListSystemsRequest>) -> Reply<pb::ListSystemsResponse> {
        let (_, request) = Call::open(request)?;
        let page = self.kernel.page(&request)?;
        let group = request.group_id.as_deref().map(GroupId::parse).transpose()?;
        let mut store = self.kernel.database.reader().await?;
        let (name, owner) = (request.name_contains.as_deref(), request.owner.as_deref());
        let mut found = store.systems(&page, name, owner, group).await?;
        let next_page_token = self.kernel.pages.cut(&request, &page, &mut found);
        reply(pb::ListSystemsResponse { systems: messages(found), next_page_token })
    }

    async fn get_system(&self, request: Request<pb::GetSystemRequest>) -> Reply<pb::GetSystemResponse> {
        let (_, request) = Call::open(request)?;
        let found = self.kernel.database.reader().await?.must_have_system(&request.system_id).await?;
        reply(pb::GetSystemResponse { system: Some(found.into()) })
    }

    async fn create_system(&self, request: Request<pb::CreateSystemRequest>) -> Reply<pb::CreateSystemResponse> {
        let (call, request) = Call::open(request)?;
        let new = System {
            id: self.kernel.ids.next(),
            name: request.name,
            description: request.description,
            owner: request.owner,
            metadata: Some(message::metadata_text(request.metadata)),
            created_at: call.now,
            updated_at: call.now,
        };
        let mut store = self.kernel.database.writer().await?;
        store.insert_system(&new).await?;
        self.kernel.commit(store, call.did("system.created", new.id)).await?;
        reply(pb::CreateSystemResponse { system: Some(new.into()) })
    }

    async fn update_system(&self, request: Request<pb::UpdateSystemRequest>) -> Reply<pb::UpdateSystemResponse> {
        let (call, request) = Call::open(request)?;
        let id = SystemId::parse(&request.id)?;
        let mut store = self.kernel.database.writer().await?;
        let changed = store.update_system(id, request.data.unwrap_or_default().into(), call.now).await?;
        let changed = changed.ok_or_else(|| missing("System", id))?;
        self.kernel.commit(store, call.did("system.updated", id)).await?;
        reply(pb::UpdateSystemResponse { system: Some(changed.into()) })
    }

    async fn delete_system(&self, request: Request<pb::DeleteSystemRequest>) -> Reply<pb::DeleteSystemResponse> {
        let (call, request) = Call::open(request)?;
        let id = SystemId::parse(&request.id)?;
        let mut store = self.kernel.database.writer().await?;
        let done = store.release_incidents_of_system(&self.kernel, &call, id).await?;
        must_have_deleted(store.delete_system(id).await?, "System", id)?;
        for did in done {
            store.also(&did).await?;
        }
        self.kernel.commit(store, call.did("system.deleted", id)).await?;
        reply(pb::DeleteSystemResponse { success: true })
    }

    async fn get_groups(&self, request: Request<pb::GetGroupsRequest>) -> Reply<pb::GetGroupsResponse> {
        Call::open(request)?;
        let page = Page::all();
        let mut store = self.kernel.database.reader().await?;
        let found = page.whole(store.groups(&page, None, None).await?, "listGroups")?;
        reply(pb::GetGroupsResponse { groups: store.with_members(found).await? })
    }

    async fn list_groups(&self, request: Request<pb::ListGroupsRequest>) -> Reply<pb::ListGroupsResponse> {
        let (_, request) = Call::open(request)?;
        let page = self.kernel.page(&request)?;
        let system = request.system_id.as_deref().map(SystemId::parse).transpose()?;
        let mut store = self.kernel.database.reader().await?;
        let mut found = store.groups(&page, request.name_contains.as_deref(), system).await?;
        let next_page_token = self.kernel.pages.cut(&request, &page, &mut found);
        reply(pb::ListGroupsResponse { groups: store.with_members(found).await?, next_page_token })
    }

    async fn get_group(&self, request: Request<pb::GetGroupRequest>) -> Reply<pb::GetGroupResponse> {
        let (_, request) = Call::open(request)?;
        let mut store = self.kernel.database.reader().await?;
        let found = store.must_have_group(&request.group_id).await?;
        reply(pb::GetGroupResponse { group: Some(store.with_its_members(found).await?) })
    }

    async fn create_group(&self, request: Request<pb::CreateGroupRequest>) -> Reply<pb::CreateGroupResponse> {
        let (call, request) = Call::open(request)?;
        let new = Group {
            id: self.kernel.ids.next(),
            name: request.name,
            metadata: Some(message::metadata_text(request.metadata)),
            created_at: call.now,
            updated_at: call.now,
        };
        let mut store = self.kernel.database.writer().await?;
        store.insert_group(&new).await?;
        self.kernel.commit(store, call.did("group.created", new.id)).await?;
        reply(pb::CreateGroupResponse { group: Some(message::group(new, &[])) })
    }

    async fn update_group(&self, request: Request<pb::UpdateGroupRequest>) -> Reply<pb::UpdateGroupResponse> {
        let (call, request) = Call::open(request)?;
        let id = GroupId::parse(&request.id)?;
        let mut store = self.kernel.database.writer().await?;
        let changed = store.update_group(id, request.data.unwrap_or_default().into(), call.now).await?;
        let changed = store.with_its_members(changed.ok_or_else(|| missing("Group", id))?).await?;
        self.kernel.commit(store, call.did("group.updated", id)).await?;
        reply(pb::UpdateGroupResponse { group: Some(changed) })
    }

    async fn delete_group(&self, request: Request<pb::DeleteGroupRequest>) -> Reply<pb::DeleteGroupResponse> {
        let (call, request) = Call::open(request)?;
        let id = GroupId::parse(&request.id)?;
        let mut store = self.kernel.database.writer().await?;
        must_have_deleted(store.delete_group(id).await?, "Group", id)?;
        self.kernel.commit(store, call.did("group.deleted", id)).await?;
        reply(pb::DeleteGroupResponse { success: true })
    }

    async fn add_system_to_group(
        &self,
        request: Request<pb::AddSystemToGroupRequest>,
    ) -> Reply<pb::AddSystemToGroupResponse> {
        let (call, request) = Call::open(request)?;
        let mut store = self.kernel.database.writer().await?;
        let group = store.must_have_group(&request.group_id).await?.id;
        let system = store.must_have_system(&request.system_id).await?.id;
        if store.insert_member(group, system).await? > 0 {
            domain::must_have_room("The group", store.count_members(group).await? - 1, domain::GROUP_MEMBERS_MAX)?;
            self.kernel.commit(store, call.did("group.member_added", group)).await?;
        }
        reply(pb::AddSystemToGroupResponse { success: true })
    }

    async fn remove_system_from_group(
        &self,
        request: Request<pb::RemoveSystemFromGroupRequest>,
    ) -> Reply<pb::RemoveSystemFromGroupResponse> {
        let (call, request) = Call::open(request)?;
        let mut store = self.kernel.database.writer().await?;
        let group = store.must_have_group(&request.group_id).await?.id;
        let system = store.must_have_system(&request.system_id).await?.id;
        if store.delete_member(group, system).await? > 0 {
            self.kernel.commit(store, call.did("group.member_removed", group)).await?;
        }
        reply(pb::RemoveSystemFromGroupResponse { success: true })
    }

    async fn get_views(&self, request: Request<pb::GetViewsRequest>) -> Reply<pb::GetViewsResponse> {
        Call::open(request)?;
        let page = Page::all();
        let found = self.kernel.database.reader().await?.views(&page, None).await?;
        reply(pb::GetViewsResponse { views: messages(page.whole(found, "listViews")?) })
    }

    async fn list_views(&self, request: Request<pb::ListViewsRequest>) -> Reply<pb::ListViewsResponse> {
        let (_, request) = Call::open(request)?;
        let page = self.kernel.page(&request)?;
        let mut found = self.kernel.database.reader().await?.views(&page, request.name_contains.as_deref()).await?;
        let next_page_token = self.kernel.pages.cut(&request, &page, &mut found);
        reply(pb::ListViewsResponse { views: messages(found), next_page_token })
    }

    async fn get_view(&self, request: Request<pb::GetViewRequest>) -> Reply<pb::GetViewResponse> {
        let (_, request) = Call::open(request)?;
        let id = ViewId::parse(&request.view_id)?;
        let found = self.kernel.database.reader().await?.view(id).await?;
        reply(pb::GetViewResponse { view: Some(found.ok_or_else(|| missing("View", id))?.into()) })
    }

    async fn create_view(&self, request: Request<pb::CreateViewRequest>) -> Reply<pb::CreateViewResponse> {
        let (call, request) = Call::open(request)?;
        let new = View {
            id: self.kernel.ids.next(),
            name: request.name,
            description: request.description,
            configuration: request.configuration.as_ref().map(encode::any_text),
            created_at: call.now,
            updated_at: call.now,
        };
        let mut store = self.kernel.database.writer().await?;
        store.insert_view(&new).await?;
        self.kernel.commit(store, call.did("view.created", new.id)).await?;
        reply(pb::CreateViewResponse { view: Some(new.into()) })
    }

    async fn update_view(&self, request: Request<pb::UpdateViewRequest>) -> Reply<pb::UpdateViewResponse> {
        let (call, request) = Call::open(request)?;
        let id = ViewId::parse(&request.id)?;
        let mut store = self.kernel.database.writer().await?;
        let changed = store.update_view(id, request.data.unwrap_or_default().into(), call.now).await?;
        let changed = changed.ok_or_else(|| missing("View", id))?;
        self.kernel.commit(store, call.did("view.updated", id)).await?;
        reply(pb::UpdateViewResponse { view: Some(changed.into()) })
    }

    async fn delete_view(&self, request: Request<pb::DeleteViewRequest>) -> Reply<pb::DeleteViewResponse> {
        let (call, request) = Call::open(request)?;
        let id = ViewId::parse(&request.id)?;
        let mut store = self.kernel.database.writer().await?;
        must_have_deleted(store.delete_view(id).await?, "View", id)?;
        self.kernel.commit(store, call.did("view.deleted", id)).await?;
        reply(pb::DeleteViewResponse { success: true })
    }

    async fn get_system_contacts(
        &self,
        request: Request<pb::GetSystemContactsRequest>,
    ) -> Reply<pb::GetSystemContactsResponse> {
        let (_, request) = Call::open(request)?;
        let page = Page::all();
        let mut store = self.kernel.database.reader().await?;
        let system = store.must_have_system(&request.system_id).await?.id;
        let found = page.whole(store.contacts(system, &page).await?, "listSystemContacts")?;
        reply(pb::GetSystemContactsResponse { contacts: messages(found) })
    }

    async fn list_system_contacts(
        &self,
        request: Request<pb::ListSystemContactsRequest>,
    ) -> Reply<pb::ListSystemContactsResponse> {
        let (_, request) = Call::open(request)?;
        let page = self.kernel.page(&request)?;
        let mut store = self.kernel.database.reader().await?;
        let system = store.must_have_system(&request.system_id).await?.id;
        let mut found = store.contacts(system, &page).await?;
        let next_page_token = self.kernel.pages.cut(&request, &page, &mut found);
        reply(pb::ListSystemContactsResponse { contacts: messages(found), next_page_token })
    }

    async fn get_system_contact(
        &self,
        request: Request<pb::GetSystemContactRequest>,
    ) -> Reply<pb::GetSystemContactResponse> {
        let (_, request) = Call::open(request)?;
        let id = ContactId::parse(&request.contact_id)?;
        let found = self.kernel.database.reader().await?.contact(id).await?;
        reply(pb::GetSystemContactResponse { contact: Some(found.ok_or_else(|| missing("Contact", id))?.into()) })
    }

    async fn add_system_contact(
        &self,
        request: Request<pb::AddSystemContactRequest>,
    ) -> Reply<pb::AddSystemContactResponse> {
        let (call, request) = Call::open(request)?;
        let kind = match request.r#type() {
            pb::ContactType::User => ContactKind::User,
            pb::ContactType::Mailbox => ContactKind::Mailbox,
            pb::ContactType::Unspecified => return Err(Error::bug("a contact type was not validated").into()),
        };
        let mut store = self.kernel.database.writer().await?;
        let system = store.must_have_system(&request.system_id).await?.id;
        domain::must_have_room("The system", store.count_contacts(system).await?, domain::SYSTEM_CONTACTS_MAX)?;
        let new = Contact {
            id: self.kernel.ids.next(),
            system_id: system,
            kind,
            user_id: request.user_id,
            email: request.email,
            label: request.label,
            created_at: call.now,
        };
        store.insert_contact(&new).await?;
        self.kernel.commit(store, call.did("contact.added", new.id)).await?;
        reply(pb::AddSystemContactResponse { contact: Some(new.into()) })
    }

    async fn remove_system_contact(
        &self,
        request: Request<pb::RemoveSystemContactRequest>,
    ) -> Reply<pb::RemoveSystemContactResponse> {
        let (call, request) = Call::open(request)?;
        let id = ContactId::parse(&request.id)?;
        let mut store = self.kernel.database.writer().await?;
        must_have_deleted(store.delete_contact(id).await?, "Contact", id)?;
        self.kernel.commit(store, call.did("contact.removed", id)).await?;
        reply(pb::RemoveSystemContactResponse { success: true })
    }

    async fn notify_system_subscribers(
        &self,
        request: Request<pb::NotifySystemSubscribersRequest>,
    ) -> Reply<pb::NotifySystemSubscribersResponse> {
        let (_, request) = Call::open(request)?;
        self.kernel.database.reader().await?.must_have_system(&request.system_id).await?;
        Err(Error::Unimplemented("No plugin of this server delivers notifications".into()).into())
    }
}

impl Catalog {
    pub(super) fn new(kernel: Kernel) -> Self {
        Self { kernel }
    }
}

impl Writer {
    /// These systems, in the order written, to be kept until the end of the transaction; refuses, naming those that do not
    /// exist.
    pub(in crate::plugin) async fn must_know_systems(&mut self, ids: &[String]) -> Result<Vec<SystemId>> {
        let wanted = domain::parse_systems(ids)?;
        let known: HashSet<_> = self.known_systems(&wanted).await?.into_iter().map(|(id,)| id).collect();
        let mut issues = Issues::default();
        for (index, id) in wanted.iter().enumerate().filter(|(_, id)| !known.contains(id)) {
            issues.add_item("systemIds", index, format!("System not found: {id}"));
        }
        if issues.is_empty() { Ok(wanted) } else { Err(Error::Invalid(issues)) }
    }
}

impl Reader {
    pub(in crate::plugin) async fn must_have_system(&mut self, id: &str) -> Result<System> {
        let id = SystemId::parse(id)?;
        self.system(id).await?.ok_or_else(|| missing("System", id))
    }

    /// The systems of a group, oldest first.
    pub(in crate::plugin) async fn must_have_members(&mut self, group: &str) -> Result<Vec<SystemId>> {
        let group = self.must_have_group(group).await?;
        let most = usize::try_from(domain::GROUP_MEMBERS_MAX).unwrap_or(usize::MAX);
        Ok(self.memberships(&[group], most).await?.into_iter().map(|(_, system)| system).collect())
    }

    async fn must_have_group(&mut self, id: &str) -> Result<Group> {
        let id = GroupId::parse(id)?;
        self.group(id).await?.ok_or_else(|| missing("Group", id))
    }

    async fn with_members(&mut self, groups: Vec<Group>) -> Result<Vec<pb::Group>> {
        let memberships = self.memberships(&groups, domain::MEMBERSHIPS_MAX + 1).await?;
        if memberships.len() > domain::MEMBERSHIPS_MAX {
            let max = domain::MEMBERSHIPS_MAX;
            return Err(Error::Refused(format!("These groups have more than {max} members; ask listGroups for less")));
        }
        Ok(message::groups(groups, memberships))
    }

    async fn with_its_members(&mut self, group: Group) -> Result<pb::Group> {
        let memberships = self.memberships(std::slice::from_ref(&group), domain::MEMBERSHIPS_MAX).await?;
        let members: Vec<_> = memberships.into_iter().map(|(_, system)| system).collect();
        Ok(message::group(group, &members))
    }
}

fn messages<T, M: From<T>>(found: Vec<T>) -> Vec<M> {
    found.into_iter().map(M::from).collect()
}

fn missing(what: &str, id: impl std::fmt::Display) -> Error {
    Error::NotFound(format!("{what} not found: {id}"))
}

fn must_have_deleted(rows: u64, what: &str, id: impl std::fmt::Display) -> Result<()> {
    if rows == 0 { Err(missing(what, id)) } else { Ok(()) }
}
