//! The few things the journal asks of a disk. Everything above goes through here,
//! so that the same code runs on the real disk and on one that forgets.

mod real;

#[cfg(feature = "simulation")]
pub(crate) mod sim;

use std::io;
use std::path::{Path, PathBuf};

#[cfg(feature = "simulation")]
use sim::{SimDisk, SimFile, SimLock};

/// Where a journal lives.
#[derive(Clone, Default)]
pub struct Disk(Kind);

#[derive(Clone, Default)]
enum Kind {
    #[default]
    Real,
    #[cfg(feature = "simulation")]
    SimDisk(SimDisk),
}

/// What the disk refused to do.
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

    /// Whether there was no room, which passes, unlike a broken disk. A sync that fails
    /// has failed, whatever it says.
    pub(crate) fn is_full(&self) -> bool {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull, WriteZero};
        let full = matches!(self.source.kind(), StorageFull | QuotaExceeded | FileTooLarge | WriteZero);
        full && self.action != SYNC && self.action != SYNC_FOLDER
    }

    fn not_in_place(path: &Path) -> Self {
        let source = io::Error::other("it was moved, removed or replaced while the server was using it");
        Self::new("find", path, source)
    }

    fn cut_short(path: &Path) -> Self {
        let source = io::Error::other("it was cut short while the server was using it");
        Self::new("go on with", path, source)
    }

    /// The error and its cause in one line.
    pub(crate) fn line(&self) -> String {
        format!("{self}: {}", self.source)
    }
}

const SYNC: &str = "sync";
const SYNC_FOLDER: &str = "sync folder";

/// Keeps a folder for this process until it is dropped.
pub(crate) struct Lock {
    /// The folder that is locked, whatever its path names later.
    folder: Identity,
    _held: Held,
}

enum Held {
    Real(#[expect(dead_code, reason = "held for its drop")] real::FolderLock),
    #[cfg(feature = "simulation")]
    SimDisk(#[expect(dead_code, reason = "held for its drop")] SimLock),
}

/// The refusal of a folder that another process holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "another process uses `{}`{}: stop it first, or use another data folder. Never delete `lock` or another file in \
     there: two servers on one log lose events",
    folder.display(),
    process.map(|id| format!(" (process {id})")).unwrap_or_default()
)]
pub struct Locked {
    pub folder: PathBuf,
    /// The process that holds it, if it wrote its id down.
    pub process: Option<u32>,
}

impl Locked {
    pub(crate) fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), process: real::holder(folder) }
    }
}

const LOCK_FILE: &str = "lock";

/// The simulated disk has one folder, which is always there.
#[cfg(feature = "simulation")]
const THE_FOLDER: Identity = Identity { device: 0, inode: 0 };

/// Tells a file or folder from any other, under whatever name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

