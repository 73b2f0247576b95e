//! Every statement about the catalog.

use super::domain::{
    Contact, ContactId, Group, GroupChanges, GroupId, System, SystemChanges, SystemId, View, ViewChanges, ViewId,
};
use crate::contract::Page;
use crate::database::search::{containing, folded};
use crate::database::{Reader, Timestamp, Writer, sql};
use crate::error::Result;
use uuid::Uuid;

/// The id behind which a page starts: ids sort by creation, so the order is the order of creation.
fn after(page: &Page) -> Uuid {
    page.after.as_deref().and_then(|id| Uuid::try_parse(id).ok()).unwrap_or(Uuid::nil())
}

impl Reader {
    /// Oldest first.
    pub(super) async fn systems(
        &mut self,
        page: &Page,
        name_contains: Option<&str>,
        owner: Option<&str>,
        group: Option<GroupId>,
    ) -> Result<Vec<System>> {
        // A statement for each: SQLite plans before it knows whether there is an owner to look for.
        if let Some(owner) = owner {
            return sql!(
                self,
                fetch_all as System,
                "select id, name, description, owner, metadata, created_at, updated_at from catalog_system
                 where owner = $1 and id > $2 and ($3 is null or name_folded like coalesce($3, '') escape '!')
                   and ($4 is null or id in (select system_id from catalog_group_member where group_id = $4))
                 order by id limit $5",
                owner,
                after(page),
                name_contains.map(containing),
                group,
                page.limit()
            );
        }
        sql!(
            self,
            fetch_all as System,
            "select id, name, description, owner, metadata, created_at, updated_at from catalog_system
             where id > $1 and ($2 is null or name_folded like coalesce($2, '') escape '!')
               and ($3 is null or id in (select system_id from catalog_group_member where group_id = $3))
             order by id limit $4",
            after(page),
            name_contains.map(containing),
            group,
            page.limit()
        )
    }

    pub(super) async fn system(&mut self, id: SystemId) -> Result<Option<System>> {
        sql!(
            self,
            fetch_optional as System,
            "select id, name, description, owner, metadata, created_at, updated_at from catalog_system where id = $1",
            id
        )
    }

    /// Oldest first.
    pub(super) async fn groups(
        &mut self,
        page: &Page,
        name_contains: Option<&str>,
        system: Option<SystemId>,
    ) -> Result<Vec<Group>> {
        sql!(
            self,
            fetch_all as Group,
            "select id, name, metadata, created_at, updated_at from catalog_group
             where id > $1 and ($2 is null or name_folded like coalesce($2, '') escape '!')
               and ($3 is null or id in (select group_id from catalog_group_member where system_id = $3))
             order by id limit $4",
            after(page),
            name_contains.map(containing),
            system,
            page.limit()
        )
    }

    pub(super) async fn group(&mut self, id: GroupId) -> Result<Option<Group>> {
        sql!(
            self,
            fetch_optional as Group,
            "select id, name, metadata, created_at, updated_at from catalog_group where id = $1",
            id
        )
    }

    /// The members of these groups, oldest system first.
    pub(super) async fn memberships(&mut self, groups: &[Group], limit: usize) -> Result<Vec<(GroupId, SystemId)>> {
        let ids: Vec<_> = groups.iter().map(|group| group.id.0.simple().to_string()).collect();
        sql!(
            self,
            fetch_all as (GroupId, SystemId),
            {
                sqlite: "select group_id, system_id from catalog_group_member
                         where group_id in (select unhex(value) from json_each($1))
                         order by group_id, system_id limit $2",
                postgres: "select group_id, system_id from catalog_group_member
                           where group_id in (select value::uuid from json_array_elements_text(cast($1 as json)))
                           order by group_id, system_id limit $2",
            },
            serde_json::Value::from(ids).to_string(),
            i64::try_from(limit).unwrap_or(i64::MAX)
        )
    }

