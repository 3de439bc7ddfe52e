//! Every input that fuzzing kept, once more, through the same functions and without the fuzzer:
//! `fuzz/README.md` says where they come from.

#![allow(clippy::unwrap_used)]

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::path::Path;

use fuzz::sources::SOURCES;
use fuzz::stages::Stages;
use fuzz::{coded_body, event_text, record};

/// Calls `run` with each input of a target; the one that fails is named.
fn replay(target: &str, mut run: impl FnMut(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() > 10, "inputs of `{target}` are kept");
    for input in inputs {
        let bytes = std::fs::read(&input).unwrap();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&bytes)));
        assert!(outcome.is_ok(), "input {}", input.display());
    }
}

#[test]
fn what_the_door_lets_in_a_fold_reads() {
    replay("event_text", event_text::run);
}

#[test]
fn compressed_bodies_are_taken_apart_alike_in_whichever_pieces_they_come() {
    replay("coded_body", coded_body::run);
}

#[test]
fn records_come_back_as_they_were() {
    replay("record", record::run);
}

#[test]
fn every_request_is_answered_and_moves_the_log_as_it_says() {
    let mut stages = Stages::new("");
    replay("requests", |input| stages.play(input));
    stages.close();
}

#[test]
fn each_door_answers_as_the_whole_server_does() {
    for target in SOURCES {
        let mut stages = Stages::new(target.opening);
        replay(target.name, |input| stages.play(&target.requests(input)));
        stages.close();
    }
}