/// The file or folder that a path names now.
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
    /// The machine's own disk.
    pub fn real() -> Self {
        Self(Kind::Real)
    }

    #[cfg(feature = "simulation")]
    pub(crate) fn simulated(sim: SimDisk) -> Self {
        Self(Kind::SimDisk(sim))
    }

    /// Makes the folder, and what is missing above it, durably.
    pub(crate) fn create_folder(&self, folder: &Path) -> Result<(), DiskError> {
        match &self.0 {
            Kind::Real => real::create_folder(folder),
            #[cfg(feature = "simulation")]
            Kind::SimDisk(_) => Ok(()),
        }
        .map_err(|source| DiskError::new("create", folder, source))
    }

    /// Locks the folder itself, since a file in it could be removed while it is held. Returns nothing if
    /// another process holds the lock.
    pub(crate) fn lock(&self, folder: &Path) -> Result<Option<Lock>, DiskError> {
        let held = match &self.0 {
            Kind::Real => real::lock(folder).map(|lock| lock.map(|lock| (lock.identity, Held::Real(lock)))),
            #[cfg(feature = "simulation")]
            Kind::SimDisk(disk) => {
                disk.lock(folder).map(|lock| lock.map(|lock| (THE_FOLDER, Held::SimDisk(lock))))
            }
        }
        .map_err(|source| DiskError::new("lock", folder, source))?;
        Ok(held.map(|(folder, held)| Lock { folder, _held: held }))
    }

    /// Returns what the path names now, or nothing if there is no such file or folder.
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

    /// Fails if the file at this path is gone or shorter than it has to be.
    pub(crate) fn expect_bytes(&self, path: &Path, bytes_min: u64) -> Result<(), DiskError> {
        self.expect(path, |_| true, bytes_min)
    }

    /// A path that cannot be looked up just now says nothing: the file may well be in its place.
    fn expect(
        &self,
        path: &Path,
        is_right: impl FnOnce(Named) -> bool,
        bytes_min: u64,
    ) -> Result<(), DiskError> {
        match self.named(path) {
            Ok(Some(named)) if !is_right(named) => Err(DiskError::not_in_place(path)),
            Ok(Some(named)) if named.bytes < bytes_min => Err(DiskError::cut_short(path)),
            Ok(None) => Err(DiskError::not_in_place(path)),
            Ok(Some(_)) | Err(_) => Ok(()),
        }
    }

    /// The names in a folder, sorted; none if there is no such folder.
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

    /// Opens an empty file to write and read, whatever was there before.
    pub(crate) fn create(&self, path: &Path) -> Result<DiskFile, DiskError> {
        let kind = match &self.0 {
            Kind::Real => real::create(path).map(FileKind::Real),
            #[cfg(feature = "simulation")]
            Kind::SimDisk(disk) => disk.create(path).map(FileKind::SimDisk),
        }
        .map_err(|source| DiskError::new("create", path, source))?;
        DiskFile::new(path, kind)
    }

    /// Opens a file to read.
    pub(crate) fn open(&self, path: &Path) -> Result<DiskFile, DiskError> {
        let kind = match &self.0 {
            Kind::Real => std::fs::File::open(path).map(FileKind::Real),
            #[cfg(feature = "simulation")]
            Kind::SimDisk(disk) => disk.open(path).map(FileKind::SimDisk),
        }
        .map_err(|source| DiskError::new("open", path, source))?;
        DiskFile::new(path, kind)
    }

    /// All bytes of a file; nothing if it does not exist.
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

    /// Sixteen bytes nobody has drawn before; on the simulated disk, those of its seed.
    pub(crate) fn random_bytes(&self) -> Result<[u8; 16], DiskError> {
        match &self.0 {
            Kind::Real => {
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes).map_err(|error| {
                    DiskError::new("draw random bytes for", Path::new("log id"), error.into())
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
        .map_err(|source| DiskError::new("measure", path, source))?;
        Ok(Self { path: path.to_owned(), identity, kind })
    }

    /// Fails if the path of this file does not name it any more: what is written to it would be lost. Fails
    /// as well if the file is shorter than `bytes_min`.
    pub(crate) fn expect_in_place(&self, disk: &Disk, bytes_min: u64) -> Result<(), DiskError> {
        disk.expect(&self.path, |named| named.identity == self.identity, bytes_min)
    }

    /// Fills `bytes` from `offset` on.
    pub(crate) fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<(), DiskError> {
        match &self.kind {
            FileKind::Real(file) => real::read_at(file, bytes, offset),
            #[cfg(feature = "simulation")]
            FileKind::SimDisk(file) => file.read_at(bytes, offset),
        }
        .map_err(|source| DiskError::new("read", &self.path, source))
    }

    /// Writes all of `bytes`; after an error any part of them may have been written.
    pub(crate) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        match &self.kind {
            FileKind::Real(file) => real::write_at(file, bytes, offset),
            #[cfg(feature = "simulation")]
            FileKind::SimDisk(file) => file.write_at(bytes, offset),
        }
        .map_err(|source| DiskError::new("write", &self.path, source))
    }

    /// Makes the bytes, and the length, durable.
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
        .map_err(|source| DiskError::new("cut", &self.path, source))
    }

    pub(crate) fn bytes(&self) -> Result<u64, DiskError> {
        match &self.kind {
            FileKind::Real(file) => file.metadata().map(|data| data.len()),
            #[cfg(feature = "simulation")]
            FileKind::SimDisk(file) => file.bytes(),
        }
        .map_err(|source| DiskError::new("measure", &self.path, source))
    }
}
