//! A disk in memory that keeps what programs see and what would survive a power cut
//! apart, and breaks on demand: the disk the crash tests run on. A seed decides all
//! that is left to chance, so a run can be repeated byte for byte.

mod state;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, Identity, Named};
use state::{Change, FileState, NameChange, State, input_output_error};

/// The simulated disk; clones share it.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

pub(crate) struct SimFile {
    disk: SimDisk,
    file: usize,
    /// Handles of before a crash are dead.
    life: u64,
}

pub(crate) struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    life: u64,
}

impl SimDisk {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State::new(seed))))
    }

    /// What a journal is opened on.
    pub fn disk(&self) -> Disk {
        Disk::simulated(self.clone())
    }

    /// A disk of its own in the same state.
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.state().clone())))
    }

    /// The power fails: what was not synced is kept or forgotten piece by piece.
    pub fn crash(&self) {
        let mut state = self.state();
        let state = &mut *state;
        for file in &mut state.files {
            file.settle(&mut state.rng);
            file.seen.clone_from(&file.durable);
        }
        let odds = state.rng.odds();
        for change in std::mem::take(&mut state.unsynced_names) {
            if state.rng.times_in_100(odds) {
                change.apply(&mut state.durable_names);
            }
        }
        state.names.clone_from(&state.durable_names);
        state.begin_life();
    }

    /// Only the process dies: the kernel keeps all it was told.
    pub fn kill(&self) {
        self.state().begin_life();
    }

    /// Every operation from the n-th from now on fails, as if the process had died there.
    pub fn die_at(&self, operations_from_now: u64) {
        let mut state = self.state();
        state.dies_at = Some(state.operations + operations_from_now);
    }

    /// The n-th sync from now fails, as kernels do it: what it should have written
    /// is partly on the disk, the rest passes for written, and the next sync says yes.
    pub fn fail_sync(&self, syncs_from_now: u64) {
        self.state().sync_fails_in = Some(syncs_from_now);
    }

    /// No more faults until the next are asked for.
    pub fn heal(&self) {
        let mut state = self.state();
        state.dies_at = None;
        state.sync_fails_in = None;
        state.capacity_bytes = None;
    }

    /// All files together may hold so many bytes.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity_bytes = bytes;
    }

    /// A wrong disk, to see that the checker notices: file syncs do nothing.
    pub fn ignore_file_syncs(&self) {
        self.state().ignores_file_syncs = true;
    }

    /// A wrong disk, to see that the checker notices: folder syncs do nothing.
    pub fn ignore_folder_syncs(&self) {
        self.state().ignores_folder_syncs = true;
    }

    /// How many operations there have been.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// A number all operations and their bytes went into.
    pub fn trace(&self) -> u64 {
        self.state().trace
    }

    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// The files a program would see.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    pub fn file(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        let file = *state.names.get(path)?;
        Some(state.files[file].seen.clone())
    }

    /// Puts a file there durably, past all faults: how tests damage things.
    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.state();
        let file = state.files.len();
        state.files.push(FileState { seen: bytes.clone(), durable: bytes, unsynced: Vec::new() });
        state.names.insert(path.to_owned(), file);
        state.durable_names.insert(path.to_owned(), file);
    }

    /// Takes a file away durably.
    pub fn take(&self, path: &Path) {
        let mut state = self.state();
        state.names.remove(path);
        state.durable_names.remove(path);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.dead {
            return Err(io::Error::other("the process is dead"));
        }
        Ok(state)
    }

    pub(super) fn random_bytes(&self) -> [u8; 16] {
        let mut state = self.state();
        let (a, b) = (state.rng.draw(), state.rng.draw());
        ((u128::from(a) << 64) | u128::from(b)).to_le_bytes()
    }

    pub(super) fn lock(&self, path: &Path) -> io::Result<Option<SimLock>> {
        let mut state = self.state();
        if !state.locks.insert(path.to_owned()) {
            return Ok(None);
        }
        Ok(Some(SimLock { disk: self.clone(), path: path.to_owned(), life: state.life }))
    }

    pub(super) fn named(&self, path: &Path) -> io::Result<Option<Named>> {
        let state = self.alive()?;
        let named =
            |file: &usize| Named { identity: of_file(*file), bytes: state.files[*file].seen.len() as u64 };
        Ok(state.names.get(path).map(named))
    }

    pub(super) fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let state = self.alive()?;
        let names = state.names.keys();
        Ok(names
            .filter(|path| path.parent() == Some(folder))
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect())
    }

    pub(super) fn create(&self, path: &Path) -> io::Result<SimFile> {
        let mut state = self.state();
        state.operation("create", &[])?;
        let file = state.files.len();
        state.files.push(FileState::default());
        let path = path.to_owned();
        state.change_name(NameChange::Put { path, file });
        Ok(self.handle(file, state.life))
    }

    pub(super) fn open(&self, path: &Path) -> io::Result<SimFile> {
        let state = self.alive()?;
        let file = state.named(path)?;
        Ok(self.handle(file, state.life))
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let file = state.named(from)?;
        let change = NameChange::Rename { from: from.to_owned(), to: to.to_owned(), file };
        state.operation_on_names("rename", change)
    }

    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.named(path)?;
        let path = path.to_owned();
        state.operation_on_names("remove", NameChange::Remove { path })
    }

    pub(super) fn sync_folder(&self, _folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operation("sync folder", &[])?;
        if state.sync_fails() {
            let changes = std::mem::take(&mut state.unsynced_names);
            let odds = state.rng.odds();
            for change in changes {
                if state.rng.times_in_100(odds) {
                    change.apply(&mut state.durable_names);
                }
            }
            return Err(input_output_error());
        }
        if !state.ignores_folder_syncs {
            for change in std::mem::take(&mut state.unsynced_names) {
                change.apply(&mut state.durable_names);
            }
        }
        Ok(())
    }

    fn handle(&self, file: usize, life: u64) -> SimFile {
        SimFile { disk: self.clone(), file, life }
    }
}

