//! The manifest at the end of a backup. A backup without it is incomplete.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{MANIFEST_NAME, hex};

/// The description of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub version: u32,
    /// The version of the millrace that wrote the backup.
    pub millrace: String,
    pub created: String,
    pub log_id: String,
    /// The first position of the log in the backup.
    pub begin: u64,
    /// The position after the last event in the backup.
    pub end: u64,
    pub positions: Vec<StoredPosition>,
    /// The name of the store if it is on a database server. Then it is not part of the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_elsewhere: Option<String>,
    pub parts: Vec<Part>,
}

/// The position of a view or of dedup in the store when the backup was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredPosition {
    pub view: String,
    pub log_id: String,
    pub position: u64,
}

/// A file in the backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub name: String,
    pub bytes: u64,
    pub sha256: String,
}

impl Manifest {
    /// Returns the size of all parts together.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }
}

/// Returns the content of `manifest.sha256` for a manifest.
pub fn sum(manifest: &[u8]) -> String {
    format!("{}  {MANIFEST_NAME}\n", hex(&Sha256::digest(manifest)))
}