    pub(super) async fn count_members(&mut self, group: GroupId) -> Result<i64> {
        let (count,) =
            sql!(self, fetch_one as (i64,), "select count(*) from catalog_group_member where group_id = $1", group)?;
        Ok(count)
    }

    /// Oldest first.
    pub(super) async fn views(&mut self, page: &Page, name_contains: Option<&str>) -> Result<Vec<View>> {
        sql!(
            self,
            fetch_all as View,
            "select id, name, description, configuration, created_at, updated_at from catalog_view
             where id > $1 and ($2 is null or name_folded like coalesce($2, '') escape '!')
             order by id limit $3",
            after(page),
            name_contains.map(containing),
            page.limit()
        )
    }

    pub(super) async fn view(&mut self, id: ViewId) -> Result<Option<View>> {
        sql!(
            self,
            fetch_optional as View,
            "select id, name, description, configuration, created_at, updated_at from catalog_view where id = $1",
            id
        )
    }

    /// Oldest first.
    pub(super) async fn contacts(&mut self, system: SystemId, page: &Page) -> Result<Vec<Contact>> {
        sql!(
            self,
            fetch_all as Contact,
            "select id, system_id, kind, user_id, email, label, created_at from catalog_contact
             where system_id = $1 and id > $2 order by id limit $3",
            system,
            after(page),
            page.limit()
        )
    }

    pub(super) async fn contact(&mut self, id: ContactId) -> Result<Option<Contact>> {
        sql!(
            self,
            fetch_optional as Contact,
            "select id, system_id, kind, user_id, email, label, created_at from catalog_contact where id = $1",
            id
        )
    }

    pub(super) async fn count_contacts(&mut self, system: SystemId) -> Result<i64> {
        let (count,) =
            sql!(self, fetch_one as (i64,), "select count(*) from catalog_contact where system_id = $1", system)?;
        Ok(count)
    }
}

impl Writer {
    /// Those of these systems that exist, and nobody deletes them until the end of the transaction.
    pub(super) async fn known_systems(&mut self, ids: &[SystemId]) -> Result<Vec<(SystemId,)>> {
        let ids: Vec<_> = ids.iter().map(|id| id.0.simple().to_string()).collect();
        sql!(
            self,
            fetch_all as (SystemId,),
            {
                sqlite: "select id from catalog_system where id in (select unhex(value) from json_each($1))",
                postgres: "select id from catalog_system
                           where id in (select value::uuid from json_array_elements_text(cast($1 as json)))
                           order by id for key share",
            },
            serde_json::Value::from(ids).to_string()
        )
    }

