//! The disk operations of the journal. All file access goes through this module, so that the same code runs on the
//! real disk and on the simulated one.

mod real;

#[cfg(feature = "simulation")]
pub(crate) mod sim;

use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

#[cfg(feature = "simulation")]
use sim::{SimDisk, SimFile, SimLock};

/// The disk that a journal is on.
#[derive(Clone, Default)]
pub struct Disk(Kind);

#[derive(Clone, Default)]
enum Kind {
    #[default]
    Real,
    #[cfg(feature = "simulation")]
    SimDisk(SimDisk),
}

/// A failed disk operation.
#[derive(Debug, thiserror::Error)]
#[error("could not {action} `{}`", path.display())]
pub struct DiskError {
    pub action: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

impl DiskError {
    pub(crate) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self { action, path: path.to_owned(), source }
    }

    /// Returns true if the disk is full. Unlike other faults, this can pass. A failed sync never counts as a full
    /// disk, because it is unknown what it has written.
    pub(crate) fn is_full(&self) -> bool {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull, WriteZero};
        let full = matches!(self.source.kind(), StorageFull | QuotaExceeded | FileTooLarge | WriteZero);
        full && self.action != SYNC && self.action != SYNC_FOLDER
    }

    fn not_at_path(path: &Path) -> Self {
        let source = io::Error::other("it was moved, removed or replaced while the server was using it");
        Self::new("find", path, source)
    }

    fn truncated(path: &Path) -> Self {
        let source = io::Error::other("it was truncated while the server was using it");
        Self::new("use", path, source)
    }

    /// Returns the error and its cause in one line.
    pub(crate) fn line(&self) -> String {
        format!("{self}: {}", self.source)
    }
}

const SYNC: &str = "sync";
const SYNC_FOLDER: &str = "sync the folder";

/// Locks a folder for this process until it is dropped.
pub(crate) struct Lock {
    /// Identifies the locked folder, even if its path names another one later.
    folder: Identity,
    _held: Held,
}

enum Held {
    Real(#[expect(dead_code, reason = "kept until it is dropped")] real::FolderLock),
    #[cfg(feature = "simulation")]
    SimDisk(#[expect(dead_code, reason = "kept until it is dropped")] SimLock),
}

/// The refusal of a folder that another process has locked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "another process uses `{}`{}; stop it first, or use another data folder. Never delete `lock` or another \
     file in this folder: two servers that write to one log lose events",
    folder.display(),
    process.map(|id| format!(" (process {id})")).unwrap_or_default()
)]
pub struct Locked {
    pub folder: PathBuf,
    /// The id of the process that holds the lock, if it is known.
    pub process: Option<u32>,
}

impl Locked {
    pub(crate) fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), process: real::holder(folder) }
    }
}

const LOCK_FILE: &str = "lock";

/// The identity of the only folder of the simulated disk, which always exists.
#[cfg(feature = "simulation")]
const SIM_FOLDER: Identity = Identity { device: 0, inode: 0 };

/// Identifies a file or folder independently of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

/// The file or folder that a path currently names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named {
    pub identity: Identity,
    pub bytes: u64,
}

/// An open file.
pub(crate) struct DiskFile {
    path: PathBuf,
    identity: Identity,
    kind: FileKind,
}

enum FileKind {
    Real(std::fs::File),
    #[cfg(feature = "simulation")]
    SimDisk(SimFile),
}

impl Disk {
    /// Returns the disk of this machine.
    pub fn real() -> Self {
        Self(Kind::Real)
    }

    #[cfg(feature = "simulation")]
    pub(crate) fn simulated(sim: SimDisk) -> Self {
        Self(Kind::SimDisk(sim))
    }

    /// Creates the folder and its missing parent folders durably.
    pub(crate) fn create_folder(&self, folder: &Path) -> Result<(), DiskError> {
        match &self.0 {
            Kind::Real => real::create_folder(folder),
            #[cfg(feature = "simulation")]
            Kind::SimDisk(_) => Ok(()),
        }
        .map_err(|source| DiskError::new("create", folder, source))
    }

