//! The corpora of the fuzz targets (`tests/fuzz`), replayed: what was found once stays found.

#[path = "../fuzz/targets.rs"]
mod targets;

use crate::dynamic::{self, methods, procedure};
use crate::samples::Fixture;
use prost::Message;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::PathBuf;
use targets::{METHODS, TARGETS};

fn corpus(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target)
}

/// Each seed as it is, cut at every place, and with every byte changed: what a fuzzer tries first.
#[test]
fn every_target_holds_for_its_corpus_and_what_is_close_to_it() {
    for (name, target) in TARGETS {
        let mut seeds = 0;
        for file in std::fs::read_dir(corpus(name)).unwrap() {
            let seed = std::fs::read(file.unwrap().path()).unwrap();
            target(&seed);
            for at in (0..seed.len()).step_by(1 + seed.len() / 64) {
                target(&seed[..at]);
                let mut changed = seed.clone();
                changed[at] ^= 1 << (at % 8);
                target(&changed);
            }
            seeds += 1;
        }
        assert!(seeds >= 10, "{name} has only {seeds} seeds");
    }
}

#[test]
fn the_targets_know_every_method() {
    let known: BTreeSet<_> = METHODS.iter().map(|method| method.request().to_owned()).collect();
    let all: BTreeSet<_> = methods().map(|method| method.input().full_name().to_owned()).collect();
    assert_eq!(known, all, "tests/fuzz/targets.rs lists the messages of every method");
}

/// The first byte that chooses a method.
fn choice(request: &str) -> u8 {
    METHODS.iter().position(|method| method.request() == request).unwrap().try_into().unwrap()
}

/// Writes a seed for every method, from its sample. A new procedure changes what the first byte of a seed means, which
/// makes the older ones no worse.
#[test]
#[ignore = "writes into the corpora: run it by hand after adding a procedure"]
fn seeds_are_written_from_the_samples() {
    let fixture = Fixture::of_nothing();
    for method in methods() {
        let name = procedure(&method);
        let (plugin, short) = name.split_once('.').unwrap();
        let (sample, which) = (fixture.sample(&name), choice(method.input().full_name()));
        let path = checkmate::contract::method_named(plugin, short).unwrap().path;
        let message = dynamic::request(path, &sample).encode_to_vec();
        let text = sample.to_string().into_bytes();
        for (target, seed) in [
            ("batch", json!({short: sample}).to_string().into_bytes()),
            ("envelope", json!({"json": sample, "meta": []}).to_string().into_bytes()),
            ("protobuf", [&[which][..], &message].concat()),
            ("input", [&[which][..], &text].concat()),
        ] {
            std::fs::create_dir_all(corpus(target)).unwrap();
            std::fs::write(corpus(target).join(&name), seed).unwrap();
        }
    }
}
