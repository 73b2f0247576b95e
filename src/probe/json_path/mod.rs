//! `JSONPath` (RFC 9535), followed for a bounded way.
//!
//! The path is a user's and the document a stranger's: `$..*..*..*` on a large document is more than anybody waits for.
//! The crate reads the path; it is followed here, because the crate counts no steps, writes down the way to each node, and
//! compiles a regular expression again for each of them.

mod typing;

use super::pattern::{Pattern, Whole};
use jsonpath_rust::parser::model::{
    Comparable, Comparison, Filter, FilterAtom, FnArg, JpQuery, Literal, Segment, Selector, SingularQuery,
    SingularQuerySegment, Test, TestFunction,
};
use jsonpath_rust::parser::parse_json_path;
use serde_json::Value;
use std::borrow::Cow;
use std::cell::Cell;
use std::cmp::Ordering;

/// Longer ones are no paths, but programs.
const CHARS_MAX: usize = 1_000;

/// The parser tries a function in three ways, and what is in it three times for each of them.
const FUNCTIONS_DEEP_MAX: usize = 4;

/// Filters in filters: each is one more factor of what a path costs.
const BRACKETS_DEEP_MAX: usize = 16;

/// How far a path is followed: some ten milliseconds.
const STEPS_MAX: usize = 500_000;

/// As many bytes of a text are looked through in the time of a step.
const BYTES_A_STEP: usize = 64;

/// A path that can be followed.
#[derive(Debug)]
pub(super) struct JsonPath {
    query: JpQuery,
    /// The regular expressions that stand in the path, ready; one that is none never matches (RFC 9535, 2.4.6).
    patterns: Vec<(String, Whole, Option<Pattern>)>,
}

/// The path leads too far.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooFar;

type Followed<T> = Result<T, TooFar>;

impl JsonPath {
    /// Reads a path. What is wrong with it is said as a sentence without a full stop.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.chars().count() > CHARS_MAX {
            return Err(format!("Must not be longer than {CHARS_MAX} characters"));
        }
        check_depth(text)?;
        let query = parse_json_path(text).map_err(|_| "Is not a JSONPath (RFC 9535), like $.items[0].name")?;
        let mut path = Self { query, patterns: vec![] };
        let segments = path.query.segments.clone();
        path.check_segments(&segments)?;
        Ok(path)
    }

    /// The nodes that the path leads to.
    pub(super) fn follow<'v>(&self, document: &'v Value) -> Followed<Vec<&'v Value>> {
        let walk = Walk { path: self, root: document, steps: Cell::new(0) };
        walk.segments(&self.query.segments, document)
    }
}

/// Before the parser, for which depth is time.
fn check_depth(text: &str) -> Result<(), String> {
    let (mut open, mut quote, mut before) = (vec![], None, ' ');
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(_), '\\') => drop(letters.next()),
            (Some(mark), _) if mark == letter => quote = None,
            (None, '\'' | '"') => quote = Some(letter),
            (None, '(' | '[') => open.push(letter == '(' && (before.is_ascii_lowercase() || before == '_')),
            (None, ')' | ']') => drop(open.pop()),
            (Some(_) | None, _) => {}
        }
        if open.len() > BRACKETS_DEEP_MAX
            || open.iter().filter(|is_function| **is_function).count() > FUNCTIONS_DEEP_MAX
        {
            return Err("Is nested too deeply".into());
        }
        before = letter;
    }
    Ok(())
}

fn whole(function: &TestFunction) -> Whole {
    if matches!(function, TestFunction::Match(..)) { Whole::Yes } else { Whole::No }
}

/// One way through one document.
struct Walk<'p, 'v> {
    path: &'p JsonPath,
    root: &'v Value,
    steps: Cell<usize>,
}

