//! What is listed: the same systems in the databases, in the baselines' memory, and in what answers are checked against.

use anyhow::Result;
use checkmate::database::Timestamp;
use checkmate::proto::checkmate::catalog::v1 as pb;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, SqliteConnection};
use uuid::Uuid;

/// 2026-01-05T14:52:47Z, in microseconds.
const FIRST_AT: i64 = 1_767_624_767_000_000;

/// What kind of thing an id belongs to; it keeps their ids apart.
const SYSTEM: u64 = 1;
const GROUP: u64 = 2;
const VIEW: u64 = 3;
const CONTACT: u64 = 4;

/// A system as a hand-written handler would have it: typed, and its times written already.
#[derive(Serialize, Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
pub struct System {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    pub owner: Option<String>,
    pub metadata: Metadata,
    pub created_at: String,
    pub updated_at: String,
}

/// Free JSON in the contract; typed in the baseline, which is cheaper.
#[derive(Serialize, Deserialize, Clone)]
pub struct Metadata {
    pub environment: String,
    pub tier: u32,
}

/// The id of a thing: a UUIDv7 that sorts by its place.
fn id(kind: u64, place: usize) -> Uuid {
    let millis = u128::from(u64::try_from(FIRST_AT / 1_000).unwrap_or_default());
    Uuid::from_u128(millis << 80 | 7 << 76 | 2 << 62 | u128::from(kind) << 48 | place as u128)
}

/// The id of the system at a place.
pub fn system_id(place: usize) -> Uuid {
    id(SYSTEM, place)
}

/// The id of the group at a place.
pub fn group_id(place: usize) -> Uuid {
    id(GROUP, place)
}

/// The id of the view at a place.
pub fn view_id(place: usize) -> Uuid {
    id(VIEW, place)
}

/// The id of the contact at a place.
pub fn contact_id(place: usize) -> Uuid {
    id(CONTACT, place)
}

/// The system whose contacts are many.
pub const SYSTEM_OF_MANY: usize = 0;

/// The system with one contact, which is the last one.
pub const SYSTEM_OF_ONE: usize = 1;

fn at(place: usize) -> i64 {
    FIRST_AT + i64::try_from(place).unwrap_or_default() * 1_000
}

/// The first so many systems: some 210 bytes of JSON each.
pub fn systems(count: usize) -> Vec<System> {
    let system = |place| System {
        id: system_id(place).to_string(),
        name: format!("payment gateway {place}"),
        description: Some("Takes payments of every shop".into()),
        owner: Some("team payments".into()),
        metadata: Metadata { environment: "production".into(), tier: 2 },
        created_at: Timestamp(at(place)).to_string(),
        updated_at: Timestamp(at(place)).to_string(),
    };
    (0..count).map(system).collect()
}

/// The same as the gRPC reply.
pub fn message(count: usize) -> pb::GetSystemsResponse {
    let text = |text: &str| prost_types::Value { kind: Some(prost_types::value::Kind::StringValue(text.into())) };
    let number = |number: u32| prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(number.into())) };
    let system = |(place, system): (usize, System)| pb::System {
        id: system.id,
        name: system.name,
        description: system.description,
        owner: system.owner,
        metadata: Some(prost_types::Struct {
            fields: [
                ("environment".to_owned(), text(&system.metadata.environment)),
                ("tier".to_owned(), number(system.metadata.tier)),
            ]
            .into(),
        }),
        created_at: Some(Timestamp(at(place)).message()),
        updated_at: Some(Timestamp(at(place)).message()),
    };
    pb::GetSystemsResponse { systems: systems(count).into_iter().enumerate().map(system).collect() }
}

/// A connection of either kind, to put rows into a database that a server has made.
pub enum Store {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Puts the rows of a JSON array into a table, with one statement for each kind of database.
macro_rules! insert {
    ($store:expr, $rows:expr, $table:literal, $($column:literal $sqlite:literal $postgres:literal),+) => {{
        let rows = Value::from($rows).to_string();
        match $store {
            Store::Sqlite(connection) => {
                let statement = concat!(
                    "insert into ", $table, " (", insert!(@list $($column),+), ") select ",
                    insert!(@list $($sqlite),+), " from json_each($1)"
                );
                sqlx::query(statement).bind(rows).execute(connection).await?;
            }
            Store::Postgres(connection) => {
                let statement = concat!(
                    "insert into ", $table, " (", insert!(@list $($column),+), ") select ",
                    insert!(@list $($column),+), " from json_to_recordset(cast($1 as json)) as given(",
                    insert!(@columns $($column $postgres),+), ")"
                );
                sqlx::query(statement).bind(rows).execute(connection).await?;
            }
        }
    }};
    (@list $first:literal $(, $more:literal)*) => { concat!($first $(, ", ", $more)*) };
    (@columns $first:literal $type:literal $(, $more:literal $types:literal)*) => {
        concat!($first, " ", $type $(, ", ", $more, " ", $types)*)
    };
}

impl Store {
    /// Connects; `schema` is for PostgreSQL.
    pub async fn open(url: &str) -> Result<Self> {
        if url.starts_with("sqlite:") {
            return Ok(Self::Sqlite(SqliteConnection::connect(url).await?));
        }
        Ok(Self::Postgres(PgConnection::connect(url).await?))
    }

