//! Where the log ended when the server began to accept events although its database did not answer. Only this end
//! shows later that the log is older than the database: meanwhile the log grows, and no longer looks too short. The end
//! is in a file until both have been compared, so that a restart in between does not forget it.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use event::LogId;

#[derive(Clone)]
pub struct UncheckedEnd {
    path: PathBuf,
    log: LogId,
    end: u64,
    /// Log and database were found to belong together. Guards the file.
    checked: Arc<Mutex<bool>>,
}

impl UncheckedEnd {
    /// Returns the present end of the log, or an earlier one that has been in the file since an earlier start.
    pub fn of(data: &Path, log: LogId, log_end: u64) -> Result<Self> {
        let path = Self::path_in(data);
        let end = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => log_end,
            read => earlier_end(&read?, log)?.map_or(log_end, |earlier| earlier.min(log_end)),
        };
        Ok(Self { path, log, end, checked: Arc::default() })
    }

    pub fn path_in(data: &Path) -> PathBuf {
        data.join("unchecked-log-end")
    }

    pub fn end(&self) -> u64 {
        self.end
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the file, before the server accepts events without having compared log and database. Blocks.
    pub fn remember(&self) -> Result<()> {
        let checked = event::lock(&self.checked);
        if *checked {
            return Ok(());
        }
        event::write_private(&self.path, &format!("{} {}\n", self.log, self.end), || {})?;
        failpoint::hit("unchecked.remembered");
        Ok(())
    }

    /// Deletes the file once log and database were found to belong together, before any view continues: with a file that
    /// stays, the next start would take the log for an older one. Blocks.
    pub fn forget(&self) -> Result<()> {
        let mut checked = event::lock(&self.checked);
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Also if an earlier attempt removed the file, whose sync may have failed.
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
        *checked = true;
        failpoint::hit("unchecked.forgotten");
        Ok(())
    }
}

/// Returns the end in the text of a file. The file of another log says nothing about this one.
fn earlier_end(text: &str, log: LogId) -> Result<Option<u64>> {
    let unknown = || Error::other("it does not contain the id of a log and a position");
    let (of, end) = text.trim().split_once(' ').ok_or_else(unknown)?;
    if of.parse::<LogId>().map_err(|_| unknown())? != log {
        return Ok(None);
    }
    end.parse().map(Some).map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: LogId = LogId([7; 16]);

    #[test]
    fn the_lowest_end_counts_until_log_and_database_were_compared() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |log, log_end| {
            let unchecked = UncheckedEnd::of(folder.path(), log, log_end).expect("read");
            unchecked.remember().expect("written");
            unchecked
        };
        assert_eq!((at(LOG, 900).end(), at(LOG, 1_100).end()), (900, 900));
        assert_eq!((at(LOG, 500).end(), at(LOG, 1_200).end()), (500, 500), "an older copy of the log");
        assert_eq!(at(LogId([8; 16]), 1_300).end(), 1_300, "another log");
        let compared = at(LOG, 1_400);
        compared.forget().expect("deleted");
        compared.forget().expect("a second time changes nothing");
        compared.remember().expect("too late, so nothing is written");
        assert!(!compared.path().exists());
        assert_eq!(at(LOG, 1_500).end(), 1_500);
    }

    #[test]
    fn a_file_that_cannot_be_understood_is_not_ignored() {
        let folder = tempfile::tempdir().expect("a folder");
        for text in ["", "500", "nothing 500", &format!("{LOG} x")] {
            std::fs::write(UncheckedEnd::path_in(folder.path()), text).expect("written");
            assert!(UncheckedEnd::of(folder.path(), LOG, 900).is_err(), "{text}");
        }
    }
}
