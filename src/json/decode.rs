//! Reading input, with every violation at once.

use super::value::{Entry, Value};
use super::{Names, encode};
use crate::contract::issue::{Issues, Path};
use prost_types::value::Kind;
use std::borrow::Cow;

/// A message that can be read from JSON. Generated.
pub trait Decode: Default {
    /// Reads it. `None` if it is not even an object; what is wrong inside is reported and left at its default.
    fn decode(value: &Value<'_>, at: &mut Decoder) -> Option<Self>;
}

/// Where reading stands, and what was wrong so far.
#[derive(Default)]
pub struct Decoder {
    path: Path,
    /// What was wrong.
    pub issues: Issues,
}

/// Reads one value; `None` when it is of the wrong kind, which is then reported.
type Read<T> = fn(&Value<'_>, &mut Decoder) -> Option<T>;

impl Decoder {
    /// The entries of an object. Nothing at all (`null`) is an object without entries.
    pub fn entries<'v, 'a>(&mut self, value: &'v Value<'a>) -> Option<&'v [Entry<'a>]> {
        match value {
            Value::Object(entries) => Some(entries),
            Value::Null => Some(&[]),
            Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => self.wrong("an object", value),
        }
    }

    /// Reads into a field that always has a value; `null` leaves it as if it were absent.
    pub fn plain<T>(&mut self, key: &str, value: &Value<'_>, field: &mut T, read: Read<T>) {
        if *value != Value::Null
            && let Some(value) = self.inside(key, |at| read(value, at))
        {
            *field = value;
        }
    }

    /// Reads into a field that may be unset; `null` leaves it so.
    pub fn optional<T>(&mut self, key: &str, value: &Value<'_>, field: &mut Option<T>, read: Read<T>) {
        if *value != Value::Null {
            *field = self.inside(key, |at| read(value, at));
        }
    }

    /// Reads into a list; `null` leaves it empty.
    pub fn list<T>(&mut self, key: &str, value: &Value<'_>, field: &mut Vec<T>, read: Read<T>) {
        self.inside(key, |at| match value {
            Value::Null => {}
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    at.path.push_index(index);
                    field.extend(read(item, at));
                    at.path.pop();
                }
            }
            Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Object(_) => {
                at.wrong::<()>("an array", value);
            }
        });
    }

    /// A key that the message does not have.
    pub fn unknown(&mut self, key: &str) {
        self.inside(key, |at| at.issues.add(&at.path, "Unknown field"));
    }

    /// A field with several names may be given under one of them only.
    pub fn only_one(&mut self, entries: &[Entry<'_>], keys: &[&str]) {
        let given: Vec<_> = entries.iter().filter(|(key, _)| keys.contains(&key.as_ref())).collect();
        if let [(first, _), (second, _), ..] = &given[..] {
            self.inside(second, |at| at.issues.add(&at.path, format!("Given twice: it is the same as {first}")));
        }
    }

    /// Fields that can be changed but not cleared.
    pub fn not_null(&mut self, entries: &[Entry<'_>], keys: &[&str]) {
        for (key, value) in entries {
            if *value == Value::Null && keys.contains(&key.as_ref()) {
                self.inside(key, |at| at.issues.add(&at.path, "Must not be null"));
            }
        }
    }

    /// The mask that the present keys make.
    #[must_use]
    pub fn mask(&self, entries: &[Entry<'_>], keys: &[(&str, &str)]) -> prost_types::FieldMask {
        let name = |(key, _): &Entry<'_>| keys.iter().find(|(json, _)| *json == key.as_ref());
        prost_types::FieldMask { paths: entries.iter().filter_map(name).map(|(_, path)| (*path).to_owned()).collect() }
    }

    /// Reports a violation at the place where reading stands.
    pub fn issue<T>(&mut self, message: impl Into<String>) -> Option<T> {
        self.issues.add(&self.path, message);
        None
    }

    fn wrong<T>(&mut self, wanted: &str, value: &Value<'_>) -> Option<T> {
        self.issue(format!("Expected {wanted}, got {}", value.kind()))
    }

    fn inside<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push_key(key);
        let value = read(self);
        self.path.pop();
        value
    }
}

/// A string.
pub fn text(value: &Value<'_>, at: &mut Decoder) -> Option<String> {
    let Value::Text(text) = value else { return at.wrong("a string", value) };
    Some(text.clone().into_owned())
}

/// `true` or `false`.
pub fn boolean(value: &Value<'_>, at: &mut Decoder) -> Option<bool> {
    let Value::Bool(is_true) = value else { return at.wrong("a boolean", value) };
    Some(*is_true)
}

/// A whole number of 32 bits.
pub fn int32(value: &Value<'_>, at: &mut Decoder) -> Option<i32> {
    let wide = int64(value, at)?;
    i32::try_from(wide).ok().or_else(|| at.issue("Is out of range"))
}

/// A whole number of 64 bits; `5.0` is one too.
pub fn int64(value: &Value<'_>, at: &mut Decoder) -> Option<i64> {
    let Value::Number(number) = value else { return at.wrong("a whole number", value) };
    let whole = number.as_f64().filter(|float| float.fract() == 0.0);
    let exact = whole.filter(|float| float.abs() <= encode::EXACT_INTEGER_MAX);
    #[expect(clippy::cast_possible_truncation, reason = "guarded: the value is whole and fits")]
    let found = number.as_i64().or_else(|| exact.map(|float| float as i64));
    found.or_else(|| at.issue(if whole.is_none() { "Expected a whole number" } else { "Is out of range" }))
}

/// Any number.
pub fn double(value: &Value<'_>, at: &mut Decoder) -> Option<f64> {
    let Value::Number(number) = value else { return at.wrong("a number", value) };
    number.as_f64()
}

/// An enum value by its name.
pub fn name(value: &Value<'_>, at: &mut Decoder, names: Names) -> Option<i32> {
    let text = text(value, at)?;
    names.iter().find(|(name, _)| *name == text).map(|(_, number)| *number).or_else(|| {
        let known: Vec<_> = names.iter().map(|(name, _)| *name).collect();
        at.issue(format!("Must be one of {}", known.join(", ")))
    })
}

/// RFC 3339 with any offset.
pub fn time(value: &Value<'_>, at: &mut Decoder) -> Option<prost_types::Timestamp> {
    const WANTED: &str = "Expected a time like 2026-01-05T14:52:47.000Z";
    let text = text(value, at)?;
    let Some(text) = rfc3339(&text) else { return at.issue(WANTED) };
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => {
            // jiff counts the fraction of a time before 1970 backwards, Protobuf forwards.
            let (seconds, nanos) = (time.as_second(), time.subsec_nanosecond());
            let borrow = i64::from(nanos < 0);
            Some(prost_types::Timestamp { seconds: seconds - borrow, nanos: nanos.rem_euclid(1_000_000_000) })
        }
        Err(_) => at.issue(WANTED),
    }
}