impl<'v> Walk<'_, 'v> {
    fn step(&self, steps: usize) -> Followed<()> {
        let taken = self.steps.get().saturating_add(steps);
        self.steps.set(taken);
        if taken > STEPS_MAX { Err(TooFar) } else { Ok(()) }
    }

    fn segments(&self, segments: &[Segment], from: &'v Value) -> Followed<Vec<&'v Value>> {
        let mut nodes = vec![from];
        for segment in segments {
            let mut next = vec![];
            for node in nodes {
                self.segment(segment, node, &mut next)?;
            }
            nodes = next;
        }
        Ok(nodes)
    }

    fn segment(&self, segment: &Segment, node: &'v Value, found: &mut Vec<&'v Value>) -> Followed<()> {
        self.step(1)?;
        match segment {
            Segment::Selector(selector) => self.select(selector, node, found),
            Segment::Selectors(selectors) => {
                selectors.iter().try_for_each(|selector| self.select(selector, node, found))
            }
            Segment::Descendant(inner) => {
                self.segment(inner, node, found)?;
                children(node).try_for_each(|child| self.segment(segment, child, found))
            }
        }
    }

    fn select(&self, selector: &Selector, node: &'v Value, found: &mut Vec<&'v Value>) -> Followed<()> {
        match selector {
            Selector::Name(name) => found.extend(node.as_object().and_then(|object| object.get(name))),
            Selector::Index(index) => found.extend(element(node, *index)),
            Selector::Wildcard => {
                for child in children(node) {
                    self.step(1)?;
                    found.push(child);
                }
            }
            Selector::Slice(start, end, by) => {
                for index in slice(node.as_array().map_or(0, Vec::len), *start, *end, by.unwrap_or(1)) {
                    self.step(1)?;
                    found.extend(element(node, index));
                }
            }
            Selector::Filter(filter) => {
                for child in children(node) {
                    self.step(1)?;
                    if self.filter(filter, child)? {
                        found.push(child);
                    }
                }
            }
        }
        Ok(())
    }

    fn filter(&self, filter: &Filter, node: &'v Value) -> Followed<bool> {
        match filter {
            Filter::Or(filters) => {
                for one in filters {
                    if self.filter(one, node)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Filter::And(filters) => {
                for one in filters {
                    if !self.filter(one, node)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Filter::Atom(FilterAtom::Filter { expr, not }) => Ok(self.filter(expr, node)? != *not),
            Filter::Atom(FilterAtom::Test { expr, not }) => Ok(self.test(expr, node)? != *not),
            Filter::Atom(FilterAtom::Comparison(comparison)) => self.compare(comparison, node),
        }
    }

    fn test(&self, test: &Test, node: &'v Value) -> Followed<bool> {
        match test {
            Test::RelQuery(segments) => Ok(!self.segments(segments, node)?.is_empty()),
            Test::AbsQuery(query) => Ok(!self.segments(&query.segments, self.root)?.is_empty()),
            Test::Function(function) => match function.as_ref() {
                TestFunction::Match(of, pattern) | TestFunction::Search(of, pattern) => {
                    self.matches(of, pattern, whole(function), node)
                }
                // Refused when the path was read.
                TestFunction::Length(_)
                | TestFunction::Value(_)
                | TestFunction::Count(_)
                | TestFunction::Custom(..) => Ok(false),
            },
        }
    }

    fn compare(&self, comparison: &Comparison, node: &'v Value) -> Followed<bool> {
        let (left, right) = comparison.vals();
        let (left, right) = (self.comparable(left, node)?, self.comparable(right, node)?);
        let (left, right) = (left.as_deref(), right.as_deref());
        let order = || left.zip(right).and_then(|(left, right)| order(left, right));
        Ok(match comparison {
            Comparison::Eq(..) => self.equal(left, right)?,
            Comparison::Ne(..) => !self.equal(left, right)?,
            Comparison::Lt(..) => order() == Some(Ordering::Less),
            Comparison::Gt(..) => order() == Some(Ordering::Greater),
            Comparison::Lte(..) => order() == Some(Ordering::Less) || self.equal(left, right)?,
            Comparison::Gte(..) => order() == Some(Ordering::Greater) || self.equal(left, right)?,
        })
    }

    fn comparable(&self, comparable: &Comparable, node: &'v Value) -> Followed<Option<Cow<'v, Value>>> {
        self.step(1)?;
        Ok(match comparable {
            Comparable::Literal(literal) => Some(Cow::Owned(value_of(literal))),
            Comparable::Function(function) => self.function(function, node)?,
            Comparable::SingularQuery(SingularQuery::Current(segments)) => single(segments, node).map(Cow::Borrowed),
            Comparable::SingularQuery(SingularQuery::Root(segments)) => single(segments, self.root).map(Cow::Borrowed),
        })
    }

    fn function(&self, function: &TestFunction, node: &'v Value) -> Followed<Option<Cow<'v, Value>>> {
        Ok(match function {
            TestFunction::Length(argument) => {
                let value = self.argument(argument, node)?;
                match value.as_deref() {
                    Some(Value::String(text)) => {
                        self.step(text.len() / BYTES_A_STEP)?;
                        Some(text.chars().count())
                    }
                    Some(Value::Array(items)) => Some(items.len()),
                    Some(Value::Object(members)) => Some(members.len()),
                    Some(Value::Null | Value::Bool(_) | Value::Number(_)) | None => None,
                }
                .map(|length| Cow::Owned(length.into()))
            }
            TestFunction::Count(argument) => Some(Cow::Owned(self.nodes(argument, node)?.len().into())),
            TestFunction::Value(argument) => match self.nodes(argument, node)?.as_slice() {
                [one] => Some(Cow::Borrowed(*one)),
                _ => None,
            },
            // Refused when the path was read.
            TestFunction::Custom(..) | TestFunction::Search(..) | TestFunction::Match(..) => None,
        })
    }

    fn nodes(&self, argument: &FnArg, node: &'v Value) -> Followed<Vec<&'v Value>> {
        match argument {
            FnArg::Test(test) => match test.as_ref() {
                Test::RelQuery(segments) => self.segments(segments, node),
                Test::AbsQuery(query) => self.segments(&query.segments, self.root),
                Test::Function(_) => Ok(vec![]),
            },
            FnArg::Literal(_) | FnArg::Filter(_) => Ok(vec![]),
        }
    }

    fn argument(&self, argument: &FnArg, node: &'v Value) -> Followed<Option<Cow<'v, Value>>> {
        match argument {
            FnArg::Literal(literal) => Ok(Some(Cow::Owned(value_of(literal)))),
            FnArg::Test(test) => match test.as_ref() {
                Test::Function(function) => self.function(function, node),
                Test::RelQuery(_) | Test::AbsQuery(_) => {
                    Ok(self.nodes(argument, node)?.first().map(|value| Cow::Borrowed(*value)))
                }
            },
            FnArg::Filter(_) => Ok(None),
        }
    }

    fn matches(&self, text: &FnArg, pattern: &FnArg, whole: Whole, node: &'v Value) -> Followed<bool> {
        let (text, pattern) = (self.argument(text, node)?, self.argument(pattern, node)?);
        let (Some(Value::String(text)), Some(Value::String(pattern))) = (text.as_deref(), pattern.as_deref()) else {
            return Ok(false);
        };
        let known = self.path.patterns.iter().find(|(of, is, _)| of == pattern && *is == whole);
        if let Some((_, _, known)) = known {
            let Some(known) = known else { return Ok(false) };
            self.step(known.steps(text))?;
            return known.is_match(text).ok_or(TooFar);
        }
        // It stands in the document. To make it ready takes longer than to use it.
        self.step(STEPS_MAX / 100)?;
        let Some(made) = Pattern::i_regexp(pattern, whole) else { return Ok(false) };
        self.step(made.steps(text))?;
        made.is_match(text).ok_or(TooFar)
    }

    /// As RFC 9535, 2.3.5.2.2 has it: what is not there equals what is not there.
    fn equal(&self, left: Option<&Value>, right: Option<&Value>) -> Followed<bool> {
        match (left, right) {
            (Some(left), Some(right)) => self.equal_values(left, right),
            (None, None) => Ok(true),
            (Some(_), None) | (None, Some(_)) => Ok(false),
        }
    }

    fn equal_values(&self, left: &Value, right: &Value) -> Followed<bool> {
        self.step(1)?;
        match (left, right) {
            (Value::Array(left), Value::Array(right)) => {
                for (left, right) in left.iter().zip(right) {
                    if !self.equal_values(left, right)? {
                        return Ok(false);
                    }
                }
                Ok(left.len() == right.len())
            }
            (Value::Object(left), Value::Object(right)) => {
                for (name, left) in left {
                    let Some(right) = right.get(name) else { return Ok(false) };
                    if !self.equal_values(left, right)? {
                        return Ok(false);
                    }
                }
                Ok(left.len() == right.len())
            }
            (Value::String(left), Value::String(right)) => {
                self.step(left.len().min(right.len()) / BYTES_A_STEP)?;
                Ok(left == right)
            }
            (left, right) => Ok(left == right || order(left, right) == Some(Ordering::Equal)),
        }
    }
}

fn children(node: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match node {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(members) => Box::new(members.values()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Box::new(std::iter::empty()),
    }
}

fn element(node: &Value, index: i64) -> Option<&Value> {
    let items = node.as_array()?;
    let index = if index < 0 { index.checked_add(i64::try_from(items.len()).ok()?)? } else { index };
    items.get(usize::try_from(index).ok()?)
}

/// The indexes of a slice, as RFC 9535, 2.3.4.2.2 counts them.
fn slice(len: usize, start: Option<i64>, end: Option<i64>, by: i64) -> Vec<i64> {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let from_the_start = |index: i64| if index < 0 { index.saturating_add(len) } else { index };
    let mut found = vec![];
    if by > 0 {
        let mut at = start.map_or(0, from_the_start).clamp(0, len);
        let end = end.map_or(len, from_the_start).clamp(0, len);
        while at < end {
            found.push(at);
            at = at.saturating_add(by);
        }
    } else if by < 0 {
        let mut at = start.map_or(len - 1, from_the_start).clamp(-1, len - 1);
        let end = end.map_or(-1, from_the_start).clamp(-1, len - 1);
        while at > end {
            found.push(at);
            at = at.saturating_add(by);
        }
    }
    found
}

fn single<'v>(segments: &[SingularQuerySegment], from: &'v Value) -> Option<&'v Value> {
    segments.iter().try_fold(from, |node, segment| match segment {
        SingularQuerySegment::Index(index) => element(node, *index),
        SingularQuerySegment::Name(name) => node.as_object()?.get(name),
    })
}

fn value_of(literal: &Literal) -> Value {
    match literal {
        Literal::Int(number) => (*number).into(),
        Literal::Float(number) => (*number).into(),
        Literal::String(text) => text.as_str().into(),
        Literal::Bool(is) => (*is).into(),
        Literal::Null => Value::Null,
    }
}

/// Numbers and texts have an order; nothing else has.
fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => match (left.as_i64(), right.as_i64()) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
        },
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_compliance_suite_is_followed() {
        let mut cases = 0;
        for line in include_str!("suite.jsonl").lines().filter(|line| !line.starts_with("//")) {
            let case: Vec<Value> = serde_json::from_str(line).unwrap();
            let path = JsonPath::parse(case[0].as_str().unwrap());
            cases += 1;
            let [_, document, results] = case.as_slice() else {
                assert!(path.is_err(), "{} is no path", case[0]);
                continue;
            };
            let found: Vec<Value> = path.unwrap().follow(document).unwrap().into_iter().cloned().collect();
            assert!(results.as_array().unwrap().contains(&Value::Array(found.clone())), "{}: {found:?}", case[0]);
        }
        assert_eq!(cases, 703);
    }

    #[test]
    fn a_hostile_path_on_a_hostile_document_is_given_up() {
        let row: Vec<Value> = (0..300).map(|number| json!({ "a": [number], "b": "aaaaaaaaaaaaaaaaaaaa!" })).collect();
        let deep = (0..100).fold(json!([]), |inner, _| json!([inner]));
        let document = json!({ "rows": row, "pattern": "(a+)+$", "deep": vec![deep; 50] });
        for path in [
            "$..*..*..*",
            "$..[?@..[?@..[?@..[?@..*]]]]",
            "$..[?count($..*..*) > 1]",
            "$.rows[?match(@.b, $.pattern)]",
            "$..[?$.rows == $.rows]",
        ] {
            let path = JsonPath::parse(path).unwrap();
            // So many steps are 10 ms where the compiler optimises.
            assert_eq!(path.follow(&document).map(|nodes| nodes.len()), Err(TooFar), "{path:?}");
        }
    }

    #[test]
    fn a_hostile_path_is_refused_in_words() {
        for (path, word) in [
            ("$[?length(length(length(length(x))))==1]".into(), "JSONPath"),
            ("$[?length(length(length(length(length(@)))))==1]".into(), "too deeply"),
            (format!("$[?{}@{}]", "(".repeat(100), ")".repeat(100)), "too deeply"),
            (format!("${}", "[?@".repeat(100)), "too deeply"),
            (format!("${}", "..*".repeat(400)), "1000 characters"),
            ("$[?in(@, $.list)]".into(), "not a function"),
        ] {
            let why = JsonPath::parse(&path).unwrap_err();
            assert!(why.contains(word), "{path}: {why}");
        }
    }
}
