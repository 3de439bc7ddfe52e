//! The first key: a file in the data folder where the command line finds it.

use std::path::{Path, PathBuf};

use super::access_keys::{KeyError, hash, new_literal};
use super::key::{KeyHash, NewKey, Scope};
use super::stored_keys::StoredKeys;

#[derive(Clone)]
pub struct FirstKey {
    hash: KeyHash,
    is_new: bool,
}

impl FirstKey {
    pub const NAME: &str = "first";

    /// Reads the file, or creates it with a new key. The store learns of the key later: if the process ends before, the
    /// next start finds the file.
    pub fn in_folder(data: &Path) -> Result<Self, KeyError> {
        let path: PathBuf = data.join("api-key");
        let unwritable = |error: std::io::Error| KeyError::Unwritable {
            path: path.display().to_string(),
            reason: error.to_string(),
        };
        let found = match std::fs::read_to_string(&path) {
            Ok(literal) => Some(literal.trim().to_owned()).filter(|literal| !literal.is_empty()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(unwritable(error)),
        };
        if let Some(literal) = found {
            return Ok(Self { hash: hash(&literal), is_new: false });
        }
        let literal = new_literal()?;
        event::write_private(&path, &literal, || failpoint::hit("keys.file_made")).map_err(unwritable)?;
        failpoint::hit("keys.written");
        Ok(Self { hash: hash(&literal), is_new: true })
    }

    /// Returns the description under which the store learns of the key. All first keys share the ids of their clients,
    /// because a data folder that is replaced has another one.
    pub async fn described(&self, stored: &StoredKeys) -> Result<NewKey, KeyError> {
        let scopes = Scope::ALL.to_vec();
        if !stored.has_name(Self::NAME).await? {
            return Ok(NewKey { name: Self::NAME.to_owned(), scopes, ..NewKey::default() });
        }
        let name = format!("{}-{}", Self::NAME, event::hex(&self.hash[..4]));
        Ok(NewKey { name, id_scope: Some(Self::NAME.to_owned()), scopes, ..NewKey::default() })
    }

    pub fn hash(&self) -> KeyHash {
        self.hash
    }

    pub fn is_new(&self) -> bool {
        self.is_new
    }
}
