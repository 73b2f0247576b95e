//! What is asked: each row of the table, and what the right answer to it is.

use crate::data::{self, SYSTEM_OF_MANY, SYSTEM_OF_ONE};
use crate::load::{self, Ask};
use anyhow::{Context, Result, ensure};
use checkmate::proto::checkmate::catalog::v1 as pb;
use prost::Message;
use serde_json::{Value, json};
use std::net::SocketAddr;

const GET_SYSTEMS: &str = "/checkmate.catalog.v1.CatalogService/GetSystems";
const BATCH: &str = "/api/catalog/";

/// Ways to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `{"getSystems": {}}`.
    BatchOfOne,
    /// `POST /api/catalog/getSystems`.
    Single,
    /// Ten lists of as many rows each: the bytes of ten answers.
    TenLists,
    /// The same list, and nine calls of one row: what a call costs beside its bytes.
    ListAndNine,
    /// `GET /api/catalog/getSystems`.
    Get,
    /// The same with the tag that is known: 304.
    GetKnown,
    /// gRPC.
    Grpc,
    /// The first page of 100.
    Page,
}

/// All ways that are compared with a bare handler.
pub const WAYS: [Way; 7] =
    [Way::BatchOfOne, Way::Single, Way::TenLists, Way::ListAndNine, Way::Get, Way::GetKnown, Way::Grpc];

impl Way {
    /// As the table shows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::BatchOfOne => "JSON batch of 1",
            Self::Single => "JSON single",
            Self::TenLists => "JSON batch of 10 lists",
            Self::ListAndNine => "JSON batch of 1 list + 9 rows",
            Self::Get => "GET 200",
            Self::GetKnown => "GET 304",
            Self::Grpc => "gRPC",
            Self::Page => "JSON page of 100",
        }
    }

    /// Asks once, holds the answer against what it must be, and returns what to ask again and again.
    pub async fn checked(self, address: SocketAddr, key: &str, count: usize) -> Result<(Ask, usize)> {
        let mut ask = self.ask(key, count, None);
        let (mut head, mut body) = load::once(address, &ask).await?;
        self.check(&body, count).with_context(|| format!("the answer to {} of {count} is wrong", self.name()))?;
        if self == Self::GetKnown {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            let tag = lines.find(|(name, _)| name.eq_ignore_ascii_case("etag")).context("an entity tag")?.1.to_owned();
            ask = self.ask(key, count, Some(&tag));
            (head, body) = load::once(address, &ask).await?;
            ensure!(body.is_empty() && head.contains(" 304 "), "not a 304: {head}");
        }
        Ok((ask, body.len()))
    }

    fn ask(self, key: &str, count: usize, tag: Option<&str>) -> Ask {
        match self {
            Self::BatchOfOne => Ask::post(BATCH, key, r#"{"getSystems":{}}"#),
            Self::Single => Ask::post("/api/catalog/getSystems", key, "{}"),
            Self::TenLists => Ask::post(BATCH, key, &ten_lists(count)),
            Self::ListAndNine => Ask::post(BATCH, key, &list_and_nine()),
            Self::Get | Self::GetKnown => Ask::get("/api/catalog/getSystems", key, tag),
            Self::Grpc => Ask::Grpc { path: GET_SYSTEMS, key: key.to_owned(), message: vec![] },
            Self::Page => Ask::post(BATCH, key, r#"{"listSystems":{"pageSize":100}}"#),
        }
    }

    fn check(self, body: &[u8], count: usize) -> Result<()> {
        if self == Self::Grpc {
            const PREFIX_BYTES: usize = 5;
            let message = pb::GetSystemsResponse::decode(body.get(PREFIX_BYTES..).context("a message")?)?;
            ensure!(message == data::message(count), "not the systems that were stored");
            return Ok(());
        }
        let mut answer: Value = serde_json::from_slice(body)?;
        let rows = |answer: &Value| answer.as_array().map_or(0, Vec::len);
        let systems = match self {
            Self::Get | Self::GetKnown => answer,
            // An object without keys of its own is oRPC's envelope.
            Self::Single => answer.get_mut("json").context("an envelope")?.take(),
            Self::Page => {
                let systems = answer.pointer_mut("/listSystems/systems").context("systems")?.take();
                ensure!(rows(&systems) == count.min(100), "{} rows", rows(&systems));
                ensure!(
                    systems.pointer("/0") == serde_json::to_value(data::systems(1))?.pointer("/0"),
                    "another system"
                );
                return Ok(());
            }
            Self::BatchOfOne | Self::TenLists | Self::ListAndNine | Self::Grpc => {
                let calls = answer.as_object().map_or(0, serde_json::Map::len);
                ensure!(calls == if self == Self::BatchOfOne { 1 } else { 10 }, "{calls} answers");
                if self == Self::TenLists {
                    let places = [
                        "/getGroups",
                        "/listGroups/groups",
                        "/getViews",
                        "/listViews/views",
                        "/getSystemContacts",
                        "/listSystemContacts/contacts",
                        "/listSystems/systems",
                        "/getEntities/systems",
                    ];
                    for place in places {
                        let found = answer.pointer(place).map_or(0, rows);
                        ensure!(found == count, "{place} has {found} rows");
                    }
                }
                answer.get_mut("getSystems").context("systems")?.take()
            }
        };
        ensure!(rows(&systems) == count, "{} rows", rows(&systems));
        ensure!(systems == serde_json::to_value(data::systems(count))?, "not the systems that were stored");
        Ok(())
    }
}

/// A batch is an object without duplicate keys, so ten lists are ten procedures; the catalog has nine of them (no
/// aliases), of which `getEntities` holds two. The tenth asks for one row.
fn ten_lists(count: usize) -> String {
    let system = data::system_id(SYSTEM_OF_MANY).to_string();
    json!({
        "getSystems": {}, "listSystems": {"pageSize": count}, "getEntities": {},
        "getGroups": {}, "listGroups": {"pageSize": count}, "getViews": {}, "listViews": {"pageSize": count},
        "getSystemContacts": {"systemId": system}, "listSystemContacts": {"systemId": system, "pageSize": count},
        "getSystem": {"systemId": system},
    })
    .to_string()
}

fn list_and_nine() -> String {
    let system = data::system_id(SYSTEM_OF_ONE).to_string();
    json!({
        "getSystems": {}, "listSystems": {"pageSize": 1}, "getSystem": {"systemId": system},
        "getGroup": {"groupId": data::group_id(0).to_string()}, "listGroups": {"pageSize": 1},
        "getView": {"viewId": data::view_id(0).to_string()}, "listViews": {"pageSize": 1},
        "getSystemContacts": {"systemId": system}, "listSystemContacts": {"systemId": system, "pageSize": 1},
        "getSystemContact": {"contactId": data::contact_id(0).to_string()},
    })
    .to_string()
}
