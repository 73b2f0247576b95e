//! The log of a server in the test's process: every field of every span and event of every crate, at every level.

use crate::secrets::{Secrets, Where};
use std::cell::RefCell;
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex, Once, PoisonError};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::util::SubscriberInitExt;

/// What is kept before it is searched and forgotten.
const BYTES_MAX: usize = 4 << 20;
/// What stays even then: a key may be written before the test knows it.
const BYTES_KEPT: usize = 1 << 20;

/// What nobody looks at is forgotten.
const STATEMENTS_MAX: usize = 2_000;

/// The log of one server. Cheap to clone.
#[derive(Clone)]
pub struct Log(Arc<Mutex<Kept>>);

struct Kept {
    text: String,
    /// What the database was asked, since somebody last looked.
    statements: Vec<String>,
    found: Option<String>,
    secrets: Arc<Secrets>,
}

thread_local! {
    /// Where this thread writes; threads of tests and their clients do not.
    static HERE: RefCell<Option<Log>> = const { RefCell::new(None) };
}

impl Log {
    pub fn new(secrets: Arc<Secrets>) -> Self {
        static ONCE: Once = Once::new();
        // One for the whole process: threads that have no log are told apart below.
        ONCE.call_once(|| Collector.try_init().unwrap());
        Self(Arc::new(Mutex::new(Kept { text: String::new(), statements: vec![], found: None, secrets })))
    }

    /// From now on what this thread does is written here.
    pub fn follow_this_thread(&self) {
        HERE.set(Some(self.clone()));
    }

    /// What the log gives away.
    pub fn find(&self) -> Option<String> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.search();
        kept.found.clone()
    }

    pub fn contains(&self, text: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).text.contains(text)
    }

    /// What the database was asked since the last look, which forgets it.
    pub fn take_statements(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).statements)
    }

    fn note_statement(&self, statement: &str) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Of the last ones: most tests never look.
        if kept.statements.len() >= STATEMENTS_MAX {
            kept.statements.clear();
        }
        kept.statements.push(statement.to_owned());
    }

    fn write(&self, line: &str) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.text.push_str(line);
        if kept.text.len() > BYTES_MAX {
            kept.search();
            let mut from = kept.text.len() - BYTES_KEPT;
            while !kept.text.is_char_boundary(from) {
                from += 1;
            }
            kept.text.drain(..from);
        }
    }
}

impl Kept {
    fn search(&mut self) {
        if self.found.is_none() {
            self.found = self.secrets.find(Where::Log, self.text.as_bytes());
        }
    }
}

/// Gives each thread's log what happens there.
struct Collector;

impl Subscriber for Collector {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        // It depends on the thread.
        Interest::sometimes()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        HERE.try_with(|here| here.borrow().is_some()).unwrap_or_default()
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        line(span.metadata(), |line| span.record(line));
        // Nothing is looked up by it: every field is written as it comes.
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut line = Line(String::new());
        values.record(&mut line);
        line.end();
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        line(event.metadata(), |line| event.record(line));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn line(metadata: &Metadata<'_>, record: impl FnOnce(&mut Line)) {
    let mut line = Line(format!("{} {}", metadata.level(), metadata.target()));
    record(&mut line);
    line.end();
}

struct Line(String);

impl Line {
    fn end(mut self) {
        self.0.push('\n');
        let log = HERE.try_with(|here| here.borrow().clone()).ok().flatten();
        if let Some(log) = log {
            log.write(&self.0);
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "statement" {
            let log = HERE.try_with(|here| here.borrow().clone()).ok().flatten();
            if let Some(log) = log {
                log.note_statement(value);
            }
        }
        let _ = write!(self.0, " {}={value}", field.name());
    }
}
