//! Every statement of the access check.

use super::ApplicationId;
use super::once::Place;
use crate::database::{Reader, Timestamp, Writer, sql};
use crate::error::Result;

/// An application as the access check needs it.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct ApplicationRow {
    pub(super) id: ApplicationId,
    pub(super) name: String,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) last_used_at: Option<Timestamp>,
    pub(super) tag: Option<String>,
    pub(super) tag_key: Option<String>,
    /// Role ids, joined with commas.
    pub(super) roles: Option<String>,
}

/// A role as the access check needs it.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct RoleRow {
    pub(super) id: String,
    pub(super) permissions: String,
}

impl Reader {
    /// Every application. Unbounded on purpose: the access check holds them all.
    pub(super) async fn known_applications(&mut self) -> Result<Vec<ApplicationRow>> {
        sql!(
            self,
            fetch_all as ApplicationRow,
            "select id, name, expires_at, last_used_at, tag, tag_key,
                    (select string_agg(role_id, ',') from auth_application_role where application_id = id) as roles
             from auth_application"
        )
    }

    /// These applications, by their ids as a JSON array of hex digits.
    pub(super) async fn known_applications_of(&mut self, ids: &str) -> Result<Vec<ApplicationRow>> {
        sql!(
            self,
            fetch_all as ApplicationRow,
            {
                sqlite: "select id, name, expires_at, last_used_at, tag, tag_key,
                                (select string_agg(role_id, ',') from auth_application_role
                                 where application_id = id) as roles
                         from auth_application where id in (select unhex(value) from json_each($1))",
                postgres: "select id, name, expires_at, last_used_at, tag, tag_key,
                                  (select string_agg(role_id, ',') from auth_application_role
                                   where application_id = id) as roles
                           from auth_application
                           where id in (select value::uuid from json_array_elements_text(cast($1 as json)))",
            },
            ids
        )
    }

    /// Every role.
    pub(super) async fn known_roles(&mut self) -> Result<Vec<RoleRow>> {
        sql!(self, fetch_all as RoleRow, "select id, permissions from auth_role")
    }

    /// The hash of an application's secret.
    pub(super) async fn secret_hash(&mut self, id: ApplicationId) -> Result<Option<(String,)>> {
        sql!(self, fetch_optional as (String,), "select secret_hash from auth_application where id = $1", id)
    }
}

impl Reader {
    /// Whether any answer has expired.
    pub(super) async fn has_expired_answers(&mut self, expired: Timestamp) -> Result<bool> {
        let found = sql!(
            self,
            fetch_optional as (i64,),
            "select place from access_answer where made_at < $1 limit 1",
            expired
        )?;
        Ok(found.is_some())
    }

    /// The fingerprint of what was asked and the sealed answer, if it was given since.
    pub(super) async fn kept_answer(&mut self, place: &Place, since: Timestamp) -> Result<Option<(String, String)>> {
        sql!(
            self,
            fetch_optional as (String, String),
            "select fingerprint, answer from access_answer
             where application_id = $1 and request_key = $2 and place = $3 and made_at >= $4",
            place.application,
            &place.key,
            place.index,
            since
        )
    }
}

impl Writer {
    /// Forgets answers that have expired: how many, at most some at a time, so that nobody waits long for the writer.
    pub(super) async fn forget_answers(&mut self, expired: Timestamp) -> Result<u64> {
        const FORGOTTEN_MAX: i64 = 1_000;
        sql!(
            self,
            execute,
            "delete from access_answer where (application_id, request_key, place) in
             (select application_id, request_key, place from access_answer where made_at < $1 order by made_at limit $2)",
            expired,
            FORGOTTEN_MAX
        )
    }

    /// Keeps an answer, unless there is one at its place that has not expired.
    pub(super) async fn keep_answer(
        &mut self,
        place: &Place,
        fingerprint: &str,
        answer: &str,
        now: Timestamp,
        expired: Timestamp,
    ) -> Result<u64> {
        sql!(
            self,
            execute,
            "insert into access_answer (application_id, request_key, place, fingerprint, answer, made_at)
             values ($1, $2, $3, $4, $5, $6)
             on conflict (application_id, request_key, place) do update
             set fingerprint = excluded.fingerprint, answer = excluded.answer, made_at = excluded.made_at
             where access_answer.made_at < $7",
            place.application,
            &place.key,
            place.index,
            fingerprint,
            answer,
            now,
            expired
        )
    }

    /// Keeps the tag of a secret that was verified the slow way, unless the secret has been replaced meanwhile.
    pub(super) async fn set_tag(&mut self, id: ApplicationId, hash: &str, tag: &str, tag_key: &str) -> Result<u64> {
        sql!(
            self,
            execute,
            "update auth_application set tag = $3, tag_key = $4 where id = $1 and secret_hash = $2",
            id,
            hash,
            tag,
            tag_key
        )
    }

    /// Notes when keys were used; a later time that is known already stays.
    pub(super) async fn note_uses(&mut self, uses: &[(ApplicationId, Timestamp)]) -> Result<u64> {
        let rows: Vec<_> =
            uses.iter().map(|(id, at)| serde_json::json!({"id": id.0.simple().to_string(), "at": at.0})).collect();
        sql!(
            self,
            execute,
            {
                sqlite: "update auth_application set last_used_at = used.at
                         from (select unhex(value ->> 'id') as id, value ->> 'at' as at from json_each($1)) as used
                         where auth_application.id = used.id and coalesce(last_used_at, 0) < used.at",
                postgres: "update auth_application set last_used_at = used.at
                           from json_to_recordset(cast($1 as json)) as used(id uuid, at bigint)
                           where auth_application.id = used.id and coalesce(last_used_at, 0) < used.at",
            },
            serde_json::Value::from(rows).to_string()
        )
    }
}
