//! Runs every input of the fuzzing corpus through the fuzz targets, without the fuzzer. `fuzz/README.md`
//! describes where the inputs come from.

#![allow(clippy::unwrap_used)]

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::path::Path;

use fuzz::sources::SOURCES;
use fuzz::stages::Stages;
use fuzz::{coded_body, event_text, record};

/// Calls `run` with each input of a target. Fails with the path of the first input on which it panics.
fn replay(target: &str, mut run: impl FnMut(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() > 10, "the corpus of `{target}` has only {} inputs", inputs.len());
    for input in inputs {
        let bytes = std::fs::read(&input).unwrap();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&bytes)));
        assert!(outcome.is_ok(), "input {}", input.display());
    }
}

#[test]
fn every_admitted_event_can_be_folded() {
    replay("event_text", event_text::run);
}

#[test]
fn compressed_bodies_decode_the_same_in_any_pieces() {
    replay("coded_body", coded_body::run);
}

#[test]
fn records_round_trip() {
    replay("record", record::run);
}

#[test]
fn every_request_is_answered_and_moves_the_log_as_its_response_says() {
    let mut stages = Stages::new("");
    replay("requests", |input| stages.play(input));
    stages.close();
}

#[test]
fn requests_to_each_source_are_answered_and_move_the_log_as_responses_say() {
    for target in SOURCES {
        let mut stages = Stages::new(target.opening);
        replay(target.name, |input| stages.play(&target.requests(input)));
        stages.close();
    }
}
