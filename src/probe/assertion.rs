//! Assertions: what a user expects of what a probe found, `{field, jsonPath?, operator, value?}`.
//!
//! Everything that can be wrong with one is found when it is saved: what is judged later is either true or not. The rules
//! are those that clients know, and a sentence says why one does not hold.

use super::Fault;
use super::json_path::JsonPath;
use super::operator::{Operator, Wants};
use super::pattern::Pattern;
use super::value::{Number, bounded, is_same, shown, text_of};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;

/// A longer text is not read as JSON.
const DOCUMENT_BYTES_MAX: usize = 2 << 20;

/// A path that leads to more nodes is not judged.
const NODES_MAX: usize = 1_000;

/// A value is compared with; a document to compare with is a check of its own.
const VALUE_BYTES_MAX: usize = 10_000;

/// What is expected of a field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Assertion {
    /// Which of the findings.
    pub field: String,
    /// Where in it: a `JSONPath` of RFC 9535. A text is read as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json_path: Option<String>,
    /// What is expected.
    pub operator: Operator,
    /// Compared with, if the operator compares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

/// What came of an assertion.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Whether it holds.
    pub passed: bool,
    /// What was found, cut to what can be shown: of several nodes the first that is not as expected. Of a field that is
    /// never stored ([`Ready::is_ephemeral`]) it must not be stored either.
    pub actual: Option<Value>,
    /// Why it does not hold. It has no value of a field that is never stored.
    pub message: Option<String>,
}

/// An assertion that can be judged.
#[derive(Debug)]
pub struct Ready {
    field: String,
    path: Option<(String, JsonPath)>,
    operator: Operator,
    value: Value,
    pattern: Option<Pattern>,
    is_ephemeral: bool,
}

impl Assertion {
    /// Makes it ready to judge findings of this schema, or says what is wrong: faults are of `field`, `jsonPath`,
    /// `operator` or `value`.
    pub fn prepare(&self, findings_schema: &Value) -> Result<Ready, Vec<Fault>> {
        let (field, written_path) = self.place();
        let mut faults = vec![];
        let known = findings_schema.get("properties").and_then(Value::as_object);
        let schema = known.and_then(|known| known.get(field));
        if schema.is_none() {
            let names: Vec<_> = known.into_iter().flat_map(Map::keys).map(String::as_str).collect();
            faults.push(Fault::new("field", format!("Is not a field of the result: {}", names.join(", "))));
        }
        let path = written_path.map(|text| JsonPath::parse(text).map(|path| (text.to_owned(), path))).transpose();
        let path = path.map_err(|why| faults.push(Fault::new("jsonPath", why))).unwrap_or_default();
        let value = self.wanted().map_err(|why| faults.push(Fault::new("value", why))).unwrap_or_default();
        let pattern = match (self.operator, &value) {
            (Operator::Matches, Value::String(text)) => Pattern::new(text).map(Some),
            _ => Ok(None),
        };
        let pattern = pattern.map_err(|why| faults.push(Fault::new("value", why))).unwrap_or_default();
        if !faults.is_empty() {
            return Err(faults);
        }
        let is_ephemeral = schema.and_then(|schema| schema.get("x-ephemeral")) == Some(&Value::Bool(true));
        Ok(Ready { field: field.to_owned(), path, operator: self.operator, value, pattern, is_ephemeral })
    }

    /// Whether it has an expression, which is compiled: that takes long beside the rest of a plan.
    #[must_use]
    pub fn has_expression(&self) -> bool {
        self.operator == Operator::Matches || self.place().1.is_some()
    }

    /// Older clients wrote the field `body.$` for what a path is applied to.
    fn place(&self) -> (&str, Option<&str>) {
        match (self.field.strip_suffix(".$"), self.json_path.as_deref()) {
            (Some(field), None) => (field, Some("$")),
            (Some(field), path) => (field, path),
            (None, path) => (&self.field, path),
        }
    }

    fn wanted(&self) -> Result<Value, String> {
        let (wants, operator) = (self.operator.wants(), self.operator.as_str());
        let value = match (&self.value, wants) {
            (None, Wants::Nothing) => return Ok(Value::Null),
            (None | Some(Value::Null), _) => return Err(format!("{operator} compares with a value")),
            (Some(_), Wants::Nothing) => return Err(format!("{operator} compares with nothing")),
            (Some(value), _) => value,
        };
        if value.to_string().len() > VALUE_BYTES_MAX {
            return Err(format!("Must not be longer than {VALUE_BYTES_MAX} bytes"));
        }
        let is_fit = match wants {
            Wants::Nothing | Wants::Any => true,
            Wants::Number => Number::of(value).is_some(),
            Wants::Length => matches!(Number::of(value), Some(Number::Integer(length)) if length >= 0),
            Wants::Text => !value.is_array() && !value.is_object(),
            Wants::Pattern => value.is_string(),
        };
        if is_fit { Ok(value.clone()) } else { Err(format!("{operator} compares with {wants}")) }
    }
}

/// Judges assertions in order. A text is read as JSON once for all of them.
#[must_use]
pub fn judge(assertions: &[Ready], findings: &Map<String, Value>) -> Vec<Judged> {
    let mut documents = Documents::default();
    assertions.iter().map(|assertion| assertion.judge_in(findings, &mut documents)).collect()
}

/// What texts are as JSON, by field.
#[derive(Default)]
struct Documents(HashMap<String, Result<Value, String>>);

impl Ready {
    /// Judges what was found.
    #[must_use]
    pub fn judge(&self, findings: &Map<String, Value>) -> Judged {
        self.judge_in(findings, &mut Documents::default())
    }

    /// Whether it is about a field that is never stored.
    #[must_use]
    pub fn is_ephemeral(&self) -> bool {
        self.is_ephemeral
    }

