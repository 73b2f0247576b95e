//! Every secret that the suite is given, and the search for it in all that a server leaves behind.
//!
//! `Server` and `Caller` use this by themselves, so no test has to think of it and none escapes it.

use aho_corasick::AhoCorasick;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use checkmate::access::{InstanceKey, Token};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// `ck_`, an id, `_`, 43 random characters, 6 of checksum.
const TOKEN_BYTES: usize = 3 + 36 + 1 + 43 + 6;
const RANDOM_CHARS: usize = 43;
/// A piece of a secret gives it away as well: a log that cuts its lines is no excuse. 62^16 is beyond coincidence.
const PIECE_CHARS: usize = 16;
/// The start of every token for reports.
const PUSH: &str = "hb_";
/// The start of every hash at rest.
const PHC: &str = "$argon2id$";

/// What was found is one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A key or a piece of its secret: nowhere.
    Key,
    /// Where a key may begin; it is one if the rest has its form and its checksum.
    Start,
    /// The instance key: in its own file only.
    Instance,
    /// Tags and hashes: in the database only.
    AtRest,
}

/// Where something was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// Headers and body, status and metadata, but for the one field that issues a key.
    Answer,
    Log,
    Metrics,
    /// What a process prints.
    Output,
    /// Files and write-ahead logs, or every value of every table.
    Database,
    /// The file of the instance key.
    KeyFile,
}

impl Where {
    fn may_hold(self, kind: Kind) -> bool {
        match kind {
            Kind::Key | Kind::Start => false,
            Kind::Instance => self == Self::KeyFile,
            Kind::AtRest => self == Self::Database,
        }
    }
}

/// The secrets of one installation: all servers on the same data share them.
#[derive(Default)]
pub struct Secrets(Mutex<Known>);

#[derive(Default)]
struct Known {
    keys: BTreeSet<String>,
    canaries: BTreeSet<String>,
    instance_keys: BTreeSet<String>,
    hashes: BTreeSet<String>,
    /// Other texts that are secret: tokens for reports, and settings of checks that are never shown.
    texts: BTreeSet<String>,
    /// Made when it is needed, forgotten when something new is known.
    search: Option<Arc<Search>>,
}

struct Search {
    automaton: AhoCorasick,
    kinds: Vec<Kind>,
}

/// The secrets of the servers that listen at an address.
static AT: LazyLock<Mutex<HashMap<String, Arc<Secrets>>>> = LazyLock::new(Mutex::default);

/// From now on the answers of this address may hold no secret of this installation.
pub fn guard(url: &str, secrets: &Arc<Secrets>) {
    lock(&AT).insert(url.trim_start_matches("http://").to_owned(), secrets.clone());
}

/// The secrets of an address; none are known of a server that is not ours.
pub fn at(url: &str) -> Arc<Secrets> {
    let address = url.trim_start_matches("http://").split('/').next().unwrap_or_default();
    lock(&AT).get(address).cloned().unwrap_or_default()
}

