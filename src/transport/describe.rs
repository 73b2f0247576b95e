//! `GET /api/{plugin}/`: what there is to call, and what of it the caller may.

use crate::access::{Caller, Gate};
use crate::contract::{Plugin, methods};
use serde::Serialize;
use serde_json::value::RawValue;
use std::sync::Arc;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Described<'p> {
    plugin: &'p str,
    description: &'p str,
    procedures: Vec<Procedure>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Procedure {
    name: &'static str,
    aliases: &'static [&'static str],
    description: &'static str,
    kind: &'static str,
    permissions: &'static [&'static str],
    may_call: bool,
    grpc: &'static str,
    input: Option<&'static RawValue>,
    output: Option<&'static RawValue>,
}

/// The description of a plugin for a caller.
pub(super) fn describe(plugin: &Plugin, gate: &Gate, caller: &Arc<Caller>) -> Vec<u8> {
    let procedures = methods().filter(|method| method.plugin == plugin.id).map(|method| Procedure {
        name: method.name,
        aliases: method.aliases,
        description: method.doc,
        kind: match (method.streams, method.query) {
            (true, _) => "stream",
            (false, true) => "query",
            (false, false) => "mutation",
        },
        permissions: method.permissions,
        may_call: gate.admit(method, caller).is_ok(),
        grpc: method.path,
        input: schema(method.input_schema),
        output: schema(method.output_schema),
    });
    let described = Described { plugin: plugin.id, description: plugin.summary, procedures: procedures.collect() };
    serde_json::to_vec(&described).unwrap_or_default()
}

fn schema(text: &'static str) -> Option<&'static RawValue> {
    serde_json::from_str(text).ok()
}
