//! Every statement about applications and roles.

use super::domain::{Application, Role};
use crate::access::{ApplicationId, Grants};
use crate::contract::Page;
use crate::database::search::{containing, folded};
use crate::database::{Reader, Timestamp, Writer, sql};
use crate::error::Result;
use uuid::Uuid;

#[derive(sqlx::FromRow)]
struct ApplicationRow {
    id: ApplicationId,
    name: String,
    description: Option<String>,
    created_by_id: String,
    created_at: Timestamp,
    updated_at: Timestamp,
    last_used_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    roles: Option<String>,
}

impl From<ApplicationRow> for Application {
    fn from(row: ApplicationRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            description: row.description,
            roles: row.roles.iter().flat_map(|roles| roles.split(',')).map(str::to_owned).collect(),
            created_by_id: row.created_by_id,
            created_at: row.created_at,
            updated_at: row.updated_at,
            last_used_at: row.last_used_at,
            expires_at: row.expires_at,
        }
    }
}

#[derive(sqlx::FromRow)]
struct RoleRow {
    id: String,
    name: String,
    description: Option<String>,
    permissions: String,
    is_system: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<RoleRow> for Role {
    fn from(row: RoleRow) -> Self {
        Self {
            grants: Grants::stored(&row.permissions),
            id: row.id,
            name: row.name,
            description: row.description,
            is_system: row.is_system,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// The secret of an application, as it is kept.
pub(super) struct Secret {
    pub(super) hash: String,
    pub(super) tag: String,
    pub(super) tag_key: String,
}

impl Reader {
    /// Oldest first.
    pub(super) async fn applications(
        &mut self,
        page: &Page,
        name_contains: Option<&str>,
        role: Option<&str>,
    ) -> Result<Vec<Application>> {
        let after = page.after.as_deref().and_then(|id| Uuid::try_parse(id).ok()).unwrap_or(Uuid::nil());
        let rows = sql!(
            self,
            fetch_all as ApplicationRow,
            "select id, name, description, created_by_id, created_at, updated_at, last_used_at, expires_at,
                    (select string_agg(role_id, ',' order by role_id) from auth_application_role
                     where application_id = id) as roles
             from auth_application
             where id > $1 and ($2 is null or name_folded like coalesce($2, '') escape '!')
               and ($3 is null or id in (select application_id from auth_application_role where role_id = $3))
             order by id limit $4",
            after,
            name_contains.map(containing),
            role,
            page.limit()
        )?;
        Ok(rows.into_iter().map(Application::from).collect())
    }

    pub(super) async fn application(&mut self, id: ApplicationId) -> Result<Option<Application>> {
        let row = sql!(
            self,
            fetch_optional as ApplicationRow,
            "select id, name, description, created_by_id, created_at, updated_at, last_used_at, expires_at,
                    (select string_agg(role_id, ',' order by role_id) from auth_application_role
                     where application_id = id) as roles
             from auth_application where id = $1",
            id
        )?;
        Ok(row.map(Application::from))
    }

    /// In the order of creation.
    pub(super) async fn roles(&mut self, page: &Page, name_contains: Option<&str>) -> Result<Vec<Role>> {
        let (at, id) = page.after.as_deref().and_then(|after| after.split_once(' ')).unwrap_or(("-1", ""));
        let rows = sql!(
            self,
            fetch_all as RoleRow,
            "select id, name, description, permissions, is_system, created_at, updated_at from auth_role
             where (created_at, id) > ($1, $2) and ($3 is null or name_folded like coalesce($3, '') escape '!')
             order by created_at, id limit $4",
            at.parse::<i64>().unwrap_or(-1),
            id,
            name_contains.map(containing),
            page.limit()
        )?;
        Ok(rows.into_iter().map(Role::from).collect())
    }

    pub(super) async fn role(&mut self, id: &str) -> Result<Option<Role>> {
        let row = sql!(
            self,
            fetch_optional as RoleRow,
            "select id, name, description, permissions, is_system, created_at, updated_at from auth_role where id = $1",
            id
        )?;
        Ok(row.map(Role::from))
    }

    /// Those of these roles that exist.
    pub(super) async fn roles_among(&mut self, ids: &[String]) -> Result<Vec<Role>> {
        let rows = sql!(
            self,
            fetch_all as RoleRow,
            {
                sqlite: "select id, name, description, permissions, is_system, created_at, updated_at from auth_role
                         where id in (select value from json_each($1)) order by id",
                postgres: "select id, name, description, permissions, is_system, created_at, updated_at from auth_role
                           where id in (select value from json_array_elements_text(cast($1 as json))) order by id",
            },
            serde_json::Value::from(ids).to_string()
        )?;
        Ok(rows.into_iter().map(Role::from).collect())
    }

    /// The latest expiry among the applications that hold `*` now; `i64::MAX` is never, `None` that there is none.
    pub(super) async fn way_in(&mut self, now: Timestamp) -> Result<Option<Timestamp>> {
        let (latest,) = sql!(
            self,
            fetch_one as (Option<Timestamp>,),
            "select max(coalesce(expires_at, 9223372036854775807)) from auth_application
             where (expires_at is null or expires_at > $1)
               and id in (select application_id from auth_application_role join auth_role on auth_role.id = role_id
                          where permissions like '%\"*\"%')",
            now
        )?;
        Ok(latest)
    }
}

impl Writer {
    /// From here to the commit nobody else changes who may do what: two changes at once could each leave the other's
    /// way in as the last one.
    pub(super) async fn lock_access(&mut self) -> Result<()> {
        sql!(self, execute, {
            sqlite: "select 1",
            postgres: "select id from auth_role where id = 'admin' for update",
        })?;
        Ok(())
    }

    pub(super) async fn insert_application(&mut self, new: &Application, secret: &Secret) -> Result<u64> {
        sql!(
            self,
            execute,
            "insert into auth_application (id, name, name_folded, description, created_by_id, created_at, updated_at,
                                           last_used_at, expires_at, secret_hash, tag, tag_key)
             values ($1, $2, $3, $4, $5, $6, $7, null, $8, $9, $10, $11)",
            new.id,
            &new.name,
            folded(&new.name),
            &new.description,
            &new.created_by_id,
            new.created_at,
            new.updated_at,
            new.expires_at,
            &secret.hash,
            &secret.tag,
            &secret.tag_key
        )
    }

    pub(super) async fn update_application(&mut self, changed: &Application) -> Result<u64> {
        sql!(
            self,
            execute,
            "update auth_application set name = $2, name_folded = $3, description = $4, expires_at = $5, updated_at = $6
             where id = $1",
            changed.id,
            &changed.name,
            folded(&changed.name),
            &changed.description,
            changed.expires_at,
            changed.updated_at
        )
    }

    pub(super) async fn set_secret(&mut self, id: ApplicationId, secret: &Secret, now: Timestamp) -> Result<u64> {
        sql!(
            self,
            execute,
            "update auth_application set secret_hash = $2, tag = $3, tag_key = $4, updated_at = $5 where id = $1",
            id,
            &secret.hash,
            &secret.tag,
            &secret.tag_key,
            now
        )
    }

    pub(super) async fn delete_application(&mut self, id: ApplicationId) -> Result<u64> {
        sql!(self, execute, "delete from auth_application where id = $1", id)
    }

    /// Replaces the roles of an application.
    pub(super) async fn set_roles(&mut self, id: ApplicationId, roles: &[String]) -> Result<()> {
        sql!(self, execute, "delete from auth_application_role where application_id = $1", id)?;
        sql!(
            self,
            execute,
            {
                sqlite: "insert into auth_application_role (application_id, role_id)
                         select $1, value from json_each($2)",
                postgres: "insert into auth_application_role (application_id, role_id)
                           select $1, value from json_array_elements_text(cast($2 as json))",
            },
            id,
            serde_json::Value::from(roles).to_string()
        )?;
        Ok(())
    }

    pub(super) async fn insert_role(&mut self, new: &Role) -> Result<u64> {
        sql!(
            self,
            execute,
            "insert into auth_role (id, name, name_folded, description, permissions, is_system, created_at, updated_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
            &new.id,
            &new.name,
            folded(&new.name),
            &new.description,
            new.grants.json(),
            new.is_system,
            new.created_at,
            new.updated_at
        )
    }

    /// Writes the permissions only if they are to change: a later release may have stored some that this one cannot read.
    pub(super) async fn update_role(&mut self, changed: &Role, changes_grants: bool) -> Result<u64> {
        sql!(
            self,
            execute,
            "update auth_role set name = $2, name_folded = $3, description = $4, permissions = coalesce($5, permissions),
                 updated_at = $6
             where id = $1",
            &changed.id,
            &changed.name,
            folded(&changed.name),
            &changed.description,
            changes_grants.then(|| changed.grants.json()),
            changed.updated_at
        )
    }

    pub(super) async fn delete_role(&mut self, id: &str) -> Result<u64> {
        sql!(self, execute, "delete from auth_role where id = $1", id)
    }

    /// Whether this is the first start of this installation: true exactly once.
    pub(super) async fn begin_instance(&mut self, now: Timestamp) -> Result<bool> {
        let rows = sql!(
            self,
            execute,
            "insert into instance (id, created_at, bootstrapped_at) values (1, $1, null) on conflict do nothing",
            now
        )?;
        Ok(rows == 1)
    }

    /// Whether nobody can call yet, and nobody ever could: true exactly once.
    pub(super) async fn begin_bootstrap(&mut self, now: Timestamp) -> Result<bool> {
        let rows = sql!(
            self,
            execute,
            "update instance set bootstrapped_at = $1
             where bootstrapped_at is null and not exists (select 1 from auth_application)",
            now
        )?;
        Ok(rows == 1)
    }
}
