//! The instance key: what turns keys into tags, and seals page tokens, kept answers and the secrets of health checks.
//! It is not in the database, so a stolen database alone verifies and opens nothing.

use super::Token;
use crate::contract::PageKey;
use crate::database::{Location, beside};
use crate::error::{Error, Result};
use crate::world::Entropy;
use chacha20poly1305::XChaCha20Poly1305;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// 256 bits. It prints nothing.
pub struct InstanceKey {
    tags: Zeroizing<[u8; 32]>,
    pages: Zeroizing<[u8; 32]>,
    answers: Zeroizing<[u8; 32]>,
    secrets: Zeroizing<[u8; 32]>,
    /// Names the key without telling it, so that a tag says under which key it was made.
    pub name: String,
}

/// The keyed digest of a whole key.
#[derive(Clone)]
pub struct Tag([u8; 32]);

impl std::fmt::Debug for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tag(…)")
    }
}

impl InstanceKey {
    /// Derives what is needed from the key. Each use has a key of its own.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        let derive = |label: &str| Zeroizing::new(hmac(key, &[label.as_bytes()]));
        let name = derive("checkmate key name");
        let name = hex(name.get(..8).unwrap_or_default());
        let (tags, pages, answers) = (derive("checkmate tags"), derive("checkmate pages"), derive("checkmate answers"));
        Self { tags, pages, answers, secrets: derive("checkmate secrets"), name }
    }

    /// Reads 64 hex digits. The error does not repeat them.
    pub fn parse(text: &str) -> Result<Self> {
        let key = from_hex(text.trim()).map(Zeroizing::new);
        key.map(|key| Self::new(&key)).ok_or_else(|| Error::Refused("the instance key is 64 hex digits".into()))
    }

    /// The configured key, or the one in the file beside the `SQLite` database, which is made at first start.
    pub fn load(configured: Option<&str>, location: &Location, entropy: Entropy) -> Result<Self> {
        match (configured, location.file()) {
            (Some(text), _) => Self::parse(text),
            (None, Some(database)) => Self::from_file(&beside(database, ".key"), entropy),
            (None, None) => Err(Error::Refused(
                "PostgreSQL needs CHECKMATE_INSTANCE_KEY: 64 hex digits, the same for every replica \
                 (make one with: openssl rand -hex 32)"
                    .into(),
            )),
        }
    }

    fn from_file(path: &Path, entropy: Entropy) -> Result<Self> {
        let broken = |why: std::io::Error| Error::Refused(format!("the instance key {}: {why}", path.display()));
        match std::fs::read_to_string(path) {
            Ok(text) => return Self::parse(&Zeroizing::new(text)),
            Err(why) if why.kind() == ErrorKind::NotFound => {}
            Err(why) => return Err(broken(why)),
        }
        let key = Zeroizing::new(entropy.bits256()?);
        let text = Zeroizing::new(hex(&*key));
        // Written aside and linked: two processes that start at once agree on one key, and none reads half of it.
        let aside = beside(path, &format!(".{}", std::process::id()));
        let write = || {
            let mut file =
                std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
            writeln!(file, "{}", *text)?;
            file.sync_all()
        };
        write().map_err(broken)?;
        let linked = std::fs::hard_link(&aside, path);
        std::fs::remove_file(&aside).map_err(broken)?;
        match linked {
            Err(why) if why.kind() != ErrorKind::AlreadyExists => Err(broken(why)),
            _ => Self::parse(&Zeroizing::new(std::fs::read_to_string(path).map_err(broken)?)),
        }
    }

    /// The tag of a key.
    #[must_use]
    pub fn tag(&self, token: &Token) -> Tag {
        Tag(hmac(&self.tags, &[token.reveal().as_bytes()]))
    }

    /// What seals page tokens.
    #[must_use]
    pub fn page_key(&self) -> PageKey {
        PageKey::new(*self.pages)
    }

    /// What seals the secrets in the settings of health checks.
    #[must_use]
    pub fn secret_seal(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&(*self.secrets).into())
    }

    /// What used to be stored of a token with which results are reported, before that needed no key.
    #[must_use]
    pub fn old_push_tag(&self, token: &str) -> String {
        hex(&hmac(&self.tags, &[b"push", token.as_bytes()]))
    }

    /// What seals kept answers.
    #[must_use]
    pub fn answer_seal(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&(*self.answers).into())
    }
}

impl Tag {
    /// A tag that no key has, for those who are not there: looking takes as long.
    #[must_use]
    pub fn nobody() -> Self {
        Self([0; 32])
    }

    /// Compares in constant time.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// As it is stored.
    #[must_use]
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// Reads what [`Self::hex`] wrote.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        from_hex(text).map(Self)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for half in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(half), 16).unwrap_or('0'));
        }
        text
    })
}

/// Reads 64 hex digits.
fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// What is stored of a token with which results are reported. It has 256 random bits: nobody finds it from its digest,
/// with a key or without, so it does not depend on the instance key and lives on when that is changed.
#[must_use]
pub fn push_tag(token: &str) -> String {
    hex(&Sha256::new_with_prefix(b"checkmate push ").chain_update(token).finalize())
}

/// HMAC-SHA-256 over the parts, one after another.
pub(crate) fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("HMAC takes keys of every length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}
