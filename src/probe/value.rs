//! Values as assertions compare and show them.

use serde_json::Value;
use std::borrow::Cow;
use std::cmp::Ordering;

/// What is kept of a text.
const TEXT_CHARS_MAX: usize = 200;

/// What is shown of a value in a sentence.
const SHOWN_CHARS_MAX: usize = 80;

/// A number, or a text that is one. Whole numbers are compared exactly: an id may have more digits than a double.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Integer(i128),
    Float(f64),
}

impl Number {
    pub(super) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => Self::parse(&number.to_string()),
            Value::String(text) => Self::parse(text.trim()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        // Neither `inf` nor `nan`, which Rust reads as numbers.
        let is_numeric = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
        if !is_numeric || text.len() > 400 {
            return None;
        }
        if let Ok(number) = text.parse() {
            return Some(Self::Integer(number));
        }
        text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Self::Float)
    }

    pub(super) fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Integer(one), Self::Integer(other)) => Some(one.cmp(&other)),
            (one, other) => one.float().partial_cmp(&other.float()),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "the other side is a float, and has no more digits")]
    fn float(self) -> f64 {
        match self {
            Self::Integer(number) => number as f64,
            Self::Float(number) => number,
        }
    }
}

/// The text of a value: nothing is the empty text, arrays and objects are compact JSON.
pub(super) fn text_of(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        Value::Null => Cow::Borrowed(""),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => Cow::Owned(value.to_string()),
    }
}

/// Whether two values are the same: as they are; as numbers, if one is a number; else as texts.
pub(super) fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::String(one), Value::String(other)) => one == other,
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same_json(one, other))
        }
        (Value::Object(_), Value::Object(_)) => is_same_json(one, other),
        (Value::Number(_), _) | (_, Value::Number(_)) => match (Number::of(one), Number::of(other)) {
            (Some(one), Some(other)) => one.compare(other) == Some(Ordering::Equal),
            _ => text_of(one) == text_of(other),
        },
        _ => text_of(one) == text_of(other),
    }
}

/// Within documents types count, but 1 is 1.0.
fn is_same_json(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(_), Value::Number(_)) | (Value::Array(_), Value::Array(_)) => is_same(one, other),
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, one)| other.get(name).is_some_and(|other| is_same_json(one, other)))
        }
        (one, other) => one == other,
    }
}

/// A value as far as it is kept: the beginning of a text, and the size of an array or object.
pub(super) fn bounded(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(cut(text, TEXT_CHARS_MAX)),
        Value::Array(items) => Value::String(format!("array of {}", items.len())),
        Value::Object(members) => Value::String(format!("object of {}", members.len())),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// A value in a sentence.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => Value::String(cut(text, SHOWN_CHARS_MAX)).to_string(),
        Value::Array(_) | Value::Object(_) => format!("an {}", text_of(&bounded(value))),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// The beginning of a text, with a mark where something is missing.
fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