/// A text in the form of RFC 3339; jiff also reads other forms, and no more than nine digits of a fraction.
fn rfc3339(text: &str) -> Option<String> {
    const SHAPE: &[u8] = b"0000-00-00T00:00:00";
    let fits = |(byte, shape): (u8, &u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        b'T' => byte.eq_ignore_ascii_case(&b'T'),
        other => byte == *other,
    };
    let (head, rest) = text.split_at_checked(SHAPE.len())?;
    let digits = rest.strip_prefix('.').map(|rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    let (fraction, offset) = rest.split_at_checked(digits.map_or(0, |digits| digits + 1))?;
    let is_offset = match offset.as_bytes() {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => {
            [h1, h2, m1, m2].iter().all(|byte| byte.is_ascii_digit())
                && *h1 <= b'2'
                && *m1 <= b'5'
                && (*h1, *h2) < (b'2', b'4')
        }
        _ => false,
    };
    let good = head.bytes().zip(SHAPE).all(fits) && is_offset && digits != Some(0);
    good.then(|| format!("{head}{}{offset}", fraction.get(..10).unwrap_or(fraction)))
}

/// A free JSON object.
pub fn object(value: &Value<'_>, at: &mut Decoder) -> Option<prost_types::Struct> {
    let Value::Object(entries) = value else { return at.wrong("an object", value) };
    let mut fields = std::collections::BTreeMap::new();
    for (key, value) in entries {
        if let Some(value) = at.inside(key, |at| any(value, at)) {
            fields.insert(key.clone().into_owned(), value);
        }
    }
    Some(prost_types::Struct { fields })
}

/// Any JSON value.
pub fn any(value: &Value<'_>, at: &mut Decoder) -> Option<prost_types::Value> {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(exact(number, at)?),
        Value::Text(text) => Kind::StringValue(text.clone().into_owned()),
        Value::List(items) => {
            let mut values = vec![];
            for (index, item) in items.iter().enumerate() {
                at.path.push_index(index);
                values.extend(any(item, at));
                at.path.pop();
            }
            Kind::ListValue(prost_types::ListValue { values })
        }
        Value::Object(_) => Kind::StructValue(object(value, at)?),
    };
    Some(prost_types::Value { kind: Some(kind) })
}

