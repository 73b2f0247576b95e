//! Which answers are good.

use schemars::JsonSchema;
use serde::Deserialize;
use std::ops::RangeInclusive;

/// As the settings say it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a status like 200, \"2xx\" or \"200-299\", or a list of these")]
pub(super) enum Expected {
    /// One.
    One(Status),
    /// Any of these.
    Any(Vec<Status>),
}

/// `200`, `"2xx"`, `"200-299"`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a status like 200, \"2xx\" or \"200-299\"")]
pub(super) enum Status {
    /// A number.
    Code(u16),
    /// A range.
    Text(String),
}

/// Ranges of numbers.
#[derive(Debug)]
pub(super) struct Statuses(Vec<RangeInclusive<u16>>);

impl Statuses {
    /// What is meant, or what cannot be.
    pub(super) fn of(expected: Option<&Expected>) -> Result<Self, String> {
        let listed = match expected {
            None => return Ok(Self(vec![200..=399])),
            Some(Expected::One(one)) => std::slice::from_ref(one),
            Some(Expected::Any(any)) => any.as_slice(),
        };
        if listed.is_empty() || listed.len() > 100 {
            return Err("Must name 1 to 100 statuses".into());
        }
        listed.iter().map(range).collect::<Result<_, _>>().map(Self)
    }

    /// Whether it is one of them.
    pub(super) fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

fn range(status: &Status) -> Result<RangeInclusive<u16>, String> {
    let text = match status {
        Status::Code(code) => &code.to_string(),
        Status::Text(text) => text.trim(),
    };
    let wrong =
        || format!("{:?} is not a status like 200, \"2xx\" or \"200-299\"", text.chars().take(40).collect::<String>());
    let number = |text: &str| text.trim().parse::<u16>().ok().filter(|code| (100..=599).contains(code));
    let class = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX"));
    if let Some(class) = class {
        let first = number(&format!("{class}00")).ok_or_else(wrong)?;
        return Ok(first..=first + 99);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_as_they_are_meant() {
        for (expected, good, bad) in [
            ("null", [200, 302, 399].as_slice(), [199, 400, 503].as_slice()),
            ("200", &[200], &[201]),
            ("\"401\"", &[401], &[200]),
            ("\"2xx\"", &[200, 299], &[199, 300]),
            ("[\"200-204\", 401, \"5XX\"]", &[200, 204, 401, 500, 599], &[205, 400, 402, 499]),
        ] {
            let read: Option<Expected> = serde_json::from_str(expected).unwrap();
            let statuses = Statuses::of(read.as_ref()).unwrap();
            assert!(good.iter().all(|code| statuses.contains(*code)), "{expected}");
            assert!(!bad.iter().any(|code| statuses.contains(*code)), "{expected}");
        }
        for wrong in ["99", "600", "\"xx\"", "\"6xx\"", "\"300-200\"", "\"ok\"", "[]", "\"200-\"", "\"-1\"", "\"20x\""]
        {
            let read: Expected = serde_json::from_str(wrong).unwrap();
            assert!(Statuses::of(Some(&read)).is_err(), "{wrong}");
        }
    }
}
