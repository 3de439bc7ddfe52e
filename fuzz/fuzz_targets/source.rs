//! See `src/doors.rs`. The variable `DOOR` says which.
#![no_main]

use std::sync::{LazyLock, Mutex, PoisonError};

use millrace_fuzz::sources::{SOURCES, Target};
use millrace_fuzz::stages::Stages;

static DOOR: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("DOOR").unwrap_or_default();
    let names: Vec<&str> = SOURCES.iter().map(|target| target.name).collect();
    let place = names.iter().position(|known| *known == name);
    &SOURCES[place.unwrap_or_else(|| panic!("`DOOR` is to be one of {}", names.join(", ")))]
});
static STAGES: LazyLock<Mutex<Stages>> = LazyLock::new(|| Mutex::new(Stages::new(DOOR.opening)));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    STAGES.lock().unwrap_or_else(PoisonError::into_inner).play(&DOOR.requests(bytes));
});
