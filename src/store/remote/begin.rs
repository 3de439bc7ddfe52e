//! How a transaction on a database server begins.

/// The purpose of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Writes; each statement sees what others have committed.
    Writing,
    /// Reads several times from one snapshot.
    Reading,
}
