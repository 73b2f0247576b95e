//! Settings that are written and never read back.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::fmt;
use zeroize::Zeroizing;

/// A password, a key, a token. In the JSON Schema it is `writeOnly`.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// What is to be sent.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Headers and metadata that say who one is. They belong where they are sealed, not where everybody reads them.
pub(super) fn is_credential(name: &str) -> bool {
    ["authorization", "cookie", "proxy-authorization"].iter().any(|one| name.eq_ignore_ascii_case(one))
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "writeOnly": true, "x-secret": true })
    }
}
