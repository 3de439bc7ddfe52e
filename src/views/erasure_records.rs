//! The hashes in the records of erasures, by which a record is found if the value is known.

use super::erasure::Eraser;
use super::erasure_error::ErasureError;
use super::erasure_key::KEYED;
use crate::store::Erasure;

impl Eraser {
    /// Returns the hash of a value, as its record has it. Makes a key if there is none. Blocks.
    pub fn value_hash(&self, value: &str) -> Result<String, ErasureError> {
        self.warn_of_missing_key()?;
        self.key.hash(value)
    }

    /// Warns if the key that made the hashes of this node's records is missing. The next hash makes a new key, with
    /// which these records are not found by their value. The records of other nodes have other keys.
    pub(super) fn warn_of_missing_key(&self) -> Result<(), ErasureError> {
        if !self.key.is_missing() {
            return Ok(());
        }
        let known = self.runtime.block_on(self.store.erasures(None))?;
        let is_keyed =
            |record: &&Erasure| record.log == self.log.id() && record.value_hash.starts_with(KEYED);
        let records = known.iter().filter(is_keyed).count();
        if records > 0 {
            tracing::warn!(
                file = %self.key.path().display(),
                records,
                "the key of earlier erasure records is missing, so they are not found by their value; restore the file from the old data folder"
            );
        }
        Ok(())
    }

    /// Replaces the plain hashes that an earlier version stored in its records.
    pub(super) fn rehash_records(&self) -> Result<(), ErasureError> {
        let plain = self.runtime.block_on(self.store.erasures_hashed_otherwise(KEYED))?;
        if !plain.is_empty() {
            self.warn_of_missing_key()?;
        }
        for (id, hash) in &plain {
            let keyed = self.key.rehash(hash)?;
            self.runtime.block_on(self.store.rehash_erasure(*id, &keyed))?;
        }
        if !plain.is_empty() {
            self.scrub()?;
            tracing::info!(
                records = plain.len(),
                "erasure records of an earlier version have keyed hashes now"
            );
        }
        Ok(())
    }
}
