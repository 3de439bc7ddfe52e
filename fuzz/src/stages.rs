//! Stages for any number of inputs. A stage is checked and replaced after some inputs, so that its log stays short.

use tempfile::TempDir;

use super::requests;
use super::stage::Stage;

const INPUTS_PER_STAGE: usize = 2_000;

pub struct Stages {
    /// The requests that every stage begins with.
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

    /// Sends the requests of an input.
    pub fn play(&mut self, input: &[u8]) {
        if self.playing.as_ref().is_some_and(Playing::is_used_up) {
            self.close();
        }
        let playing = self.playing.get_or_insert_with(|| Playing::begin(self.opening));
        playing.inputs += 1;
        requests::run(&mut playing.stage, input);
    }

    /// Closes the open stage, which checks its views.
    pub fn close(&mut self) {
        if let Some(playing) = self.playing.take() {
            playing.stage.close();
        }
    }
}

impl Playing {
    fn begin(opening: &str) -> Self {
        // In memory, where a sync costs nothing. Without `/dev/shm`, in the temporary folder.
        let mut named = tempfile::Builder::new();
        named.prefix("millrace-fuzz-");
        let folder = named.tempdir_in("/dev/shm").or_else(|_| named.tempdir()).expect("a folder");
        let mut stage = Stage::open(folder.path());
        requests::run(&mut stage, opening.as_bytes());
        Self { stage, inputs: 0, _folder: folder }
    }

    fn is_used_up(&self) -> bool {
        self.inputs == INPUTS_PER_STAGE || !self.stage.quiet
    }
}
