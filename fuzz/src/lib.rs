//! The functions of the fuzz targets. The targets call them under libFuzzer, and `tests/fuzz_corpus.rs` calls them
//! with every input of the corpus.

pub mod coded_body;
pub mod event_text;
pub mod record;
pub mod requests;
pub mod sources;
pub mod stage;
pub mod stages;
