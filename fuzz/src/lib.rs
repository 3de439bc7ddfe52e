//! What each fuzz target does with its bytes, as functions: the targets call them under libFuzzer, and
//! `tests/fuzz_corpus.rs` calls them with every input that was kept.

pub mod coded_body;
pub mod event_text;
pub mod record;
pub mod requests;
pub mod sources;
pub mod stage;
pub mod stages;
