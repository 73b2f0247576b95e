//! What is wrong with an input, and where.

use crate::access::Token;
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// Where in an input: `data.name`, `roles[2]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl Path {
    /// Goes inside of a key.
    pub fn push_key(&mut self, key: &str) {
        /// A key may be as long as the body; an answer says enough of it to find it.
        const CHARS_MAX: usize = 100;
        self.0.push(Step::Key(key.chars().take(CHARS_MAX).collect()));
    }

    /// Goes inside of an item of a list.
    pub fn push_index(&mut self, index: usize) {
        self.0.push(Step::Index(index));
    }

    /// Comes out again.
    pub fn pop(&mut self) {
        self.0.pop();
    }

    fn covers(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if at == 0 => f.write_str(&Token::hidden_in(key))?,
                Step::Key(key) => write!(f, ".{}", Token::hidden_in(key))?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// As existing clients know it: `["data", "name"]`, `["roles", 2]`.
impl Serialize for Path {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Part<'a> {
            Key(Cow<'a, str>),
            Index(usize),
        }
        serializer.collect_seq(self.0.iter().map(|step| match step {
            Step::Key(key) => Part::Key(Token::hidden_in(key)),
            Step::Index(index) => Part::Index(*index),
        }))
    }
}

/// One violation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Issue {
    /// Where.
    pub path: Path,
    /// What, for a person.
    pub message: String,
}

/// Every violation of one input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Issues(Vec<Issue>);

impl Issues {
    /// More than these help nobody, and an input of 2 MiB could have a million.
    const MAX: usize = 50;

    /// One violation.
    #[must_use]
    pub fn one(key: &str, message: impl Into<String>) -> Self {
        let mut issues = Self::default();
        let mut path = Path::default();
        path.push_key(key);
        issues.add(&path, message);
        issues
    }

    /// Adds a violation of an item of a list.
    pub fn add_item(&mut self, key: &str, index: usize, message: impl Into<String>) {
        let mut path = Path::default();
        path.push_key(key);
        path.push_index(index);
        self.add(&path, message);
    }

    /// Adds a violation, unless this place, or one around it, has one already: the first says what is wrong.
    pub fn add(&mut self, path: &Path, message: impl Into<String>) {
        if self.0.len() < Self::MAX && !self.0.iter().any(|known| known.path.covers(path)) {
            let message = Token::hidden_in(&message.into()).into_owned();
            self.0.push(Issue { path: path.clone(), message });
        }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The violations, in the order found.
    pub fn iter(&self) -> impl Iterator<Item = &Issue> {
        self.0.iter()
    }
}

/// The violations in one line, for clients that show the message only.
impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        f.write_str("Input validation failed")?;
        for (at, issue) in self.0.iter().take(SHOWN).enumerate() {
            f.write_str(if at == 0 { ": " } else { "; " })?;
            let path = issue.path.to_string();
            // A key may be as long as the body.
            let shown: String = path.chars().take(100).collect();
            if !shown.is_empty() {
                write!(f, "{shown}: ")?;
            }
            f.write_str(&issue.message)?;
        }
        if self.0.len() > SHOWN {
            write!(f, "; and {} more", self.0.len() - SHOWN)?;
        }
        Ok(())
    }
}
