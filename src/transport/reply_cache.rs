//! Answers of queries, kept until the data that they follow from changes.
//!
//! Which queries take part, and from which plugins' data their answers follow, their .proto says
//! (`(checkmate.options.v1.cache)`). An answer is kept with the version that this data had before it was read, and given
//! out while that version stands: a write of this process is seen by the next read, one made elsewhere when the change
//! feed shows it, which the Gate waits 2 s for at most before it refuses everybody.

use super::metrics::Metrics;
use crate::access::gate::Admitted;
use crate::contract::methods;
use crate::database::{Dependency, Version, Versions};
use crate::error::{Error, Result};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, PRAGMA};
use http::{HeaderMap, HeaderValue};
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt::Write;

/// A longer input is not worth keeping as a key: honest ones are a few hundred bytes.
const INPUT_BYTES_MAX: usize = 4_096;

/// An entry costs this beside its input and its answer: the key, the tag, and its place in the table.
const ENTRY_BYTES: usize = 256;

/// For the first size of the table only.
const ENTRY_BYTES_EXPECTED: usize = 16 * 1024;

/// An answer is kept if it fits into one shard, so this is the share of the whole that one answer may take.
const SHARDS: usize = 8;

/// The kept answers.
pub struct ReplyCache {
    kept: Cache<Question, Kept, Bytewise>,
    dependencies: HashMap<&'static str, Dependency>,
    metrics: Metrics,
}

/// A finished answer. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Finished {
    /// As it is sent.
    pub(super) body: Bytes,
    /// Its weak entity tag, if it is the answer of a query in JSON.
    pub(super) tag: Option<HeaderValue>,
    /// Whether it was given before, to the same idempotency key.
    pub(super) is_replayed: bool,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Form {
    /// The result as JSON.
    Plain,
    /// Under its name, as the whole answer of a batch of one.
    Named(&'static str),
    /// In oRPC's envelope.
    Enveloped,
    /// A gRPC message with its prefix.
    Protobuf,
}

/// Whether a kept answer will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    /// It will.
    AsKept,
    /// It is to be made anew.
    Anew,
}

/// What a look came to.
pub(super) enum Look {
    /// Here it is.
    Hit(Finished),
    /// To be made; with a pledge it may be kept.
    Miss(Option<Pledge>),
}

/// Leave to keep the answer that is about to be made: it remembers the version from before the data is read.
pub(super) struct Pledge {
    question: Question,
    version: Version,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    path: &'static str,
    form: Form,
    /// Which of the method's permissions the caller holds.
    held: u32,
    input: Bytes,
}

#[derive(Clone)]
struct Kept {
    version: Version,
    answer: Finished,
}

#[derive(Clone)]
struct Bytewise;

impl Weighter<Question, Kept> for Bytewise {
    fn weight(&self, question: &Question, kept: &Kept) -> u64 {
        (question.input.len() + kept.answer.body.len() + ENTRY_BYTES) as u64
    }
}

impl ReplyCache {
    /// An empty one of at most so many bytes; none at all keeps nothing.
    pub fn new(bytes_max: usize, versions: &Versions, metrics: Metrics) -> Result<Self> {
        let options = OptionsBuilder::new()
            .shards(SHARDS)
            .estimated_items_capacity(bytes_max / ENTRY_BYTES_EXPECTED + SHARDS)
            .weight_capacity(bytes_max as u64)
            .build();
        let options = options.map_err(|why| Error::bug(format!("the reply cache: {why}")))?;
        let kept = Cache::with_options(options, Bytewise, DefaultHashBuilder::default(), DefaultLifecycle::default());
        let cached = methods().filter(|method| bytes_max > 0 && !method.depends_on.is_empty());
        let dependencies = cached.map(|method| (method.path, versions.of(method.depends_on))).collect();
        Ok(Self { kept, dependencies, metrics })
    }

    /// The kept answer to an input, if there is one that holds.
    pub(super) fn look(&self, admitted: &Admitted, form: Form, input: Bytes, freshness: Freshness) -> Look {
        let method = admitted.method();
        let Some(dependency) = self.dependencies.get(method.path) else { return Look::Miss(None) };
        if input.len() > INPUT_BYTES_MAX {
            return Look::Miss(None);
        }
        let question = Question { path: method.path, form, held: admitted.held(), input };
        let version = dependency.version();
        if freshness == Freshness::AsKept
            && let Some(kept) = self.kept.get(&question)
            && kept.version == version
        {
            self.metrics.replies_kept.inc();
            return Look::Hit(kept.answer);
        }
        self.metrics.replies_made.inc();
        Look::Miss(Some(Pledge { question, version }))
    }

    /// Keeps an answer.
    pub(super) fn keep(&self, pledge: Pledge, answer: &Finished) {
        let Pledge { mut question, version } = pledge;
        // The input may be a slice of a larger body, which must not be kept with it.
        question.input = Bytes::copy_from_slice(&question.input);
        self.kept.insert(question, Kept { version, answer: answer.clone() });
    }

    /// Bytes that are kept.
    pub(super) fn bytes(&self) -> u64 {
        self.kept.weight()
    }
}

impl Finished {
    /// An answer in JSON; that of a query gets a tag.
    pub(super) fn json(body: Bytes, is_query: bool) -> Self {
        let tag = is_query.then(|| weak_tag([&*body]));
        Self { body, tag, is_replayed: false }
    }

    /// An answer in gRPC.
    pub(super) fn protobuf(body: Bytes) -> Self {
        Self { body, tag: None, is_replayed: false }
    }
}

/// A weak entity tag (RFC 9110, section 8.8.3) of what an answer is made of: the same on every replica.
pub(super) fn weak_tag<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> HeaderValue {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let mut text = String::with_capacity(36);
    text.push_str("W/\"");
    for byte in digest.finalize().iter().take(16) {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.push('"');
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("W/\"\""))
}

/// What a request says about kept answers: RFC 9111, section 5.2.1; in gRPC the metadata of the same name.
pub(super) fn freshness(headers: &HeaderMap) -> Freshness {
    let says = |name, wanted: &[&str]| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        let mut directives = values.flat_map(|text| text.split(',')).map(str::trim);
        directives.any(|directive| wanted.iter().any(|known| directive.eq_ignore_ascii_case(known)))
    };
    if says(CACHE_CONTROL, &["no-cache", "no-store", "max-age=0"]) || says(PRAGMA, &["no-cache"]) {
        return Freshness::Anew;
    }
    Freshness::AsKept
}
