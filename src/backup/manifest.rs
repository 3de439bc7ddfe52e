//! What a backup says of itself, at its end: a backup without it broke off.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{MANIFEST_NAME, hex};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub version: u32,
    /// The version of the program that wrote it.
    pub millrace: String,
    pub created: String,
    pub log_id: String,
    /// The positions of the log that are in it: from `begin` up to, but not including, `end`.
    pub begin: u64,
    pub end: u64,
    pub positions: Vec<StoredPosition>,
    /// The database server that keeps the store, which then is not among the parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_elsewhere: Option<String>,
    pub parts: Vec<Part>,
}

/// Where a view, or the gate, stood in a log before the log was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredPosition {
    pub view: String,
    pub log_id: String,
    pub position: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub name: String,
    pub bytes: u64,
    pub sha256: String,
}

impl Manifest {
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }
}

/// The line that vouches for a manifest.
pub fn sum(manifest: &[u8]) -> String {
    format!("{}  {MANIFEST_NAME}\n", hex(&Sha256::digest(manifest)))
}
