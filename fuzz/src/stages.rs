//! One stage after another, for as many inputs as there are: each is examined and made anew after some of
//! them, so that none has a long log to read.

use tempfile::TempDir;

use super::requests;
use super::stage::Stage;

const INPUTS_A_STAGE: usize = 2_000;

pub struct Stages {
    /// Requests that every stage begins with.
    opening: &'static str,
    playing: Option<Playing>,
}

struct Playing {
    stage: Stage,
    inputs: usize,
    _folder: TempDir,
}

impl Stages {
    pub const fn new(opening: &'static str) -> Self {
        Self { opening, playing: None }
    }

    /// Plays an input of requests.
    pub fn play(&mut self, input: &[u8]) {
        if self.playing.as_ref().is_some_and(Playing::is_worn) {
            self.close();
        }
        let playing = self.playing.get_or_insert_with(|| Playing::begin(self.opening));
        playing.inputs += 1;
        requests::run(&mut playing.stage, input);
    }

    /// Examines the stage that is open.
    pub fn close(&mut self) {
        if let Some(playing) = self.playing.take() {
            playing.stage.close();
        }
    }
}

impl Playing {
    fn begin(opening: &str) -> Self {
        // In memory, where a sync costs nothing; if there is no such place, in the folder for such things.
        let mut named = tempfile::Builder::new();
        named.prefix("millrace-fuzz-");
        let folder = named.tempdir_in("/dev/shm").or_else(|_| named.tempdir()).expect("a folder");
        let mut stage = Stage::open(folder.path());
        requests::run(&mut stage, opening.as_bytes());
        Self { stage, inputs: 0, _folder: folder }
    }

    fn is_worn(&self) -> bool {
        self.inputs == INPUTS_A_STAGE || !self.stage.still
    }
}
