//! Values of options, as the descriptors hold them.

use super::Result;
use prost_reflect::{DynamicMessage, Value};

pub(super) fn inner(value: &Value) -> Result<DynamicMessage> {
    Ok(value.as_message().ok_or("an option that should be a message is not")?.clone())
}

fn get(message: &DynamicMessage, field: &str) -> Option<Value> {
    message.get_field_by_name(field).map(std::borrow::Cow::into_owned)
}

pub(super) fn text(message: &DynamicMessage, field: &str) -> String {
    get(message, field).and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

pub(super) fn list(message: &DynamicMessage, field: &str) -> Vec<Value> {
    get(message, field).and_then(|value| value.as_list().map(<[Value]>::to_vec)).unwrap_or_default()
}

pub(super) fn texts(message: &DynamicMessage, field: &str) -> Vec<String> {
    list(message, field).iter().filter_map(|value| value.as_str().map(str::to_owned)).collect()
}

pub(super) fn flag(message: &DynamicMessage, field: &str) -> bool {
    get(message, field).and_then(|value| value.as_bool()).unwrap_or_default()
}

pub(super) fn unsigned(message: &DynamicMessage, field: &str) -> u32 {
    get(message, field).and_then(|value| value.as_u32()).unwrap_or_default()
}

pub(super) fn signed(message: &DynamicMessage, field: &str) -> i64 {
    get(message, field).and_then(|value| value.as_i64()).unwrap_or_default()
}

pub(super) fn number(message: &DynamicMessage, field: &str) -> i32 {
    get(message, field).and_then(|value| value.as_enum_number()).unwrap_or_default()
}
