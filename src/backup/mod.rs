//! The form of a backup: one tar file that holds a data folder as it was at one moment, and says at its
//! end what it should hold. The server writes it, `restore` reads it; both go by what stands here.
//!
//! | in this order | what it is |
//! |---|---|
//! | `millrace-backup` | the version of this form, a number in a line |
//! | `millrace.db` | a snapshot of the store, taken first; not there where a database server keeps it |
//! | `journal/*.seg` | the log, read after that: no position in the store lies beyond its end |
//! | `journal/durable` | the mark that lets the log end right there |
//! | `manifest.json` | what was backed up, with the size and SHA-256 of every part before it |
//! | `manifest.sha256` | the manifest's own SHA-256, as `sha256sum` writes it |
//!
//! Every byte is covered by a checksum or has only one value that it may have, so that a backup that was
//! cut off or has changed is never taken for a whole one.

mod manifest;
mod read;
mod tar;
mod write;

pub use manifest::{Manifest, Part, StoredPosition};
pub use read::{BackupError, unpack, verify};
pub use write::Archive;

/// A reader refuses what is of a later version.
const VERSION: u32 = 1;

const VERSION_NAME: &str = "millrace-backup";
const MANIFEST_NAME: &str = "manifest.json";
const MANIFEST_SUM_NAME: &str = "manifest.sha256";

const LOG_MARK_FILE: &str = "durable";

/// The names that parts have, as in a data folder.
pub const STORE_NAME: &str = "millrace.db";
pub const LOG_FOLDER: &str = "journal";

/// Whatever else a file says, it is not written anywhere.
fn is_part(name: &str) -> bool {
    let of_log = name.strip_prefix(LOG_FOLDER).and_then(|rest| rest.strip_prefix('/'));
    let is_segment = |file: &str| {
        let digits = file.strip_suffix(".seg").unwrap_or_default().as_bytes();
        digits.len() == 20 && digits.iter().all(u8::is_ascii_digit)
    };
    name == STORE_NAME || of_log.is_some_and(|file| file == LOG_MARK_FILE || is_segment(file))
}

fn hex(bytes: &[u8]) -> String {
    event::hex(bytes)
}
