//! Checks that the files of an open database are still where they were opened. SQLite goes on writing to a file that
//! somebody moved or removed, and loses all of it.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::commit_stamp::beside;

/// The files, each as it was when the database was opened.
pub struct Files(Vec<(PathBuf, Identity)>);

/// Tells a file from any other, under whatever name.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Files {
    /// The database has to be open, so that all of its files are there.
    pub fn of(database: &Path) -> io::Result<Self> {
        // Beside the file itself, where the path leads to it by a link.
        let real = database.canonicalize()?;
        let paths = [database.to_owned(), beside(&real, "-wal"), beside(&real, "-shm")];
        paths
            .into_iter()
            .map(|path| identity(&path).map(|identity| (path, identity)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Fails if one of them was moved, removed or replaced.
    pub fn expect_in_place(&self) -> Result<(), String> {
        let moved = |(path, opened): &&(PathBuf, Identity)| match identity(path) {
            Ok(found) => found != *opened,
            Err(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        };
        match self.0.iter().find(moved) {
            None => Ok(()),
            Some((path, _)) => {
                Err(format!("`{}` was moved, removed or replaced while it was in use", path.display()))
            }
        }
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    std::fs::metadata(path).map(|data| Identity { device: data.dev(), inode: data.ino() })
}