    pub(super) async fn insert_system(&mut self, new: &System) -> Result<u64> {
        sql!(
            self,
            execute,
            "insert into catalog_system
                 (id, name, name_folded, description, owner, metadata, created_at, updated_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
            new.id,
            &new.name,
            folded(&new.name),
            &new.description,
            &new.owner,
            &new.metadata,
            new.created_at,
            new.updated_at
        )
    }

    /// Changes what is to change in one statement, so that two updates at once both count.
    pub(super) async fn update_system(
        &mut self,
        id: SystemId,
        changes: SystemChanges,
        now: Timestamp,
    ) -> Result<Option<System>> {
        let (description_changes, description) = changes.description.binds();
        let (owner_changes, owner) = changes.owner.binds();
        let (metadata_changes, metadata) = changes.metadata.binds();
        sql!(
            self,
            fetch_optional as System,
            "update catalog_system set
                 name = coalesce($2, name), name_folded = coalesce($3, name_folded),
                 description = case when $4 then $5 else description end,
                 owner = case when $6 then $7 else owner end,
                 metadata = case when $8 then $9 else metadata end,
                 updated_at = $10
             where id = $1
             returning id, name, description, owner, metadata, created_at, updated_at",
            id,
            &changes.name,
            changes.name.as_deref().map(folded),
            description_changes,
            description,
            owner_changes,
            owner,
            metadata_changes,
            metadata,
            now
        )
    }

    /// Memberships and contacts go with it.
    pub(super) async fn delete_system(&mut self, id: SystemId) -> Result<u64> {
        sql!(self, execute, "delete from catalog_system where id = $1", id)
    }

    pub(super) async fn insert_group(&mut self, new: &Group) -> Result<u64> {
        sql!(
            self,
            execute,
            "insert into catalog_group (id, name, name_folded, metadata, created_at, updated_at)
             values ($1, $2, $3, $4, $5, $6)",
            new.id,
            &new.name,
            folded(&new.name),
            &new.metadata,
            new.created_at,
            new.updated_at
        )
    }

    pub(super) async fn update_group(
        &mut self,
        id: GroupId,
        changes: GroupChanges,
        now: Timestamp,
    ) -> Result<Option<Group>> {
        let (metadata_changes, metadata) = changes.metadata.binds();
        sql!(
            self,
            fetch_optional as Group,
            "update catalog_group set
                 name = coalesce($2, name), name_folded = coalesce($3, name_folded),
                 metadata = case when $4 then $5 else metadata end,
                 updated_at = $6
             where id = $1
             returning id, name, metadata, created_at, updated_at",
            id,
            &changes.name,
            changes.name.as_deref().map(folded),
            metadata_changes,
            metadata,
            now
        )
    }

    /// Memberships go with it.
    pub(super) async fn delete_group(&mut self, id: GroupId) -> Result<u64> {
        sql!(self, execute, "delete from catalog_group where id = $1", id)
    }

    /// 0 if it is a member already.
    pub(super) async fn insert_member(&mut self, group: GroupId, system: SystemId) -> Result<u64> {
        sql!(
            self,
            execute,
            "insert into catalog_group_member (group_id, system_id) values ($1, $2) on conflict do nothing",
            group,
            system
        )
    }

    /// 0 if it is no member.
    pub(super) async fn delete_member(&mut self, group: GroupId, system: SystemId) -> Result<u64> {
        sql!(self, execute, "delete from catalog_group_member where group_id = $1 and system_id = $2", group, system)
    }

    pub(super) async fn insert_view(&mut self, new: &View) -> Result<u64> {
        sql!(
            self,
            execute,
            "insert into catalog_view (id, name, name_folded, description, configuration, created_at, updated_at)
             values ($1, $2, $3, $4, $5, $6, $7)",
            new.id,
            &new.name,
            folded(&new.name),
            &new.description,
            &new.configuration,
            new.created_at,
            new.updated_at
        )
    }

    pub(super) async fn update_view(
        &mut self,
        id: ViewId,
        changes: ViewChanges,
        now: Timestamp,
    ) -> Result<Option<View>> {
        let (description_changes, description) = changes.description.binds();
        let (configuration_changes, configuration) = changes.configuration.binds();
        sql!(
            self,
            fetch_optional as View,
            "update catalog_view set
                 name = coalesce($2, name), name_folded = coalesce($3, name_folded),
                 description = case when $4 then $5 else description end,
                 configuration = case when $6 then $7 else configuration end,
                 updated_at = $8
             where id = $1
             returning id, name, description, configuration, created_at, updated_at",
            id,
            &changes.name,
            changes.name.as_deref().map(folded),
            description_changes,
            description,
            configuration_changes,
            configuration,
            now
        )
    }

    pub(super) async fn delete_view(&mut self, id: ViewId) -> Result<u64> {
        sql!(self, execute, "delete from catalog_view where id = $1", id)
    }

    pub(super) async fn insert_contact(&mut self, new: &Contact) -> Result<u64> {
        sql!(
            self,
            execute,
            "insert into catalog_contact (id, system_id, kind, user_id, email, label, created_at)
             values ($1, $2, $3, $4, $5, $6, $7)",
            new.id,
            new.system_id,
            new.kind,
            &new.user_id,
            &new.email,
            &new.label,
            new.created_at
        )
    }

    pub(super) async fn delete_contact(&mut self, id: ContactId) -> Result<u64> {
        sql!(self, execute, "delete from catalog_contact where id = $1", id)
    }
}
