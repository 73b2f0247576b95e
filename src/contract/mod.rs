//! The contract: what `proto/` says, as tables and as what the generated code stands on.
//!
//! `build.rs` writes the tables ([`generated`]); nobody repeats them.

pub mod change;
pub mod check;
pub mod dispatch;
pub mod issue;
pub mod page;
pub mod stream;

pub use change::Change;
pub use check::{Checker, Rules, Validate};
pub use dispatch::{Checks, Mount};
pub use page::{Page, PageKey, Paged, Row};

use crate::json::Value;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Written by `build.rs` from `proto/`.
#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "generated")]
pub mod generated {
    use super::check::{Format, Text, Validate};
    use super::dispatch::{Checks, Dispatch, Mount, Prepared};
    use super::stream::{Event, Stream};
    use super::{Checker, Method, Paged, Permission, Plugin};
    use crate::access::gate::Admitted;
    use crate::error::Error;
    use crate::json::{DatePaths, Dates, Decode, Decoder, Names, Value, decode, encode};
    use serde::ser::SerializeMap;
    use std::sync::Arc;

    include!(concat!(env!("OUT_DIR"), "/json.rs"));
    include!(concat!(env!("OUT_DIR"), "/services.rs"));
}

/// One procedure.
#[derive(Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each says something else about a method")]
pub struct Method {
    /// The id of its plugin: `catalog`.
    pub plugin: &'static str,
    /// Its name in JSON: `getSystems`.
    pub name: &'static str,
    /// Other names in JSON.
    pub aliases: &'static [&'static str],
    /// Its path in gRPC: `/checkmate.catalog.v1.CatalogService/GetSystems`.
    pub path: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// Any one of these is needed; none: any valid credential will do.
    pub permissions: &'static [&'static str],
    /// For the server itself only.
    pub service_only: bool,
    /// Whether anybody may call it, without a credential as well.
    pub open: bool,
    /// Whether it changes nothing.
    pub query: bool,
    /// Whether its answer goes on for as long as its caller listens.
    pub streams: bool,
    /// The plugins from whose data alone its answer follows; none: its answer is not kept.
    pub depends_on: &'static [&'static str],
    /// The method that JSON means when the input has no keys but those that it knows: existing clients know the name of
    /// this paged list for one that is not.
    pub unpaged: Option<&'static str>,
    /// The keys that its input may have.
    pub input_keys: &'static [&'static str],
    /// JSON Schema of its input, as text.
    pub input_schema: &'static str,
    /// JSON Schema of its result, as text.
    pub output_schema: &'static str,
}

impl Method {
    /// The method that an input in JSON means.
    #[must_use]
    pub fn meant_by(&'static self, input: &Value<'_>) -> &'static Self {
        let Some(unpaged) = self.unpaged.and_then(|name| method_named(self.plugin, name)) else { return self };
        let is_paged = match input {
            Value::Object(entries) => entries.iter().any(|(key, _)| !unpaged.input_keys.contains(&&**key)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => false,
        };
        if is_paged { self } else { unpaged }
    }

    /// The name or alias that was asked for, as the contract has it.
    #[must_use]
    pub fn known_as(&self, name: &str) -> &'static str {
        self.aliases.iter().copied().find(|alias| *alias == name).unwrap_or(self.name)
    }
}

/// Something that a role may allow.
#[derive(Debug)]
pub struct Permission {
    /// `catalog.catalog.read`.
    pub id: &'static str,
    /// What it allows.
    pub description: &'static str,
    /// Other spellings, accepted when a role is edited.
    pub synonyms: &'static [&'static str],
    /// The ordinary roles that hold it at first start.
    pub initial_roles: &'static [&'static str],
}

/// A plugin that has procedures.
#[derive(Debug)]
pub struct Plugin {
    /// `catalog`.
    pub id: &'static str,
    /// What it is for.
    pub summary: &'static str,
}

pub use generated::{PERMISSIONS, PLUGINS, SERVICES};

/// The compiled .proto files with their options, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The OpenAPI document.
pub const OPEN_API: &str = include_str!(concat!(env!("OUT_DIR"), "/openapi.json"));

/// Every method there is.
pub fn methods() -> impl Iterator<Item = &'static Method> {
    SERVICES.iter().flat_map(|service| service.iter())
}

/// The method at a gRPC path.
#[must_use]
pub fn method_at(path: &str) -> Option<&'static Method> {
    static BY_PATH: LazyLock<HashMap<&str, &Method>> =
        LazyLock::new(|| methods().map(|method| (method.path, method)).collect());
    BY_PATH.get(path).copied()
}

/// The method that JSON calls by this name, or by an alias of it.
#[must_use]
pub fn method_named(plugin: &str, name: &str) -> Option<&'static Method> {
    static BY_NAME: LazyLock<HashMap<(&str, &str), &Method>> = LazyLock::new(|| {
        let names =
            |m: &'static Method| std::iter::once(&m.name).chain(m.aliases).map(move |name| ((m.plugin, *name), m));
        methods().flat_map(names).collect()
    });
    BY_NAME.get(&(plugin, name)).copied()
}

/// The plugin with this id, if it has procedures.
#[must_use]
pub fn plugin(id: &str) -> Option<&'static Plugin> {
    PLUGINS.iter().find(|plugin| plugin.id == id)
}