/// A test that failed must not fail the others.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Secrets {
    /// A key was issued.
    pub fn issued(&self, key: &str) {
        self.learn(|known| known.keys.insert(key.to_owned()));
    }

    /// A text is secret as it is.
    pub fn hidden(&self, text: &str) {
        self.learn(|known| known.texts.insert(text.to_owned()));
    }

    /// Keys were printed: whoever asked for them may read them there.
    pub fn printed(&self, text: &str) {
        let starts = text.match_indices("ck_").filter_map(|(start, _)| token_at(text.as_bytes(), start));
        for token in starts {
            self.issued(token.reveal());
        }
    }

    /// A secret of a test's own, which is to be found nowhere.
    pub fn canary(&self, text: &str) {
        self.learn(|known| known.canaries.insert(text.to_owned()));
    }

    /// The instance key is this: 64 hex digits.
    pub fn instance_key(&self, text: &str) {
        self.learn(|known| known.instance_keys.insert(text.trim().to_owned()));
    }

    /// How many keys are known.
    pub fn count(&self) -> usize {
        lock(&self.0).keys.len()
    }

    /// How many other texts are.
    pub fn count_texts(&self) -> usize {
        lock(&self.0).texts.len()
    }

    fn learn(&self, is_new: impl FnOnce(&mut Known) -> bool) {
        let mut known = lock(&self.0);
        if is_new(&mut known) {
            known.search = None;
        }
    }

    /// The first secret that may not be there, with what stands around it.
    pub fn find(&self, place: Where, bytes: &[u8]) -> Option<String> {
        if place == Where::Database {
            for hash in hashes(bytes) {
                self.learn(|known| known.hashes.insert(hash));
            }
        }
        let search = lock(&self.0).search();
        let found = search.automaton.find_overlapping_iter(bytes).find(|found| {
            let kind = search.kinds[found.pattern().as_usize()];
            !place.may_hold(kind) && (kind != Kind::Start || token_at(bytes, found.start()).is_some())
        })?;
        let around = &bytes[found.start().saturating_sub(200)..bytes.len().min(found.end() + 100)];
        let kind = search.kinds[found.pattern().as_usize()];
        Some(format!("{place:?} holds a secret ({kind:?}): {}", around.escape_ascii()))
    }

    /// Takes note of the keys that an answer issues; what else in it is secret is a leak.
    pub fn find_in_answer(&self, status: u16, headers: &str, text: &str) -> Option<String> {
        let mut rest = format!("{headers}\n{text}");
        if text.contains("ck_") || text.contains(PUSH) {
            let mut issued = vec![];
            let body = serde_json::from_str(text).unwrap_or_default();
            issuing(&body, (200..300).contains(&status), &mut issued);
            for key in issued {
                if key.starts_with(PUSH) {
                    self.hidden(&key);
                } else {
                    self.issued(&key);
                }
                rest = rest.replacen(&key, "", 1);
            }
        }
        self.find(Where::Answer, rest.as_bytes())
    }

    /// The same for a refusal over gRPC: message, details and metadata.
    pub fn find_in_status(&self, status: &tonic::Status) -> Option<String> {
        let said = [format!("{}\n{:?}\n", status.message(), status.metadata()).as_bytes(), status.details()].concat();
        self.find(Where::Answer, &said)
    }
}

/// The keys in fields named `secret`, and tokens for reports in those named `token`, which only results have: a refusal
/// may hold the results of other calls.
fn issuing(value: &Value, is_result: bool, issued: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if is_result && name == "secret" && Token::parse(text).is_some() => {
                        issued.push(text.into());
                    }
                    Some(text) if is_result && name == "token" && is_push_token(text) => issued.push(text.into()),
                    _ => issuing(value, is_result || name == "results", issued),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| issuing(item, is_result, issued)),
        _ => {}
    }
}