    /// Locks the folder itself, because a lock file in it could be deleted. Returns `None` if another process holds
    /// the lock.
    pub(crate) fn lock(&self, folder: &Path) -> Result<Option<Lock>, DiskError> {
        let held = match &self.0 {
            Kind::Real => real::lock(folder).map(|lock| lock.map(|lock| (lock.identity, Held::Real(lock)))),
            #[cfg(feature = "simulation")]
            Kind::SimDisk(disk) => {
                disk.lock(folder).map(|lock| lock.map(|lock| (SIM_FOLDER, Held::SimDisk(lock))))
            }
        }
        .map_err(|source| DiskError::new("lock", folder, source))?;
        Ok(held.map(|(folder, held)| Lock { folder, _held: held }))
    }

    /// Returns what the path currently names, or `None` if no file or folder has this path.
    fn named(&self, path: &Path) -> io::Result<Option<Named>> {
        match &self.0 {
            Kind::Real => real::named(path),
            #[cfg(feature = "simulation")]
            Kind::SimDisk(disk) => disk.named(path),
        }
    }

    /// Fails if the folder at this path is not the one that is locked.
    pub(crate) fn expect_folder(&self, folder: &Path, lock: &Lock) -> Result<(), DiskError> {
        #[cfg(feature = "simulation")]
        if matches!(self.0, Kind::SimDisk(_)) {
            return Ok(());
        }
        self.expect(folder, |named| named.identity == lock.folder, 0)
    }

    /// Fails if the file at this path is missing or shorter than `bytes_min`.
    pub(crate) fn expect_bytes(&self, path: &Path, bytes_min: u64) -> Result<(), DiskError> {
        self.expect(path, |_| true, bytes_min)
    }

    /// Fails if the path names nothing, something unexpected, or a file shorter than `bytes_min`. A failed lookup is
    /// ignored, because it proves nothing about the file.
    fn expect(
        &self,
        path: &Path,
        is_right: impl FnOnce(Named) -> bool,
        bytes_min: u64,
    ) -> Result<(), DiskError> {
        match self.named(path) {
            Ok(Some(named)) if !is_right(named) => Err(DiskError::not_at_path(path)),
            Ok(Some(named)) if named.bytes < bytes_min => Err(DiskError::truncated(path)),
            Ok(None) => Err(DiskError::not_at_path(path)),
            Ok(Some(_)) | Err(_) => Ok(()),
        }
    }

    /// Returns the sorted names in a folder, or no names if the folder does not exist.
    pub(crate) fn list(&self, folder: &Path) -> Result<Vec<String>, DiskError> {
        let mut names = match &self.0 {
            Kind::Real => real::list(folder),
            #[cfg(feature = "simulation")]
            Kind::SimDisk(disk) => disk.list(folder),
        }
        .map_err(|source| DiskError::new("list", folder, source))?;
        names.sort();
        Ok(names)
    }

    /// Creates an empty file for reads and writes. An existing file is truncated.
    pub(crate) fn create(&self, path: &Path) -> Result<DiskFile, DiskError> {
        let kind = match &self.0 {
            Kind::Real => real::create(path).map(FileKind::Real),
            #[cfg(feature = "simulation")]
            Kind::SimDisk(disk) => disk.create(path).map(FileKind::SimDisk),
        }
        .map_err(|source| DiskError::new("create", path, source))?;
        DiskFile::new(path, kind)
    }

    /// Opens a file for reads.
    pub(crate) fn open(&self, path: &Path) -> Result<DiskFile, DiskError> {
        let kind = match &self.0 {
            Kind::Real => std::fs::File::open(path).map(FileKind::Real),
            #[cfg(feature = "simulation")]
            Kind::SimDisk(disk) => disk.open(path).map(FileKind::SimDisk),
        }
        .map_err(|source| DiskError::new("open", path, source))?;
        DiskFile::new(path, kind)
    }

