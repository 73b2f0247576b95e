//! A parsed JSON text that borrows from it.
//!
//! Unlike `serde_json::Value` it keeps the order of keys, refuses a key that is written twice (a map would silently
//! keep the last one, and a mutation would vanish), and has a limit of its own for depth.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// One JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number: whole numbers between -2^63 and 2^64 exactly, others as a double.
    Number(serde_json::Number),
    /// A string.
    Text(Cow<'a, str>),
    /// An array.
    List(Vec<Value<'a>>),
    /// An object: its entries as written.
    Object(Vec<Entry<'a>>),
}

/// A key with its value.
pub type Entry<'a> = (Cow<'a, str>, Value<'a>);

impl<'a> Value<'a> {
    /// Parses a whole text that nests at most `depth_max` levels. The error says what is wrong and where.
    pub fn parse(text: &'a [u8], depth_max: usize) -> Result<Self, serde_json::Error> {
        let mut parser = serde_json::Deserializer::from_slice(text);
        let value = Depth(depth_max).deserialize(&mut parser)?;
        parser.end()?;
        Ok(value)
    }

    /// What it is, with an article: for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::List(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// Keys in the order written: equal values have equal texts.
impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Object(entries) => serializer.collect_map(entries.iter().map(|(key, value)| (key, value))),
        }
    }
}

/// How many levels may still be opened.
#[derive(Clone, Copy)]
struct Depth(usize);

impl Depth {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        self.0.checked_sub(1).map(Self).ok_or_else(|| E::custom("JSON nests too deeply"))
    }
}

impl<'de> DeserializeSeed<'de> for Depth {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Depth {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value<'de>, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value<'de>, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value<'de>, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value<'de>, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value<'de>, E> {
        serde_json::Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value<'de>, E> {
        Ok(Value::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value<'de>, A::Error> {
        let inner = self.deeper()?;
        let mut list = vec![];
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value<'de>, A::Error> {
        let inner = self.deeper()?;
        let mut object: Vec<Entry<'de>> = vec![];
        // A set only for large objects: comparing a handful of keys is cheaper than hashing them.
        let mut seen = std::collections::HashSet::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            let twice = if object.len() < 16 {
                object.iter().any(|(known, _)| *known == key)
            } else {
                if seen.is_empty() {
                    seen.extend(object.iter().map(|(known, _)| known.clone()));
                }
                seen.contains(&key)
            };
            if twice {
                return Err(A::Error::custom(format_args!("Duplicate key: {key}")));
            }
            if !seen.is_empty() {
                seen.insert(key.clone());
            }
            object.push((key, entries.next_value_seed(inner)?));
        }
        Ok(Value::Object(object))
    }
}

/// A key, borrowed unless it has escapes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_written_twice_is_refused_at_every_level_and_in_every_spelling() {
        let many = (0..40).fold(String::new(), |text, n| format!("{text}\"k{n}\":0,"));
        for text in [
            r#"{"a":1,"a":2}"#.to_owned(),
            r#"{"x":{"a":1,"\u0061":2}}"#.to_owned(),
            r#"[{"b":{"a":1,"a":1}}]"#.to_owned(),
            format!("{{{many}\"k3\":1}}"),
            format!("{{{many}\"z\":1,\"z\":1}}"),
        ] {
            let refusal = Value::parse(text.as_bytes(), 64).unwrap_err().to_string();
            assert!(refusal.starts_with("Duplicate key: "), "{text}: {refusal}");
        }
    }

    #[test]
    fn what_is_written_is_what_was_read() {
        let text = r#"{"b":[null,true,-1,1.0,1e300,"a\"\u0000é"],"a":{},"c":18446744073709551615}"#;
        let value = Value::parse(text.as_bytes(), 64).unwrap();
        let written = serde_json::to_string(&value).unwrap();
        assert_eq!(written, text.replace("1e300", "1e+300"));
    }

    #[test]
    fn depth_is_limited_exactly() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Value::parse(nested(64).as_bytes(), 64).is_ok());
        assert!(Value::parse(nested(65).as_bytes(), 64).is_err());
        assert!(Value::parse(nested(100_000).as_bytes(), 64).is_err());
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in ["", "{", "{}x", "nul", "1e999", "\"\\ud800\"", "\"\u{1}\"", "{1:2}", "[1,]"] {
            assert!(Value::parse(text.as_bytes(), 64).is_err(), "{text}");
        }
        assert!(Value::parse(b"\"\xff\"", 64).is_err());
    }
}
