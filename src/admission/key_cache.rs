//! A copy of the keys in the data folder, so that a server that starts while its store is away knows its senders. It
//! holds hashes and no keys. A revocation by another node is missing in it until the store answers again.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use event::Millis;
use serde::{Deserialize, Serialize};

use super::key::{Key, KeyHash, KnownKeys, Scope};
use super::last_use::LastUse;

#[derive(Clone)]
pub struct KeyCache {
    path: PathBuf,
    /// The content of the file, so that an unchanged one is not written again.
    written: Arc<Mutex<Option<String>>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CachedKey {
    hash: String,
    id: String,
    name: String,
    id_scope: Option<String>,
    scopes: Vec<String>,
    streams: Vec<String>,
    view_key: Option<String>,
    created: i64,
    expires: Option<i64>,
}

impl KeyCache {
    pub fn in_folder(data: &Path) -> Self {
        Self { path: data.join("keys.json"), written: Arc::default() }
    }

    /// Returns the keys of the file; `None` if it is missing or cannot be read.
    pub fn read(&self) -> Option<KnownKeys> {
        let text = std::fs::read_to_string(&self.path).ok()?;
        let keys = serde_json::from_str::<Vec<CachedKey>>(&text);
        let keys = keys.map(|keys| keys.into_iter().map(CachedKey::key).collect::<Option<KnownKeys>>());
        match keys {
            Ok(Some(keys)) => {
                *event::lock(&self.written) = Some(text);
                Some(keys)
            }
            _ => {
                let file = self.path.display();
                tracing::warn!(%file, "the copy of the keys cannot be read; it is written again once the store answers");
                None
            }
        }
    }

    /// Writes the keys of the store. A failure is logged: the copy is needed only while the store is away.
    pub async fn write(&self, known: KnownKeys) {
        let cache = self.clone();
        // The write waits for the disk. It only fails to run when the process ends.
        drop(tokio::task::spawn_blocking(move || cache.write_now(&known)).await);
    }

    fn write_now(&self, known: &KnownKeys) {
        let mut keys: Vec<CachedKey> =
            known.iter().filter(|(_, key)| key.is_stored()).map(CachedKey::of).collect();
        keys.sort_by(|one, other| (one.created, &one.id).cmp(&(other.created, &other.id)));
        let text = serde_json::to_string_pretty(&keys).expect("keys have only text keys");
        let mut written = event::lock(&self.written);
        if written.as_ref() == Some(&text) {
            return;
        }
        match event::write_private(&self.path, &text, || {}) {
            Ok(()) => *written = Some(text),
            Err(error) => {
                tracing::warn!(file = %self.path.display(), %error, "the copy of the keys cannot be written");
            }
        }
    }
}

impl CachedKey {
    fn of((hash, key): (&KeyHash, &Arc<Key>)) -> Self {
        Self {
            hash: event::hex(hash),
            id: key.id.clone(),
            name: key.name.clone(),
            id_scope: key.id_scope.clone(),
            scopes: key.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
            streams: key.streams.clone(),
            view_key: key.view_key.clone(),
            created: key.created.0,
            expires: key.expires.map(|time| time.0),
        }
    }

    fn key(self) -> Option<(KeyHash, Arc<Key>)> {
        let key = Key {
            id: self.id,
            name: self.name,
            id_scope: self.id_scope,
            scopes: self.scopes.iter().map(|scope| Scope::parse(scope)).collect::<Option<_>>()?,
            streams: self.streams,
            view_key: self.view_key,
            created: Millis(self.created),
            expires: self.expires.map(Millis),
            last_used: LastUse::default(),
        };
        Some((event::from_hex(&self.hash)?, Arc::new(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_of_the_keys_is_read_as_it_was_written_and_a_changed_one_counts_as_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = KeyCache::in_folder(folder.path());
        assert!(cache.read().is_none());
        let key = Key {
            id: "1234".to_owned(),
            name: "shop".to_owned(),
            id_scope: Some("stripe".to_owned()),
            scopes: vec![Scope::Send, Scope::Read],
            streams: vec!["orders".to_owned()],
            view_key: None,
            created: Millis(5),
            expires: Some(Millis(9)),
            last_used: LastUse::default(),
        };
        let known = KnownKeys::from([([7; 32], Arc::new(key))]);
        cache.write_now(&known);
        assert_eq!(KeyCache::in_folder(folder.path()).read(), Some(known));
        let path = folder.path().join("keys.json");
        let text = std::fs::read_to_string(&path).expect("written");
        for broken in [&text[..text.len() / 2], &text.replace("07", "7"), &text.replace("send", "all")] {
            std::fs::write(&path, broken).expect("written");
            assert!(cache.read().is_none(), "{broken}");
        }
    }
}