impl SimFile {
    pub(super) fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.alive()?;
        let seen = &state.files[self.file].seen;
        let from = offset as usize;
        let found = seen.get(from..from + bytes.len());
        bytes.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.alive()?;
        let offset = offset as usize;
        let outcome = state.operation("write", bytes);
        let grows = (offset + bytes.len()).saturating_sub(state.files[self.file].seen.len());
        let missing = match state.capacity_bytes {
            Some(capacity) => (state.used_bytes() + grows as u64).saturating_sub(capacity),
            None => 0,
        };
        let fits = bytes.len().saturating_sub((missing as usize).min(grows));
        let written = match outcome {
            Ok(()) => fits,
            // The process died in it: the kernel may have taken any part.
            Err(_) => state.rng.below(bytes.len() as u64 + 1) as usize,
        };
        let part = bytes[..written].to_vec();
        state.files[self.file].change(Change::Write { offset, bytes: part });
        outcome?;
        if fits < bytes.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    pub(super) fn cut_to(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.alive()?;
        state.operation("cut", &bytes.to_le_bytes())?;
        let bytes = bytes as usize;
        state.files[self.file].change(Change::Cut { bytes });
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        let mut state = self.alive()?;
        let state = &mut *state;
        state.operation("sync", &[])?;
        let fails = state.sync_fails();
        let file = &mut state.files[self.file];
        if fails {
            file.settle(&mut state.rng);
            return Err(input_output_error());
        }
        if !state.ignores_file_syncs {
            for change in std::mem::take(&mut file.unsynced) {
                change.apply(&mut file.durable);
            }
        }
        Ok(())
    }

    pub(super) fn identity(&self) -> Identity {
        of_file(self.file)
    }

    pub(super) fn bytes(&self) -> io::Result<u64> {
        Ok(self.alive()?.files[self.file].seen.len() as u64)
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.life != self.life || state.dead {
            return Err(io::Error::other("the process is dead"));
        }
        Ok(state)
    }
}

fn of_file(file: usize) -> Identity {
    Identity { device: 0, inode: file as u64 }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life {
            state.locks.remove(&self.path);
        }
    }
}