    /// Folds everything back into the file.
    pub async fn close(self) -> Result<()> {
        match self {
            Self::Sqlite(connection) => connection.close().await?,
            Self::Postgres(mut connection) => {
                // Without it the planner guesses.
                sqlx::query("analyze").execute(&mut connection).await?;
                connection.close().await?;
            }
        }
        Ok(())
    }

    /// Systems, and as many groups and views, and as many contacts of one system and one of another.
    pub async fn fill(&mut self, count: usize) -> Result<()> {
        self.add_systems(0, count).await?;
        let metadata = r#"{"environment":"production","tier":2}"#;
        let row = |id: Uuid, place: usize, name: String| {
            json!({"id": id.simple().to_string(), "name": name, "name_folded": name, "metadata": metadata,
                   "description": "Takes payments of every shop", "configuration": metadata,
                   "created_at": at(place), "updated_at": at(place)})
        };
        let groups: Vec<_> = (0..count).map(|place| row(group_id(place), place, format!("group {place}"))).collect();
        insert!(self, groups, "catalog_group",
            "id" "unhex(value ->> 'id')" "uuid",
            "name" "value ->> 'name'" "text",
            "name_folded" "value ->> 'name_folded'" "text",
            "metadata" "value ->> 'metadata'" "text",
            "created_at" "value ->> 'created_at'" "bigint",
            "updated_at" "value ->> 'updated_at'" "bigint");
        let views: Vec<_> = (0..count).map(|place| row(view_id(place), place, format!("view {place}"))).collect();
        insert!(self, views, "catalog_view",
            "id" "unhex(value ->> 'id')" "uuid",
            "name" "value ->> 'name'" "text",
            "name_folded" "value ->> 'name_folded'" "text",
            "description" "value ->> 'description'" "text",
            "configuration" "value ->> 'configuration'" "text",
            "created_at" "value ->> 'created_at'" "bigint",
            "updated_at" "value ->> 'updated_at'" "bigint");
        let contact = |place: usize| {
            let system = if place == count { SYSTEM_OF_ONE } else { SYSTEM_OF_MANY };
            json!({"id": contact_id(place).simple().to_string(), "system_id": system_id(system).simple().to_string(),
                   "kind": "mailbox", "email": format!("on-call-{place}@example.org"), "label": "on call",
                   "created_at": at(place)})
        };
        insert!(self, (0..=count).map(contact).collect::<Vec<_>>(), "catalog_contact",
            "id" "unhex(value ->> 'id')" "uuid",
            "system_id" "unhex(value ->> 'system_id')" "uuid",
            "kind" "value ->> 'kind'" "text",
            "email" "value ->> 'email'" "text",
            "label" "value ->> 'label'" "text",
            "created_at" "value ->> 'created_at'" "bigint");
        Ok(())
    }

    /// The systems from one place to another.
    pub async fn add_systems(&mut self, from: usize, to: usize) -> Result<()> {
        let row = |(place, system): (usize, System)| -> Result<Value> {
            Ok(json!({"id": system_id(place).simple().to_string(), "name_folded": system.name, "name": system.name,
                      "description": system.description, "owner": system.owner,
                      "metadata": serde_json::to_string(&system.metadata)?,
                      "created_at": at(place), "updated_at": at(place)}))
        };
        let rows: Vec<_> = systems(to).into_iter().enumerate().skip(from).map(row).collect::<Result<_>>()?;
        insert!(self, rows, "catalog_system",
            "id" "unhex(value ->> 'id')" "uuid",
            "name" "value ->> 'name'" "text",
            "name_folded" "value ->> 'name_folded'" "text",
            "description" "value ->> 'description'" "text",
            "owner" "value ->> 'owner'" "text",
            "metadata" "value ->> 'metadata'" "text",
            "created_at" "value ->> 'created_at'" "bigint",
            "updated_at" "value ->> 'updated_at'" "bigint");
        Ok(())
    }

    /// Applications with the role `reader`: their ids, and the tags of their keys.
    pub async fn add_applications(&mut self, applications: &[(Uuid, String)], tag_key: &str) -> Result<()> {
        let row = |(id, tag): &(Uuid, String)| {
            json!({"id": id.simple().to_string(), "name": "load", "name_folded": "load", "created_by_id": "system",
                   "created_at": FIRST_AT, "updated_at": FIRST_AT, "secret_hash": "none", "tag": tag,
                   "tag_key": tag_key})
        };
        let rows: Vec<_> = applications.iter().map(row).collect();
        insert!(self, rows, "auth_application",
            "id" "unhex(value ->> 'id')" "uuid",
            "name" "value ->> 'name'" "text",
            "name_folded" "value ->> 'name_folded'" "text",
            "created_by_id" "value ->> 'created_by_id'" "text",
            "created_at" "value ->> 'created_at'" "bigint",
            "updated_at" "value ->> 'updated_at'" "bigint",
            "secret_hash" "value ->> 'secret_hash'" "text",
            "tag" "value ->> 'tag'" "text",
            "tag_key" "value ->> 'tag_key'" "text");
        let role = |(id, _): &(Uuid, String)| json!({"application_id": id.simple().to_string(), "role_id": "reader"});
        insert!(self, applications.iter().map(role).collect::<Vec<_>>(), "auth_application_role",
            "application_id" "unhex(value ->> 'application_id')" "uuid",
            "role_id" "value ->> 'role_id'" "text");
        Ok(())
    }
}
