//! Reads the parts of a record: varints, counted bytes and texts.

use event::{put_varint, take_varint};

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the record has version {0}, which this version of millrace cannot read; use a newer one")]
    Version(u8),
    #[error("the record is cut off or malformed")]
    Malformed,
}

/// The bytes that are still to be read.
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(RecordError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn byte(&mut self) -> Result<u8, RecordError> {
        Ok(self.take(1)?[0])
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        self.take(N)?.try_into().map_err(|_| RecordError::Malformed)
    }

    pub fn varint(&mut self) -> Result<u64, RecordError> {
        take_varint(&mut self.0).ok_or(RecordError::Malformed)
    }

    pub fn counted(&mut self) -> Result<&'a [u8], RecordError> {
        let length = usize::try_from(self.varint()?).map_err(|_| RecordError::Malformed)?;
        self.take(length)
    }

    pub fn text(&mut self) -> Result<&'a str, RecordError> {
        let bytes = std::mem::take(&mut self.0);
        std::str::from_utf8(bytes).map_err(|_| RecordError::Malformed)
    }

    /// Returns `None` for a text whose bytes an erasure has replaced by zeros.
    pub fn text_unless_erased(&mut self) -> Result<Option<&'a str>, RecordError> {
        self.text().map(|text| Some(text).filter(|text| !text.starts_with('\0')))
    }
}

/// Writes bytes with their length before them.
pub fn put_counted(bytes: &mut Vec<u8>, value: &[u8]) {
    put_varint(bytes, value.len() as u64);
    bytes.extend_from_slice(value);
}
