//! `Idempotency-Key`, in gRPC the metadata `idempotency-key` (design.md section 4, rule 11).

use super::edge::Shared;
use crate::access::Caller;
use crate::access::once::Once;
use crate::error::{Error, Result};
use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The header.
pub(super) const KEY: &str = "idempotency-key";

/// Says that an answer was given before.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Room for a UUID, a build number and some words.
const KEY_CHARS_MAX: usize = 255;

/// A request whose mutations happen once.
pub(super) struct Repeatable<'r> {
    key: &'r str,
    fingerprint: String,
}

/// Reads the key, if there is one. `what` and `body` are what must be the same for the first answer to be given again.
pub(super) fn read<'r>(headers: &'r HeaderMap, what: &str, body: &[u8]) -> Result<Option<Repeatable<'r>>> {
    let mut keys = headers.get_all(KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let key = key.to_str().ok().map(str::trim).filter(|key| {
        let is_fit = !key.is_empty() && key.len() <= KEY_CHARS_MAX && key.bytes().all(|byte| byte.is_ascii_graphic());
        is_fit && keys.next().is_none()
    });
    let malformed =
        || Error::Malformed(format!("Malformed idempotency-key: once, 1 to {KEY_CHARS_MAX} visible ASCII characters"));
    let digest = Sha256::new().chain_update(what).chain_update([0]).chain_update(body).finalize();
    let fingerprint = digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    });
    Ok(Some(Repeatable { key: key.ok_or_else(malformed)?, fingerprint }))
}

impl Repeatable<'_> {
    /// The call at an index of the request.
    pub(super) fn call(&self, shared: &Shared, caller: &Caller, index: usize) -> Result<Once> {
        shared.ledger.once(caller, self.key, index, self.fingerprint.clone())
    }
}
