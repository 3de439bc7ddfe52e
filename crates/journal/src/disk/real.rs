//! Operations on the real disk that need more than one call of the standard library.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Identity, LOCK_FILE, Named};

/// Locks a folder for this process until it is dropped.
pub struct FolderLock {
    pub identity: Identity,
    _folder: File,
    _file: File,
}

pub(super) fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().unwrap_or(Path::new(""));
    create_folder(above)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // If the name of a folder is not durable, a power cut can lose the folder with everything in it.
    sync_folder(above)
}

/// Locks the folder and its file `lock`. The lock on the folder is the decisive one, because it does not depend on a
/// file that can be deleted. The file contains the id of this process. Its lock excludes programs that know only it.
pub(super) fn lock(path: &Path) -> io::Result<Option<FolderLock>> {
    let folder = File::open(path)?;
    if !try_lock(&folder)? {
        return Ok(None);
    }
    let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path.join(LOCK_FILE))?;
    if !try_lock(&file)? {
        return Ok(None);
    }
    // The id is only information for people, so a full disk does not prevent the start.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(Some(FolderLock { identity: identity(&folder)?, _folder: folder, _file: file }))
}

/// Returns the id of the process that holds the lock of a folder. An id that an ended process has left is ignored.
pub(super) fn holder(folder: &Path) -> Option<u32> {
    let file = File::open(folder.join(LOCK_FILE)).ok()?;
    match try_lock(&file) {
        Ok(false) => io::read_to_string(file).ok()?.trim().parse().ok(),
        _ => None,
    }
}

fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Returns what the path names, or `None` if no file or folder has this path.
pub(super) fn named(path: &Path) -> io::Result<Option<Named>> {
    match look_up(path) {
        Ok(named) => Ok(Some(named)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

pub(super) fn identity(file: &File) -> io::Result<Identity> {
    #[cfg(target_os = "linux")]
    if let Ok(named) = without_times(file, Path::new(""), rustix::fs::AtFlags::EMPTY_PATH) {
        return Ok(named.identity);
    }
    file.metadata().map(|data| described_by(&data).identity)
}

fn look_up(path: &Path) -> io::Result<Named> {
    #[cfg(target_os = "linux")]
    if let Ok(named) = without_times(rustix::fs::CWD, path, rustix::fs::AtFlags::empty()) {
        return Ok(named);
    }
    fs::metadata(path).map(|data| described_by(&data))
}

/// Reads the metadata without the file's times. If a program reads the times, Linux records exact times at the next
/// write, which costs a fifth of the rate of small appends. Old kernels and some containers do not have this call.
#[cfg(target_os = "linux")]
fn without_times(
    folder: impl rustix::fd::AsFd,
    path: &Path,
    flags: rustix::fs::AtFlags,
) -> rustix::io::Result<Named> {
    use rustix::fs::{StatxFlags, makedev, statx};
    let data = statx(folder, path, flags, StatxFlags::INO | StatxFlags::SIZE)?;
    let device = makedev(data.stx_dev_major, data.stx_dev_minor);
    Ok(Named { identity: Identity { device, inode: data.stx_ino }, bytes: data.stx_size })
}

fn described_by(data: &fs::Metadata) -> Named {
    Named { identity: Identity { device: data.dev(), inode: data.ino() }, bytes: data.len() }
}

pub(super) fn list(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path)
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}
