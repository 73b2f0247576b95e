//! What serde would write differently: enums, times and free JSON.

use super::Names;
use prost_types::value::Kind;
use serde::ser::{Error, Serialize, Serializer};

/// Whole numbers of a larger size are not exact in a double; those are written as doubles.
pub const EXACT_INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// An enum value by its name; a number that has none is written as a number.
pub struct Name(pub i32, pub Names);

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.1.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => serializer.serialize_str(name),
            None => serializer.serialize_i32(self.0),
        }
    }
}

/// The name of an enum value; nothing for a number that has none.
#[must_use]
pub fn name(value: i32, names: Names) -> &'static str {
    names.iter().find(|(_, number)| *number == value).map_or("", |(name, _)| *name)
}

/// A time as `2026-01-05T14:52:47.000Z`: always milliseconds, always UTC.
pub struct Time<'a>(pub &'a prost_types::Timestamp);

impl Serialize for Time<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let time = jiff::Timestamp::new(self.0.seconds, self.0.nanos).map_err(S::Error::custom)?;
        serializer.collect_str(&format_args!("{time:.3}"))
    }
}

/// Keys and values as an object.
pub struct Map<F>(pub F);

impl<F, I, K, V> Serialize for Map<F>
where
    F: Fn() -> I,
    I: Iterator<Item = (K, V)>,
    K: Serialize,
    V: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map((self.0)())
    }
}

/// `google.protobuf.Struct` as an object, keys sorted.
pub struct Object<'a>(pub &'a prost_types::Struct);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.fields.iter().map(|(key, value)| (key, Any(value))))
    }
}

/// `google.protobuf.Value` as the JSON value that it is. Whole numbers stay whole: `1`, never `1.0`.
pub struct Any<'a>(pub &'a prost_types::Value);

impl Serialize for Any<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0.kind {
            None | Some(Kind::NullValue(_)) => serializer.serialize_unit(),
            Some(Kind::BoolValue(value)) => serializer.serialize_bool(*value),
            Some(Kind::StringValue(value)) => serializer.serialize_str(value),
            Some(Kind::NumberValue(value)) => serialize_number(*value, serializer),
            Some(Kind::ListValue(list)) => serializer.collect_seq(list.values.iter().map(Any)),
            Some(Kind::StructValue(object)) => Object(object).serialize(serializer),
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "guarded: the value is whole and fits")]
fn serialize_number<S: Serializer>(value: f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.fract() == 0.0 && value.abs() <= EXACT_INTEGER_MAX {
        serializer.serialize_i64(value as i64)
    } else {
        serializer.serialize_f64(value)
    }
}

/// The text of a free JSON object, as it is stored.
#[must_use]
pub fn object_text(object: &prost_types::Struct) -> String {
    // Numbers were checked to be finite and keys are text, so there is nothing that could fail.
    serde_json::to_string(&Object(object)).unwrap_or_default()
}

/// The text of a free JSON value, as it is stored.
#[must_use]
pub fn any_text(value: &prost_types::Value) -> String {
    serde_json::to_string(&Any(value)).unwrap_or_default()
}