    fn judge_in(&self, findings: &Map<String, Value>, documents: &mut Documents) -> Judged {
        let found = findings.get(&self.field);
        let Some((_, path)) = &self.path else {
            return self.judge_nodes(&Vec::from_iter(found));
        };
        let document = match found {
            None | Some(Value::Null) => return self.judge_nodes(&[]),
            Some(Value::String(text)) => {
                let read = documents.0.entry(self.field.clone()).or_insert_with(|| read(text));
                match read {
                    Ok(document) => &*document,
                    Err(why) => return Judged::failed(None, format!("{} {why}", self.field)),
                }
            }
            Some(found) => found,
        };
        match path.follow(document) {
            Ok(nodes) if nodes.len() <= NODES_MAX => self.judge_nodes(&nodes),
            Ok(_) => Judged::failed(None, format!("{} leads to more than {NODES_MAX} nodes", self.place())),
            Err(_) => Judged::failed(None, format!("{} takes too long to follow", self.place())),
        }
    }

    /// It holds if it does for each of them; of none, if it does for what does not exist.
    fn judge_nodes(&self, nodes: &[&Value]) -> Judged {
        let first = [nodes.iter().copied().find(|node| !node.is_null()).unwrap_or(&Value::Null)];
        let is_about_any = matches!(self.operator, Operator::Exists | Operator::NotExists);
        let nodes = if is_about_any || nodes.is_empty() { first.as_slice() } else { nodes };
        for node in nodes {
            match self.holds(node) {
                Some(true) => {}
                Some(false) => return Judged::failed(found(node), self.explain(node)),
                None => {
                    let why = format!("{} is too long to be searched for this expression", self.place());
                    return Judged::failed(found(node), why);
                }
            }
        }
        Judged { passed: true, actual: nodes.first().and_then(|node| found(node)), message: None }
    }

    /// `None`: that takes too long to say.
    fn holds(&self, actual: &Value) -> Option<bool> {
        let expected = &self.value;
        let text = || text_of(actual);
        Some(match self.operator {
            Operator::Exists => !actual.is_null(),
            Operator::NotExists => actual.is_null(),
            Operator::IsTrue => *actual == Value::Bool(true),
            Operator::IsFalse => *actual == Value::Bool(false),
            Operator::Includes => items(actual).is_some_and(|items| items.iter().any(|item| is_same(item, expected))),
            Operator::NotIncludes => {
                items(actual).is_some_and(|items| !items.iter().any(|item| is_same(item, expected)))
            }
            Operator::LengthEquals => self.length(actual) == Some(Ordering::Equal),
            Operator::LengthGreaterThan => self.length(actual) == Some(Ordering::Greater),
            Operator::LengthLessThan => self.length(actual) == Some(Ordering::Less),
            Operator::IsEmpty => is_empty(actual),
            Operator::IsNotEmpty => !is_empty(actual),
            Operator::LessThan => self.order(actual).is_some_and(Ordering::is_lt),
            Operator::LessThanOrEqual => self.order(actual).is_some_and(Ordering::is_le),
            Operator::GreaterThan => self.order(actual).is_some_and(Ordering::is_gt),
            Operator::GreaterThanOrEqual => self.order(actual).is_some_and(Ordering::is_ge),
            Operator::Equals => is_same(actual, expected),
            Operator::NotEquals => !is_same(actual, expected),
            Operator::Contains => text().contains(&*text_of(expected)),
            Operator::NotContains => !text().contains(&*text_of(expected)),
            Operator::StartsWith => text().starts_with(&*text_of(expected)),
            Operator::EndsWith => text().ends_with(&*text_of(expected)),
            Operator::Matches => return self.pattern.as_ref().map_or(Some(false), |pattern| pattern.is_match(&text())),
        })
    }

    fn order(&self, actual: &Value) -> Option<Ordering> {
        Number::of(actual)?.compare(Number::of(&self.value)?)
    }

    fn length(&self, actual: &Value) -> Option<Ordering> {
        let length = i128::try_from(items(actual)?.len()).ok()?;
        Number::Integer(length).compare(Number::of(&self.value)?)
    }

    /// The field, and where in it: `body $.items[0]`.
    fn place(&self) -> Cow<'_, str> {
        match &self.path {
            Some((text, _)) => Cow::Owned(format!("{} {text}", self.field)),
            None => Cow::Borrowed(&self.field),
        }
    }

    /// `statusCode is 500: equals 200 is expected`.
    fn explain(&self, actual: &Value) -> String {
        let is = match (actual, self.is_ephemeral) {
            (Value::Null, _) => "does not exist".into(),
            (_, true) => "is not as expected".into(),
            (_, false) => format!("is {}", shown(actual)),
        };
        let (place, operator) = (self.place(), self.operator.as_str());
        if self.operator.wants() == Wants::Nothing {
            return format!("{place} {is}: {operator} is expected");
        }
        format!("{place} {is}: {operator} {} is expected", shown(&self.value))
    }
}

impl Judged {
    fn failed(actual: Option<Value>, message: String) -> Self {
        Self { passed: false, actual, message: Some(message) }
    }
}

fn read(text: &str) -> Result<Value, String> {
    if text.len() > DOCUMENT_BYTES_MAX {
        return Err(format!("is longer than {DOCUMENT_BYTES_MAX} bytes, and not read as JSON"));
    }
    serde_json::from_str(text).map_err(|why| format!("is not JSON: {why}"))
}

fn found(node: &Value) -> Option<Value> {
    (!node.is_null()).then(|| bounded(node))
}

fn items(value: &Value) -> Option<&Vec<Value>> {
    value.as_array()
}

/// Nothing, false, zero, no items, or nothing but blanks.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(is) => !is,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}
