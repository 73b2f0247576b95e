//! Where the dates of a result are.
//!
//! oRPC clients turn a string into a `Date` only where the answer's `meta` says so.

use serde::ser::{Serialize, SerializeSeq, Serializer};

/// A message that knows where its dates are. Generated.
pub trait Dates {
    /// Adds the path of every date that is set.
    fn dates(&self, found: &mut DatePaths);
}

impl<T: Dates> Dates for Option<T> {
    fn dates(&self, found: &mut DatePaths) {
        if let Some(inner) = self {
            inner.dates(found);
        }
    }
}

impl<T: Dates> Dates for Vec<T> {
    fn dates(&self, found: &mut DatePaths) {
        for (index, item) in self.iter().enumerate() {
            found.step(Step::Index(index), item);
        }
    }
}

/// The paths found so far, and the one being walked.
#[derive(Default)]
pub struct DatePaths {
    here: Vec<Step>,
    found: Vec<Vec<Step>>,
}

#[derive(Clone)]
enum Step {
    Key(&'static str),
    Entry(String),
    Index(usize),
}

impl DatePaths {
    /// There is a date under this key.
    pub fn date(&mut self, key: &'static str) {
        let mut path = self.here.clone();
        path.push(Step::Key(key));
        self.found.push(path);
    }

    /// There may be dates inside of what is under this key.
    pub fn inside(&mut self, key: &'static str, value: &impl Dates) {
        self.step(Step::Key(key), value);
    }

    /// There may be dates inside of the entries of the object under this key.
    pub fn inside_map<'v, D: Dates + 'v>(
        &mut self,
        key: &'static str,
        entries: impl Iterator<Item = (&'v str, &'v D)>,
    ) {
        self.here.push(Step::Key(key));
        for (entry, value) in entries {
            self.step(Step::Entry(entry.to_owned()), value);
        }
        self.here.pop();
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    fn step(&mut self, step: Step, value: &impl Dates) {
        self.here.push(step);
        value.dates(self);
        self.here.pop();
    }
}

/// `[[1,"systems",0,"createdAt"], …]`: oRPC's type code 1, then the path.
impl Serialize for DatePaths {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.found.iter().map(|path| Revived(path)))
    }
}

struct Revived<'a>(&'a [Step]);

impl Serialize for Revived<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const DATE: u8 = 1;
        let mut item = serializer.serialize_seq(Some(self.0.len() + 1))?;
        item.serialize_element(&DATE)?;
        for step in self.0 {
            match step {
                Step::Key(key) => item.serialize_element(key)?,
                Step::Entry(key) => item.serialize_element(key)?,
                Step::Index(index) => item.serialize_element(index)?,
            }
        }
        item.end()
    }
}
