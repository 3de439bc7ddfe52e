//! See `src/requests.rs`.
#![no_main]

use std::sync::{Mutex, PoisonError};

use millrace_fuzz::stages::Stages;

static STAGES: Mutex<Stages> = Mutex::new(Stages::new(""));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    STAGES.lock().unwrap_or_else(PoisonError::into_inner).play(bytes);
});
