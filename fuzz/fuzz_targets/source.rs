//! See `src/sources.rs`. The environment variable `SOURCE` selects the source.
#![no_main]

use std::sync::{LazyLock, Mutex, PoisonError};

use millrace_fuzz::sources::{SOURCES, Target};
use millrace_fuzz::stages::Stages;

static SOURCE: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("SOURCE").unwrap_or_default();
    let names: Vec<&str> = SOURCES.iter().map(|target| target.name).collect();
    let index = names.iter().position(|known| *known == name);
    &SOURCES[index.unwrap_or_else(|| panic!("`SOURCE` must be one of {}", names.join(", ")))]
});
static STAGES: LazyLock<Mutex<Stages>> = LazyLock::new(|| Mutex::new(Stages::new(SOURCE.opening)));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    STAGES.lock().unwrap_or_else(PoisonError::into_inner).play(&SOURCE.requests(bytes));
});
