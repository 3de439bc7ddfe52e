//! See `src/requests.rs`.
#![no_main]

use std::sync::{Mutex, PoisonError};

use millrace_fuzz::requests;
use millrace_fuzz::stage::Stage;
use tempfile::TempDir;

/// A server is examined and made anew after so many inputs, so that none of them has a long log to read.
const INPUTS_A_STAGE: usize = 2_000;

struct Playing {
    stage: Stage,
    inputs: usize,
    _folder: TempDir,
}

static PLAYING: Mutex<Option<Playing>> = Mutex::new(None);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut playing = PLAYING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(worn) = playing.take_if(|playing| playing.inputs == INPUTS_A_STAGE || !playing.stage.still) {
        worn.stage.close();
    }
    let playing = playing.get_or_insert_with(|| {
        // In memory, where a sync costs nothing; if there is no such place, in the folder for such things.
        let mut named = tempfile::Builder::new();
        named.prefix("millrace-fuzz-");
        let folder = named.tempdir_in("/dev/shm").or_else(|_| named.tempdir()).expect("a folder");
        Playing { stage: Stage::open(folder.path()), inputs: 0, _folder: folder }
    });
    playing.inputs += 1;
    requests::run(&mut playing.stage, bytes);
});
