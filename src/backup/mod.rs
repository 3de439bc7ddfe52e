//! The backup format: one tar file with a data folder as it was at one moment, and a manifest at the end. The server
//! writes it, and `restore` reads it.
//!
//! | entry, in this order | content |
//! |---|---|
//! | `millrace-backup` | the version of the format: a number and a line feed |
//! | `millrace.db` | a snapshot of the store, which is taken first; missing if the store is on a database server |
//! | `journal/*.seg` | the log, which is read after the snapshot: no position in the store is beyond its end |
//! | `journal/durable` | the mark that makes the restored log end at that position |
//! | `manifest.json` | the list of all parts, with the size and SHA-256 of each |
//! | `manifest.sha256` | the SHA-256 of the manifest, in the format of `sha256sum` |
//!
//! Every byte is covered by a checksum, or only one value is allowed for it. So a backup that was cut off or has
//! changed is always refused.

mod manifest;
mod read;
mod tar;
mod write;

pub use manifest::{Manifest, Part, StoredPosition};
pub use read::{BackupError, unpack, verify};
pub use write::Archive;

/// The version that is written. A reader refuses later versions.
const VERSION: u32 = 1;

const VERSION_NAME: &str = "millrace-backup";
const MANIFEST_NAME: &str = "manifest.json";
const MANIFEST_SUM_NAME: &str = "manifest.sha256";

const LOG_MARK_FILE: &str = "durable";

/// The name of the store, in a backup and in the data folder.
pub const STORE_NAME: &str = "millrace.db";
/// The folder of the log, in a backup and in the data folder.
pub const LOG_FOLDER: &str = "journal";

/// Returns whether a backup may contain a part with this name. No other file is ever written by `restore`.
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
