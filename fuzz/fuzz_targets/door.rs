//! See `src/doors.rs`. The variable `DOOR` says which.
#![no_main]

use std::sync::{LazyLock, Mutex, PoisonError};

use millrace_fuzz::doors::{DOORS, Door};
use millrace_fuzz::stages::Stages;

static DOOR: LazyLock<&Door> = LazyLock::new(|| {
    let name = std::env::var("DOOR").unwrap_or_default();
    let names: Vec<&str> = DOORS.iter().map(|door| door.name).collect();
    let place = names.iter().position(|known| *known == name);
    &DOORS[place.unwrap_or_else(|| panic!("`DOOR` is to be one of {}", names.join(", ")))]
});
static STAGES: LazyLock<Mutex<Stages>> = LazyLock::new(|| Mutex::new(Stages::new(DOOR.opening)));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    STAGES.lock().unwrap_or_else(PoisonError::into_inner).play(&DOOR.requests(bytes));
});
