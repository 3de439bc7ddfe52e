//! The end of the log as it was when a server started whose database has not been checked yet. A log that is older than
//! its database can be recognised only by this end: the log grows while the database is away, and then no longer looks
//! too short. The file stays until the check, so that a restart in between does not forget it.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

pub struct UncheckedEnd {
    path: PathBuf,
    end: u64,
}

impl UncheckedEnd {
    /// Remembers the end of the log, before the server accepts events.
    pub fn remember(data: &Path, log_end: u64) -> Result<Self> {
        let path = data.join("unchecked-log-end");
        let earlier = match std::fs::read_to_string(&path) {
            Ok(text) => Some(text.trim().parse().map_err(|_| not_a_position(&path))?),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let end = earlier.unwrap_or(log_end);
        if earlier.is_none() {
            event::write_private(&path, &format!("{end}\n"), || {})?;
        }
        Ok(Self { path, end })
    }

    pub fn end(&self) -> u64 {
        self.end
    }

    /// Deletes the file when log and database have been found to belong together, before any view continues: a file that
    /// stays would make the next start take the log for an older one.
    pub fn forget(&self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            removed => removed?,
        }
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn not_a_position(path: &Path) -> Error {
    Error::other(format!("`{}` does not contain a position of the log; delete it", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_first_start_counts_until_the_check() {
        let folder = tempfile::tempdir().expect("a folder");
        let end_at = |log_end| UncheckedEnd::remember(folder.path(), log_end).expect("written").end();
        assert_eq!((end_at(500), end_at(1_100)), (500, 500));
        let checked = UncheckedEnd::remember(folder.path(), 1_200).expect("read");
        checked.forget().expect("deleted");
        checked.forget().expect("a second time changes nothing");
        assert_eq!(end_at(1_300), 1_300);
    }
}
