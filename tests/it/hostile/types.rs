//! Values of every kind in fields of every other, and names that are almost right.

use super::wire::Http;
use super::{NOTHING, Row, http};

/// One value of each kind, with its article.
const VALUES: [(&str, &str); 6] = [
    ("null", "null"),
    ("a boolean", "true"),
    ("a number", "1"),
    ("a string", "\"x\""),
    ("an array", "[]"),
    ("an object", "{}"),
];

/// A field of a kind: the plugin, the input around it, what it wants, the kinds that are good, and the answer to those.
struct Field(&'static str, &'static str, &'static str, &'static [(&'static str, u16, &'static str)]);

const NOT_FOUND: &str = "not found";

/// What is good ends as `NOT_FOUND`, or in a list without rows, or at the next rule.
const FIELDS: [Field; 12] = [
    Field(
        "catalog",
        r#"{"updateSystem":{"id":"<id>","data":{"name":<value>}}}"#,
        "data.name: Expected a string, got ",
        &[("null", 400, "data.name: Must not be null"), ("a string", 404, NOT_FOUND)],
    ),
    Field(
        "catalog",
        r#"{"updateSystem":{"id":"<id>","data":{"owner":<value>}}}"#,
        "data.owner: Expected a string, got ",
        &[("null", 404, NOT_FOUND), ("a string", 404, NOT_FOUND)],
    ),
    Field(
        "catalog",
        r#"{"listSystems":{"pageSize":<value>}}"#,
        "pageSize: Expected a whole number, got ",
        &[("null", 200, ""), ("a number", 200, "")],
    ),
    Field(
        "catalog",
        r#"{"addSystemContact":{"systemId":"<id>","email":"a@b.co","type":<value>}}"#,
        "type: Expected a string, got ",
        &[("null", 400, "type: Required"), ("a string", 400, "type: Must be one of user, mailbox")],
    ),
    Field(
        "auth",
        r#"{"updateApplication":{"id":"<id>","expiresAt":<value>}}"#,
        "expiresAt: Expected a string, got ",
        &[("null", 404, NOT_FOUND), ("a string", 400, "expiresAt: Expected a time like 2026-01-05T14:52:47.000Z")],
    ),
    Field(
        "auth",
        r#"{"updateApplication":{"id":"<id>","roles":<value>}}"#,
        "roles: Expected an array, got ",
        &[("null", 400, "roles: Must not be null"), ("an array", 404, NOT_FOUND)],
    ),
    Field(
        "auth",
        r#"{"updateApplication":{"id":"<id>","roles":[<value>]}}"#,
        "roles[0]: Expected a string, got ",
        &[("a string", 404, NOT_FOUND)],
    ),
    Field(
        "catalog",
        r#"{"updateSystem":{"id":"<id>","data":{"metadata":<value>}}}"#,
        "data.metadata: Expected an object, got ",
        &[("null", 404, NOT_FOUND), ("an object", 404, NOT_FOUND)],
    ),
    Field(
        "catalog",
        r#"{"updateSystem":{"id":"<id>","data":<value>}}"#,
        "data: Expected an object, got ",
        &[("null", 400, "data: Required"), ("an object", 404, NOT_FOUND)],
    ),
    Field(
        "catalog",
        r#"{"deleteSystem":<value>}"#,
        "id: Expected a string, got ",
        &[("null", 400, "id: Required"), ("a string", 400, "id: Must be a UUID"), ("an object", 400, "id: Required")],
    ),
    Field(
        "catalog",
        r#"{"getSystem":<value>}"#,
        "Input validation failed: Expected an object, got ",
        &[("null", 400, "systemId: Required"), ("an object", 400, "systemId: Required")],
    ),
    Field(
        "auth",
        r#"{"getApplication":{"applicationId":<value>}}"#,
        "applicationId: Expected a string, got ",
        &[("null", 400, "applicationId: Required"), ("a string", 400, "applicationId: Must be a UUID")],
    ),
];