/// `hb_` and 43 letters.
fn is_push_token(text: &str) -> bool {
    let random = text.strip_prefix(PUSH).unwrap_or_default();
    random.len() == RANDOM_CHARS && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

impl Known {
    fn search(&mut self) -> Arc<Search> {
        let Self { keys, canaries, instance_keys, hashes, texts, search } = self;
        search.get_or_insert_with(|| Arc::new(Search::new(keys, canaries, instance_keys, hashes, texts))).clone()
    }
}

impl Search {
    fn new(
        keys: &BTreeSet<String>,
        canaries: &BTreeSet<String>,
        instance_keys: &BTreeSet<String>,
        hashes: &BTreeSet<String>,
        texts: &BTreeSet<String>,
    ) -> Self {
        let mut needles = vec![(Kind::Start, b"ck_".to_vec()), (Kind::AtRest, PHC.into())];
        let mut add = |kind, bytes: &[u8]| needles.extend(forms(bytes).into_iter().map(|form| (kind, form)));
        for key in keys {
            let random = &key.as_bytes()[TOKEN_BYTES - 49..TOKEN_BYTES - 6];
            for from in [0, PIECE_CHARS, RANDOM_CHARS - PIECE_CHARS] {
                add(Kind::Key, &random[from..from + PIECE_CHARS]);
            }
            add(Kind::Key, &from_base62(random));
        }
        for text in texts {
            let random = text.strip_prefix(PUSH).unwrap_or(text);
            let piece = random.len().min(PIECE_CHARS);
            add(Kind::Key, &random.as_bytes()[..piece]);
            add(Kind::Key, &random.as_bytes()[random.len() - piece..]);
        }
        for canary in canaries {
            add(Kind::Key, canary.as_bytes());
            let percent: String = form_urlencoded::byte_serialize(canary.as_bytes()).collect();
            needles_of_text(canary, &percent).for_each(|text| add(Kind::Key, text.as_bytes()));
        }
        for text in instance_keys {
            let Ok(instance) = InstanceKey::parse(text) else { continue };
            add(Kind::Instance, text.to_lowercase().as_bytes());
            add(Kind::Instance, text.to_uppercase().as_bytes());
            add(Kind::Instance, &from_hex(text));
            for token in keys.iter().filter_map(|key| Token::parse(key)) {
                let tag = instance.tag(&token).hex();
                add(Kind::AtRest, tag.as_bytes());
                add(Kind::AtRest, &from_hex(&tag));
            }
        }
        for hash in hashes {
            add(Kind::AtRest, hash.as_bytes());
            add(Kind::AtRest, &STANDARD_NO_PAD.decode(hash).unwrap_or_else(|_| hash.clone().into()));
        }
        let automaton = AhoCorasick::new(needles.iter().map(|(_, bytes)| bytes)).unwrap();
        Self { automaton, kinds: needles.into_iter().map(|(kind, _)| kind).collect() }
    }
}

/// How a text may be written: percent-encoded, or as JSON.
fn needles_of_text(text: &str, percent: &str) -> impl Iterator<Item = String> {
    let json = Value::from(text).to_string();
    [percent.to_owned(), json.trim_matches('"').to_owned()].into_iter()
}

/// How bytes may be written: as they are, in hexadecimal, in base64 wherever they begin, as Rust prints a list.
pub fn forms(bytes: &[u8]) -> BTreeSet<Vec<u8>> {
    let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let list = bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let mut forms =
        BTreeSet::from([bytes.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes(), list.into_bytes()]);
    // Before and behind it stands something else, whose bits share a character with its own: those are left out.
    for (before, shared) in [(0, 0), (1, 2), (2, 3)] {
        let text = [vec![0; before], bytes.to_vec()].concat();
        let whole = &text[..text.len() / 3 * 3];
        forms.extend([&STANDARD_NO_PAD, &URL_SAFE_NO_PAD].map(|base64| base64.encode(whole)[shared..].into()));
    }
    forms
}

fn token_at(bytes: &[u8], start: usize) -> Option<Token> {
    Token::parse(std::str::from_utf8(bytes.get(start..start + TOKEN_BYTES)?).ok()?)
}

/// What stands last in every PHC string.
fn hashes(bytes: &[u8]) -> Vec<String> {
    let start = AhoCorasick::new([PHC]).unwrap();
    let is_phc = |byte: &&u8| byte.is_ascii_alphanumeric() || b"$=,+/".contains(byte);
    let phc = |found: aho_corasick::Match| {
        String::from_utf8(bytes[found.start()..].iter().take_while(is_phc).copied().collect()).unwrap()
    };
    // 43 characters are 256 bits. In a file the next value follows without a gap, so it is counted, not parted.
    let hash = |phc: String| phc.splitn(6, '$').nth(5).and_then(|hash| hash.get(..43).map(str::to_owned));
    start.find_iter(bytes).map(phc).filter_map(hash).collect()
}

/// The number that 43 characters stand for: 32 bytes.
fn from_base62(text: &[u8]) -> [u8; 32] {
    let mut number = [0_u8; 32];
    for byte in text {
        let mut carry = u32::from(match byte {
            b'0'..=b'9' => byte - b'0',
            b'A'..=b'Z' => byte - b'A' + 10,
            _ => byte - b'a' + 36,
        });
        for digit in number.iter_mut().rev() {
            carry += u32::from(*digit) * 62;
            *digit = carry.to_be_bytes()[3];
            carry >>= 8;
        }
    }
    number
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).filter_map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).ok()).collect()
}