    /// Returns all bytes of a file, or `None` if it does not exist.
    pub(crate) fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
        let file = match self.open(path) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut bytes = vec![0; file.bytes()? as usize];
        file.read_at(&mut bytes, 0)?;
        Ok(Some(bytes))
    }

    pub(crate) fn rename(&self, file: &mut DiskFile, to: &Path) -> Result<(), DiskError> {
        self.rename_path(&file.path, to)?;
        file.path = to.to_owned();
        Ok(())
    }

    pub(crate) fn rename_path(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        match &self.0 {
            Kind::Real => std::fs::rename(from, to),
            #[cfg(feature = "simulation")]
            Kind::SimDisk(disk) => disk.rename(from, to),
        }
        .map_err(|source| DiskError::new("rename", from, source))
    }

    pub(crate) fn remove(&self, path: &Path) -> Result<(), DiskError> {
        match &self.0 {
            Kind::Real => std::fs::remove_file(path),
            #[cfg(feature = "simulation")]
            Kind::SimDisk(disk) => disk.remove(path),
        }
        .map_err(|source| DiskError::new("remove", path, source))
    }

    /// Makes the names in a folder durable.
    pub(crate) fn sync_folder(&self, folder: &Path) -> Result<(), DiskError> {
        match &self.0 {
            Kind::Real => real::sync_folder(folder),
            #[cfg(feature = "simulation")]
            Kind::SimDisk(disk) => disk.sync_folder(folder),
        }
        .map_err(|source| DiskError::new(SYNC_FOLDER, folder, source))
    }

    /// Returns sixteen random bytes. On the simulated disk they depend on its seed.
    pub(crate) fn random_bytes(&self) -> Result<[u8; 16], DiskError> {
        match &self.0 {
            Kind::Real => {
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes).map_err(|error| {
                    DiskError::new("generate random bytes for", Path::new("log id"), error.into())
                })?;
                Ok(bytes)
            }
            #[cfg(feature = "simulation")]
            Kind::SimDisk(disk) => Ok(disk.random_bytes()),
        }
    }
}

impl DiskFile {
    fn new(path: &Path, kind: FileKind) -> Result<Self, DiskError> {
        let identity = match &kind {
            FileKind::Real(file) => real::identity(file),
            #[cfg(feature = "simulation")]
            FileKind::SimDisk(file) => Ok(file.identity()),
        }
        .map_err(|source| DiskError::new("read the metadata of", path, source))?;
        Ok(Self { path: path.to_owned(), identity, kind })
    }

    /// Fails if the path no longer names this file, because the next open would not find what is written to it. Also
    /// fails if the file is shorter than `bytes_min`.
    pub(crate) fn expect_at_path(&self, disk: &Disk, bytes_min: u64) -> Result<(), DiskError> {
        disk.expect(&self.path, |named| named.identity == self.identity, bytes_min)
    }

    /// Fills `bytes` from the file, starting at `offset`.
    pub(crate) fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<(), DiskError> {
        match &self.kind {
            FileKind::Real(file) => file.read_exact_at(bytes, offset),
            #[cfg(feature = "simulation")]
            FileKind::SimDisk(file) => file.read_at(bytes, offset),
        }
        .map_err(|source| DiskError::new("read", &self.path, source))
    }

    /// Writes all of `bytes`. After an error, any part of them may have been written.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        match &self.kind {
            FileKind::Real(file) => file.write_all_at(bytes, offset),
            #[cfg(feature = "simulation")]
            FileKind::SimDisk(file) => file.write_at(bytes, offset),
        }
        .map_err(|source| DiskError::new("write", &self.path, source))
    }

    /// Makes the bytes and the length of the file durable.
    pub(crate) fn sync(&self) -> Result<(), DiskError> {
        match &self.kind {
            FileKind::Real(file) => file.sync_data(),
            #[cfg(feature = "simulation")]
            FileKind::SimDisk(file) => file.sync(),
        }
        .map_err(|source| DiskError::new(SYNC, &self.path, source))
    }

    pub(crate) fn cut_to(&self, bytes: u64) -> Result<(), DiskError> {
        match &self.kind {
            FileKind::Real(file) => file.set_len(bytes),
            #[cfg(feature = "simulation")]
            FileKind::SimDisk(file) => file.cut_to(bytes),
        }
        .map_err(|source| DiskError::new("truncate", &self.path, source))
    }

    pub(crate) fn bytes(&self) -> Result<u64, DiskError> {
        match &self.kind {
            FileKind::Real(file) => file.metadata().map(|data| data.len()),
            #[cfg(feature = "simulation")]
            FileKind::SimDisk(file) => file.bytes(),
        }
        .map_err(|source| DiskError::new("read the size of", &self.path, source))
    }
}