/// A double that is the number as written, or an issue: a rounded id would be lost data.
fn exact(number: &serde_json::Number, at: &mut Decoder) -> Option<f64> {
    let float = number.as_f64()?;
    // 2^53 + 1 is 2^53 as a double already, and what exceeds 64 bits was read as one.
    let beyond = number.as_i128().is_some_and(|whole| whole.unsigned_abs() > 1 << 53);
    if beyond || (float.fract() == 0.0 && float.abs() > encode::EXACT_INTEGER_MAX) {
        return at.issue("Whole numbers beyond 2^53 are not exact; send it as a string");
    }
    Some(float)
}

/// `"x"` as the input of a procedure that takes one field.
#[must_use]
pub fn wrap<'a>(key: &'static str, value: Value<'a>) -> Value<'a> {
    Value::Object(vec![(Cow::Borrowed(key), value)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::encode::Time;

    fn read(text: &str) -> Option<String> {
        let time = time(&Value::Text(text.into()), &mut Decoder::default())?;
        Some(serde_json::to_string(&Time(&time)).unwrap())
    }

    #[test]
    fn times_are_read_as_rfc_3339_says_and_no_other_way() {
        for (text, written) in [
            ("2026-01-05T14:52:47Z", "\"2026-01-05T14:52:47.000Z\""),
            ("2026-01-05t14:52:47.9876543210123z", "\"2026-01-05T14:52:47.987Z\""),
            ("2026-01-05T16:52:47.5+02:00", "\"2026-01-05T14:52:47.500Z\""),
            ("1969-12-31T23:59:59.250-00:00", "\"1969-12-31T23:59:59.250Z\""),
            ("0001-01-01T00:00:00Z", "\"0001-01-01T00:00:00.000Z\""),
        ] {
            assert_eq!(read(text).as_deref(), Some(written), "{text}");
        }
        for text in [
            "",
            "2026-01-05",
            "2026-01-05 14:52:47Z",
            "2026-01-05T14:52:47",
            "2026-01-05T14:52:47+02",
            "2026-01-05T14:52:47+0200",
            "2026-01-05T14:52:47,5Z",
            "2026-01-05T14:52:47.Z",
            "2026-01-05T145247.00000Z",
            "2026-01-05T14:52:47+02:00:30",
            "2026-01-05T14:52:47+25:59",
            "2026-13-05T14:52:47Z",
            "2026-02-30T14:52:47Z",
            "2026-01-05T14:52:47Z[UTC]",
            "+002026-01-05T14:52:47Z",
            "2026-01-05T14:52:47é",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
