//! The simulated disk of the crash tests. It is in memory, stores separately what programs see and what a power cut
//! would leave, and fails on demand. All random decisions depend on a seed, so a run can be repeated byte for byte.

mod state;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Disk, Identity, Named};
use state::{Change, FileState, NameChange, State, input_output_error};

/// The simulated disk. Clones share it.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

pub(crate) struct SimFile {
    disk: SimDisk,
    file: usize,
    /// The process that opened the file. After a crash or kill, its files no longer work.
    process: u64,
}

pub(crate) struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    process: u64,
}

impl SimDisk {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State::new(seed))))
    }

    /// Returns the disk to open a journal on.
    pub fn disk(&self) -> Disk {
        Disk::simulated(self.clone())
    }

    /// Returns an independent disk in the same state.
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.state().clone())))
    }

    /// Simulates a power cut. Each piece of unsynced data and each unsynced name is either kept or lost.
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
        state.start_process();
    }

    /// Ends only the process. The kernel keeps everything that was written.
    pub fn kill(&self) {
        self.state().start_process();
    }

    /// Makes the n-th operation from now and all later ones fail, as if the process had died there.
    pub fn die_at(&self, operations_from_now: u64) {
        let mut state = self.state();
        state.dies_at = Some(state.operations + operations_from_now);
    }

    /// Makes the n-th sync from now fail as in a real kernel. A part of the unsynced data reaches the disk, programs
    /// still see all of it, and the next sync succeeds.
    pub fn fail_sync(&self, syncs_from_now: u64) {
        self.state().sync_fails_in = Some(syncs_from_now);
    }

    /// Removes all planned faults and the capacity limit.
    pub fn clear_faults(&self) {
        let mut state = self.state();
        state.dies_at = None;
        state.sync_fails_in = None;
        state.capacity_bytes = None;
    }

    /// Limits the size of all files together; `None` removes the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity_bytes = bytes;
    }

    /// Makes file syncs do nothing, to test that the checker of the crash tests notices.
    pub fn ignore_file_syncs(&self) {
        self.state().ignores_file_syncs = true;
    }

    /// Makes folder syncs do nothing, to test that the checker of the crash tests notices.
    pub fn ignore_folder_syncs(&self) {
        self.state().ignores_folder_syncs = true;
    }

    /// Returns the number of operations so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Returns a hash of all operations and their bytes.
    pub fn trace(&self) -> u64 {
        self.state().trace
    }

    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// Returns the paths of the files that a program would see.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    pub fn file(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        let file = *state.names.get(path)?;
        Some(state.files[file].seen.clone())
    }

    /// Creates or replaces a file durably and without faults. Tests use this to damage files.
    pub fn put(&self, path: &Path, bytes: Vec<u8>) {
        let mut state = self.state();
        let file = state.files.len();
        state.files.push(FileState { seen: bytes.clone(), durable: bytes, unsynced: Vec::new() });
        state.names.insert(path.to_owned(), file);
        state.durable_names.insert(path.to_owned(), file);
    }

    /// Removes a file durably and without faults.
    pub fn take(&self, path: &Path) {
        let mut state = self.state();
        state.names.remove(path);
        state.durable_names.remove(path);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        event::lock(&self.0)
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
        Ok(Some(SimLock { disk: self.clone(), path: path.to_owned(), process: state.process }))
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
        Ok(self.handle(file, state.process))
    }

    pub(super) fn open(&self, path: &Path) -> io::Result<SimFile> {
        let state = self.alive()?;
        let file = state.named(path)?;
        Ok(self.handle(file, state.process))
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

    fn handle(&self, file: usize, process: u64) -> SimFile {
        SimFile { disk: self.clone(), file, process }
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
            // The process died during the write, so the kernel may have received any part of it.
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
        if state.process != self.process || state.dead {
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
        if state.process == self.process {
            state.locks.remove(&self.path);
        }
    }
}
