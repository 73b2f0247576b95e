//! The readers of request bodies, as the fuzz targets of `tests/fuzz` call them. Nothing else does.

use super::envelope::{self, Body};
use super::{Limits, batch};
use crate::error::Result;
use crate::json::Value;

/// The names of the calls in the body of a batch, in the order written.
pub fn batch(body: &[u8]) -> Result<Vec<String>> {
    let entries = batch::parse(body, &Limits::default())?;
    Ok(entries.into_iter().map(|(name, _)| name.into_owned()).collect())
}

/// The input in the body of a single call, and whether it came in an envelope.
pub fn envelope(body: &[u8]) -> Result<(Value<'_>, bool)> {
    Ok(match envelope::read(body, Limits::default().json_depth)? {
        Body::Plain(input) => (input, false),
        Body::Enveloped(input) => (input, true),
    })
}
