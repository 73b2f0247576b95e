//! What runs found, as the archive keeps it: whole for those that failed or came out differently than the one before, and
//! the numbers of all of them.

use super::chunk::{HOUR_US, Sample};
use crate::database::Timestamp;
use crate::error::{Error, Result};
use crate::plugin::healthcheck::domain::Health;
use crate::probe::Kind;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::io::{Read, Write};

/// What was found by the runs of an hour, JSON, by their times.
pub(in crate::plugin::healthcheck) type Details = BTreeMap<Timestamp, String>;

/// A run keeps at most 4 KiB, and an hour has 3,600 of them: more than this is no hour of ours.
const INFLATED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Those that are kept: of runs that failed, and of each that came out differently than the one before.
pub(super) fn worth_keeping(runs: &[Sample], before: Option<Health>, mut details: Details) -> Details {
    let before = std::iter::once(before).chain(runs.iter().map(|run| Some(run.status)));
    for (run, before) in runs.iter().zip(before) {
        if run.status == Health::Healthy && before == Some(Health::Healthy) {
            details.remove(&run.at);
        }
    }
    details
}

pub(super) fn pack(details: &Details) -> Result<Vec<u8>> {
    let broken = |why: std::io::Error| Error::bug(format!("details cannot be packed: {why}"));
    let entry = |(at, text): (&Timestamp, &String)| {
        Some((at.0.rem_euclid(HOUR_US).to_string(), RawValue::from_string(text.clone()).ok()?))
    };
    let object: BTreeMap<String, Box<RawValue>> = details.iter().filter_map(entry).collect();
    let text = serde_json::to_vec(&object).map_err(|_| Error::bug("details are JSON"))?;
    let mut packed = ZlibEncoder::new(vec![], Compression::default());
    packed.write_all(&text).map_err(broken)?;
    packed.finish().map_err(broken)
}

/// What [`pack`] was given; what cannot be read any more is nothing.
pub(in crate::plugin::healthcheck) fn unpack(hour: i64, packed: &[u8]) -> Details {
    let mut text = vec![];
    let read = ZlibDecoder::new(packed).take(INFLATED_BYTES_MAX).read_to_end(&mut text);
    let object: BTreeMap<String, Box<RawValue>> = match read {
        Ok(_) => serde_json::from_slice(&text).unwrap_or_default(),
        Err(_) => BTreeMap::new(),
    };
    let entry = |(offset, text): (String, Box<RawValue>)| {
        Some((Timestamp(hour * HOUR_US + offset.parse::<i64>().ok()?), text.get().to_owned()))
    };
    object.into_iter().filter_map(entry).collect()
}

/// The numbers in what a run found that are charted.
pub(super) fn numbers(strategy: &str, detail: &str) -> Vec<(String, f64)> {
    let Some(charted) = Kind::named(strategy).map(|kind| &kind.schemas().charted) else { return vec![] };
    if charted.is_empty() {
        return vec![];
    }
    let Ok(detail) = serde_json::from_str::<Value>(detail) else { return vec![] };
    let number = |field: &String| {
        let value = detail.get("metadata")?.get(field)?.as_f64()?;
        value.is_finite().then(|| (field.clone(), value))
    };
    charted.iter().filter_map(number).collect()
}