pub fn kinds() -> Vec<Row> {
    let mut rows = vec![];
    for Field(plugin, input, wanted, good) in FIELDS {
        for (kind, value) in VALUES {
            let body = input.replace("<id>", NOTHING).replace("<value>", value);
            let expected = good.iter().find(|(known, ..)| *known == kind);
            let (status, why) = expected
                .map_or_else(|| (400, format!("{wanted}{kind}")), |(_, status, why)| (*status, (*why).to_owned()));
            let name = format!("{kind} in {input}");
            rows.push(http(name, Http::post(&format!("/api/{plugin}/"), body), status, why));
        }
    }
    for (name, time) in [
        ("a year alone", "2026"),
        ("a day", "2027-01-05"),
        ("a blank for T", "2027-01-05 00:00:00Z"),
        ("no offset", "2027-01-05T00:00:00"),
        ("the 13th month", "2027-13-05T00:00:00Z"),
        ("the 30th of February", "2027-02-30T00:00:00Z"),
        ("25 o'clock", "2027-01-05T25:00:00Z"),
        ("an offset of a day", "2027-01-05T00:00:00+24:00"),
        ("a year of five digits", "12027-01-05T00:00:00Z"),
        ("a comma for the point", "2027-01-05T00:00:00,5Z"),
        ("milliseconds since 1970", "1767624767000"),
        ("a zone in brackets", "2027-01-05T00:00:00Z[UTC]"),
        ("a date of HTTP", "Tue, 05 Jan 2027 00:00:00 GMT"),
        ("digits of another script", "٢٠٢٧-01-05T00:00:00Z"),
        ("nothing", ""),
    ] {
        let body = format!(r#"{{"updateApplication":{{"id":"{NOTHING}","expiresAt":"{time}"}}}}"#);
        rows.push(http(
            format!("{name} for a time"),
            Http::post("/api/auth/", body),
            400,
            "expiresAt: Expected a time like",
        ));
    }
    for (name, email) in [
        ("no at sign", "ops.example.org"),
        ("two at signs", "a@b@example.org"),
        ("nobody", "@example.org"),
        ("nowhere", "ops@"),
        ("a line feed", "ops@example.org\\nbcc: x@y.z"),
        ("a blank", "o ps@example.org"),
        ("no dot", "ops@example"),
        ("two dots", "ops@example..org"),
        ("a list", "a@b.co,c@d.co"),
        ("a name before", "Ops <ops@example.org>"),
    ] {
        let body = format!(r#"{{"addSystemContact":{{"systemId":"{NOTHING}","type":"mailbox","email":"{email}"}}}}"#);
        rows.push(http(
            format!("{name} for an address"),
            Http::post("/api/catalog/", body),
            400,
            "email: Must be an e-mail address",
        ));
    }
    rows
}

pub fn names() -> Vec<Row> {
    let mut rows = vec![];
    for name in [
        "",
        " ",
        "getsystems",
        "GetSystems",
        "GETSYSTEMS",
        "get_systems",
        "getSystems ",
        " getSystems",
        "getSystems/",
        "catalog.getSystems",
        "catalog/getSystems",
        "whoAmI",
        "__proto__",
        "constructor",
        "toString",
        "hasOwnProperty",
        "$errors",
        "json",
        "meta",
        "getSуstems",
        "getSystems\\u0000",
        "getSystems\\u200b",
        "*",
        "..",
        "0",
        "getSystem\\u017f",
    ] {
        let body = format!("{{\"{name}\":{{}}}}");
        rows.push(http(
            format!("{name:?} as a procedure"),
            Http::post("/api/catalog/", body),
            404,
            "Procedure not found: catalog.",
        ));
    }
    for name in [
        "",
        " ",
        "Name",
        "NAME",
        "name ",
        "na\\u0000me",
        "system_id",
        "updated_at",
        "updateMask",
        "update_mask",
        "id",
        "__proto__",
        "constructor",
        "toString",
        "createdAt",
        "systemId",
        "data",
        "nаme",
        "$ref",
        "@type",
    ] {
        let body = format!(r#"{{"updateSystem":{{"id":"{NOTHING}","data":{{"{name}":{{}}}}}}}}"#);
        rows.push(http(format!("{name:?} as a field"), Http::post("/api/catalog/", body), 400, "Unknown field"));
    }
    for plugin in [
        "Catalog",
        "CATALOG",
        "catalogs",
        "catalo",
        "plugin",
        "api",
        "checkmate.catalog.v1",
        "__proto__",
        "health",
        "openapi",
        "-",
        "0",
    ] {
        let path = format!("/api/{plugin}/");
        rows.push(http(
            format!("{plugin} as a plugin"),
            Http::post(&path, r#"{"getSystems":{}}"#),
            404,
            "Plugin not found: ",
        ));
        let path = format!("/api/{plugin}/getSystems");
        rows.push(http(
            format!("{plugin} as the plugin of a call"),
            Http::post(&path, "{}"),
            404,
            "Procedure not found: ",
        ));
    }
    rows
}
