//! The form of a backup: one tar file that holds a data folder as it was at one moment, and says at its
//! end what it should hold. The server writes it, `restore` reads it; both go by what stands here.
//!
//! | in this order | what it is |
//! |---|---|
//! | `millrace-backup` | the version of this form, a number in a line |
//! | `millrace.db` | a snapshot of the store, taken first |
//! | `journal/*.seg` | the log, read after the snapshot: no position in the store lies beyond its end |
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

/// The names that parts have, as in a data folder.
pub const STORE_NAME: &str = "millrace.db";
pub const LOG_FOLDER: &str = "journal";
pub const LOG_MARK_NAME: &str = "journal/durable";

pub fn segment_name(file: &str) -> String {
    format!("{LOG_FOLDER}/{file}")
}

/// Whatever else a file says, it is not written anywhere.
fn is_part(name: &str) -> bool {
    let digits = name.strip_prefix("journal/").and_then(|file| file.strip_suffix(".seg"));
    let is_segment =
        digits.is_some_and(|digits| digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()));
    is_segment || name == STORE_NAME || name == LOG_MARK_NAME
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
