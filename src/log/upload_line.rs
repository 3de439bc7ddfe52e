//! Finds lines of an upload in the log. Dedup stores lines in runs, so that it knows only the run that contains the
//! original of a repeated line.

use std::ops::Range;

use event::UploadId;

use super::{EventLog, ReadError, Record};

/// A line of an upload, counted as its sender counts lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadLine {
    pub upload: UploadId,
    pub line: u64,
}

impl EventLog {
    /// Returns which line of an upload the event at `position` is. Returns `None` for other events, and for deleted
    /// ones. Blocks on the disk.
    pub fn upload_line(&self, position: u64) -> Result<Option<UploadLine>, ReadError> {
        self.in_record(position, |record| lines(record).find(|(at, _)| *at == position).map(|(_, line)| line))
    }

    /// Returns the positions of the events that are these lines of the upload, in the record with the event at
    /// `position`. It is empty if the record has none of them. Blocks on the disk.
    pub fn lines_in_record(
        &self,
        position: u64,
        upload: UploadId,
        wanted: &Range<u64>,
    ) -> Result<Vec<u64>, ReadError> {
        let is_wanted = |line: &UploadLine| line.upload == upload && wanted.contains(&line.line);
        let found = self.in_record(position, |record| {
            Some(lines(record).filter(|(_, line)| is_wanted(line)).map(|(at, _)| at).collect())
        })?;
        Ok(found.unwrap_or_default())
    }

    /// Returns the event that the one at `repeat` repeats, if both are lines of one upload. `first` is an event of the
    /// record that has the original. Blocks on the disk.
    pub fn original_line(&self, repeat: u64, first: u64) -> Result<Option<u64>, ReadError> {
        let Some(wanted) = self.upload_line(repeat)? else { return Ok(None) };
        self.in_record(first, |record| lines(record).find(|(_, line)| *line == wanted).map(|(at, _)| at))
    }

    fn in_record<T>(
        &self,
        position: u64,
        find: impl FnOnce(&Record<'_>) -> Option<T>,
    ) -> Result<Option<T>, ReadError> {
        if position < self.begin() || position >= self.end() {
            return Ok(None);
        }
        let mut reader = self.reader();
        let records = match reader.read(position, 1) {
            Err(ReadError::BelowBegin { .. }) => return Ok(None),
            records => records?,
        };
        match records.iter().next() {
            Some(record) => Ok(find(&record?)),
            None => Ok(None),
        }
    }
}

fn lines<'r>(record: &'r Record<'_>) -> impl Iterator<Item = (u64, UploadLine)> + 'r {
    let upload = record.header.as_ref().and_then(|header| header.upload);
    upload.into_iter().flat_map(|upload| {
        record.entries().flatten().map(move |(position, entry)| {
            (position, UploadLine { upload: upload.id, line: upload.first_line + u64::from(entry.line) })
        })
    })
}
