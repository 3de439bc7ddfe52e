//! The key of the hashes in erasure records. A plain hash of an e-mail address can be found by hashing many addresses.
//! With the key, only this node can tell whether a record belongs to a value.
//!
//! The key is a file in the data folder. It is neither in the store nor in backups, so that a copy of the database is
//! not enough to guess values.

use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::erasure_error::ErasureError;

const KEY_BYTES: usize = 32;
/// What a keyed hash begins with. Earlier versions stored the plain SHA-256.
pub const KEYED: &str = "hmac-sha256:";

/// The file with the key. It is made when the first hash is needed.
pub struct ErasureKey {
    path: PathBuf,
    known: Mutex<Option<[u8; KEY_BYTES]>>,
}

impl ErasureKey {
    pub fn new(path: PathBuf) -> Self {
        Self { path, known: Mutex::default() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether the next hash makes a new key, because the file does not exist.
    pub fn is_missing(&self) -> bool {
        event::lock(&self.known).is_none() && matches!(self.path.try_exists(), Ok(false))
    }

    /// Returns the hash of a value for its record.
    pub fn hash(&self, value: &str) -> Result<String, ErasureError> {
        self.rehash(&event::hex(&Sha256::digest(value.as_bytes())))
    }

    /// Returns the keyed hash for a record that has the plain SHA-256 of its value, in hex.
    pub fn rehash(&self, plain: &str) -> Result<String, ErasureError> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key()?).expect("HMAC takes keys of any length");
        mac.update(plain.as_bytes());
        Ok(format!("{KEYED}{}", event::hex(&mac.finalize().into_bytes())))
    }

    fn key(&self) -> Result<[u8; KEY_BYTES], ErasureError> {
        let mut known = event::lock(&self.known);
        if let Some(key) = *known {
            return Ok(key);
        }
        let failed = |error: Error| ErasureError::Key { path: self.path.clone(), reason: error.to_string() };
        let key = match std::fs::read_to_string(&self.path) {
            Ok(text) => event::from_hex(text.trim()).ok_or_else(|| {
                failed(Error::new(
                    ErrorKind::InvalidData,
                    "its content is not a key of 64 hexadecimal digits",
                ))
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let mut key = [0; KEY_BYTES];
                getrandom::fill(&mut key).map_err(|error| failed(Error::other(error.to_string())))?;
                event::write_private(&self.path, &event::hex(&key), || {}).map_err(failed)?;
                key
            }
            Err(error) => return Err(failed(error)),
        };
        *known = Some(key);
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_hash_depends_on_the_value_and_on_the_key_of_the_folder() {
        let (one, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let key = |folder: &tempfile::TempDir| ErasureKey::new(folder.path().join("erasure-key"));
        let ann = key(&one).hash("ann@example.com").expect("a hash");
        assert_eq!(key(&one).hash("ann@example.com").expect("a hash"), ann, "after a restart");
        assert_ne!(key(&one).hash("bob@example.com").expect("a hash"), ann);
        assert_ne!(key(&other).hash("ann@example.com").expect("a hash"), ann);
        let plain = event::hex(&Sha256::digest(b"ann@example.com"));
        assert!(ann.starts_with(KEYED) && !ann.contains(&plain), "{ann}");
        assert_eq!(key(&one).rehash(&plain).expect("a hash"), ann, "a record of an earlier version");
        let mode = std::fs::metadata(one.path().join("erasure-key")).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_key_is_an_error_and_is_not_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("erasure-key");
        for text in ["", "key", &"g".repeat(64), &"+1".repeat(32), &"0".repeat(63)] {
            std::fs::write(&path, text).expect("writes");
            let error = ErasureKey::new(path.clone()).hash("ann").expect_err(text).to_string();
            assert!(error.contains("erasure-key") && error.contains("64 hexadecimal digits"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).expect("reads"), text);
        }
    }
}
