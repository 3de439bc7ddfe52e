//! The state of the simulated disk. It stores every file and name twice, as programs see it and as a power cut would
//! leave it, and the unsynced changes between the two.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use crate::rng::Rng;

/// A write reaches the disk in pieces of this size. A crash can lose each piece separately.
const PIECE_BYTES: usize = 512;

#[derive(Clone, Default)]
pub(super) struct State {
    pub(super) rng: Rng,
    /// The number of the current process.
    pub(super) process: u64,
    pub(super) files: Vec<FileState>,
    pub(super) names: BTreeMap<PathBuf, usize>,
    pub(super) durable_names: BTreeMap<PathBuf, usize>,
    pub(super) unsynced_names: Vec<NameChange>,
    pub(super) locks: BTreeSet<PathBuf>,
    pub(super) operations: u64,
    pub(super) trace: u64,
    pub(super) dead: bool,
    pub(super) dies_at: Option<u64>,
    pub(super) sync_fails_in: Option<u64>,
    pub(super) capacity_bytes: Option<u64>,
    pub(super) ignores_file_syncs: bool,
    pub(super) ignores_folder_syncs: bool,
}

#[derive(Clone, Default)]
pub(super) struct FileState {
    pub(super) seen: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) unsynced: Vec<Change>,
}

#[derive(Clone)]
pub(super) enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Cut { bytes: usize },
}

#[derive(Clone)]
pub(super) enum NameChange {
    Put { path: PathBuf, file: usize },
    Rename { from: PathBuf, to: PathBuf, file: usize },
    Remove { path: PathBuf },
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed), ..Self::default() }
    }

    /// Starts a new process, without locks and faults.
    pub(super) fn start_process(&mut self) {
        self.process += 1;
        self.dead = false;
        self.locks.clear();
        self.dies_at = None;
        self.sync_fails_in = None;
        self.capacity_bytes = None;
    }

    /// Counts an operation that changes or syncs something. Fails if the process is dead, or dies at this operation.
    pub(super) fn operation(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if self.dead {
            return Err(io::Error::other("the process is dead"));
        }
        self.operations += 1;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(name.as_bytes());
        hasher.update(bytes);
        let step = u64::from(hasher.finalize());
        self.trace = self.trace.rotate_left(7).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ step;
        if self.dies_at.is_some_and(|at| self.operations >= at) {
            self.dead = true;
            return Err(io::Error::other("the process dies here"));
        }
        Ok(())
    }

    /// Renames or removes a file. If the process dies here, the change may still have happened.
    pub(super) fn operation_on_names(&mut self, name: &str, change: NameChange) -> io::Result<()> {
        let was_dead = self.dead;
        let outcome = self.operation(name, &[]);
        if outcome.is_ok() || (!was_dead && self.rng.times_in_100(50)) {
            self.change_name(change);
        }
        outcome
    }

    pub(super) fn change_name(&mut self, change: NameChange) {
        change.clone().apply(&mut self.names);
        self.unsynced_names.push(change);
    }

    pub(super) fn named(&self, path: &Path) -> io::Result<usize> {
        let file = self.names.get(path).copied();
        file.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    pub(super) fn sync_fails(&mut self) -> bool {
        let Some(left) = self.sync_fails_in.as_mut() else {
            return false;
        };
        *left = left.saturating_sub(1);
        let fails = *left == 0;
        if fails {
            self.sync_fails_in = None;
        }
        fails
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let files = self.names.values();
        files.map(|file| self.files[*file].seen.len() as u64).sum()
    }
}

impl FileState {
    pub(super) fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }

    /// Writes some pieces of the unsynced changes to the disk, and loses the others.
    pub(super) fn settle(&mut self, rng: &mut Rng) {
        let odds = rng.odds();
        for change in std::mem::take(&mut self.unsynced) {
            for piece in change.pieces() {
                if rng.times_in_100(odds) {
                    piece.apply(&mut self.durable);
                }
            }
        }
    }
}

impl Change {
    pub(super) fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if file.len() < end {
                    file.resize(end, 0);
                }
                file[*offset..end].copy_from_slice(bytes);
            }
            Self::Cut { bytes } => file.resize(*bytes, 0),
        }
    }

    /// Splits a write at sector boundaries.
    pub(super) fn pieces(self) -> Vec<Self> {
        let Self::Write { mut offset, bytes } = self else {
            return vec![self];
        };
        let mut rest = bytes.as_slice();
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(PIECE_BYTES - offset % PIECE_BYTES));
            pieces.push(Self::Write { offset, bytes: piece.to_vec() });
            offset += piece.len();
            rest = after;
        }
        pieces
    }
}

impl NameChange {
    pub(super) fn apply(self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Put { path, file } => {
                names.insert(path, file);
            }
            Self::Rename { from, to, file } => {
                names.remove(&from);
                names.insert(to, file);
            }
            Self::Remove { path } => {
                names.remove(&path);
            }
        }
    }
}

pub(super) fn input_output_error() -> io::Error {
    io::Error::from_raw_os_error(5)
}
