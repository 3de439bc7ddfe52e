//! Keys with scopes. Their hashes are in the store, and in memory for every request. A presented key is looked up by
//! its hash, so that the time of a lookup reveals nothing about the stored keys. Until the store is read after a start,
//! the keys come from a copy in the data folder, which may lack new ones.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use event::Millis;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::{Mutex, watch};

use super::first_key::FirstKey;
use super::key::{Credentials, HeldKey, Key, KeyHash, KnownKeys, NewKey, Scope};
use super::key_cache::KeyCache;
use super::stored_keys::StoredKeys;
use super::{Denied, Refusal};
use crate::store::{Store, StoreError};

const KEY_RANDOM_BYTES: usize = 24;
const KEY_PREFIX: &str = "mr_";
const KEY_MAY_BE_NEW: &str =
    "the server has not read the keys from the store since its start, and does not know this key yet";
/// A shorter `API_KEY` is refused if the server listens beyond loopback.
const KEY_CHARS_STRONG: usize = 20;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("the operating system returned no random bytes: {0}")]
    Random(String),
    #[error("the first key cannot be written to `{path}`: {reason}")]
    Unwritable { path: String, reason: String },
    #[error("a key named `{0}` exists; choose another name, or revoke that key first")]
    NameTaken(String),
}

#[derive(Clone)]
pub struct Keys {
    stored: StoredKeys,
    cache: KeyCache,
    first: FirstKey,
    known: Arc<RwLock<KnownKeys>>,
    /// False until the keys were read from the store. The copy may lack keys that another node created since then.
    is_complete: Arc<AtomicBool>,
    /// Held while the keys are read from the store or changed there, so that a refresh cannot undo a change.
    changing: Arc<Mutex<()>>,
    /// The `API_KEY` of the replaced services, which may send and read.
    literal: Option<(KeyHash, Arc<Key>)>,
    /// With `--dev`, nobody needs a key.
    open: Option<Arc<Key>>,
    anonymous: Arc<Key>,
    /// Changes whenever a key may have ended.
    changed: watch::Sender<()>,
}

impl Keys {
    /// Prepares the keys, and creates the first one if the data folder has none. Without the store, the keys of the
    /// copy in the data folder are known; `refresh` reads those of the store. `literal` is the `API_KEY` of the
    /// replaced services.
    pub fn open(store: &Store, data: &Path, literal: Option<&str>, dev: bool) -> Result<Self, KeyError> {
        let unnamed = |scopes: &[Scope]| Key { scopes: scopes.to_vec(), ..Key::default() };
        let sends_and_reads = || unnamed(&[Scope::Send, Scope::Read]);
        let name = || "API_KEY".to_owned();
        let of_literal =
            |literal| (hash(literal), Arc::new(Key { id: name(), name: name(), ..sends_and_reads() }));
        let keys = Self {
            stored: StoredKeys::new(store.clone()),
            cache: KeyCache::in_folder(data),
            first: FirstKey::in_folder(data)?,
            known: Arc::default(),
            is_complete: Arc::default(),
            changing: Arc::default(),
            literal: literal.map(of_literal),
            open: dev.then(|| Arc::new(unnamed(&Scope::ALL))),
            anonymous: Arc::new(sends_and_reads()),
            changed: watch::Sender::new(()),
        };
        let copy = keys.cache.read();
        // A first key that is missing in the copy was revoked, unless it has just been created.
        let adds_first = copy.is_none() || keys.first.is_new();
        let mut known = copy.unwrap_or_default();
        if adds_first {
            let first =
                Key { name: FirstKey::NAME.to_owned(), scopes: Scope::ALL.to_vec(), ..Key::default() };
            known.entry(keys.first.hash()).or_insert_with(|| Arc::new(first));
        }
        keys.replace(known);
        Ok(keys)
    }

    /// Returns whether `open` created the first key.
    pub fn first_is_new(&self) -> bool {
        self.first.is_new()
    }

    /// Reads the keys of the store, so that changes by other nodes apply here, and stores when keys were last used. If
    /// the store does not know the first key, adds it: only the owner of the data folder can write its file.
    pub async fn refresh(&self, store: &Store) -> Result<(), KeyError> {
        let _changing = self.changing.lock().await;
        let stored = StoredKeys::new(store.clone());
        if !stored.has(self.first.hash()).await? {
            stored.insert(self.first.described(&stored).await?, self.first.hash()).await?;
        }
        let known = stored.all().await?;
        self.cache.write(known.clone()).await;
        self.replace(known.clone());
        self.is_complete.store(true, Ordering::Release);
        stored.note_uses(&self.used_since(&known)).await?;
        Ok(())
    }

    /// Returns the keys that were used after the time that the store knows.
    fn used_since(&self, stored: &KnownKeys) -> Vec<Arc<Key>> {
        let known = event::read_lock(&self.known);
        let used = stored.iter().filter_map(|(hash, key)| Some((key.last_used.time(), known.get(hash)?)));
        used.filter(|(stored, key)| key.last_used.time() > *stored).map(|(_, key)| Arc::clone(key)).collect()
    }

    /// Creates a key. The literal is returned once and stored nowhere.
    pub async fn add(&self, new: NewKey) -> Result<(Key, String), KeyError> {
        let _changing = self.changing.lock().await;
        if self.stored.has_name(&new.name).await? {
            return Err(KeyError::NameTaken(new.name));
        }
        let literal = new_literal()?;
        let key = self.stored.insert(new, hash(&literal)).await?;
        event::write_lock(&self.known).insert(hash(&literal), Arc::new(key.clone()));
        self.cache.write(self.snapshot()).await;
        Ok((key, literal))
    }

    /// Revokes a key. Returns `false` if it does not exist or is revoked already.
    pub async fn revoke(&self, id: &str) -> Result<bool, KeyError> {
        let _changing = self.changing.lock().await;
        let revoked = self.stored.revoke(id).await?;
        if revoked {
            event::write_lock(&self.known).retain(|_, key| key.id != id);
            self.changed.send_replace(());
            self.cache.write(self.snapshot()).await;
        }
        Ok(revoked)
    }

    fn snapshot(&self) -> KnownKeys {
        event::read_lock(&self.known).clone()
    }

    /// Replaces the keys in memory, and keeps the times of their last use.
    fn replace(&self, stored: KnownKeys) {
        let mut current = event::write_lock(&self.known);
        let merged = |(hash, key): (KeyHash, Arc<Key>)| {
            let known = current.get(&hash).filter(|known| ***known == *key);
            if let (Some(known), Some(used)) = (known, key.last_used.time()) {
                known.last_used.note(used);
            }
            (hash, known.map_or(key, Arc::clone))
        };
        let mut known: KnownKeys = stored.into_iter().map(merged).collect();
        known.extend(self.literal.clone());
        let some_ended = current.keys().any(|hash| !known.contains_key(hash));
        *current = known;
        if some_ended {
            self.changed.send_replace(());
        }
    }

    pub fn list(&self) -> Vec<Key> {
        let known = event::read_lock(&self.known);
        let mut keys: Vec<Key> = known.values().map(|key| Key::clone(key)).collect();
        keys.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        keys
    }

    /// Returns the presented key if it has `scope` for `stream`. An open source needs no key, but refuses an unknown
    /// one. A key for one row has no access to anything but that row.
    pub fn authorize(
        &self,
        presented: Credentials<'_>,
        scope: Scope,
        stream: Option<&str>,
        open: bool,
    ) -> Result<Arc<Key>, Refusal> {
        self.authorize_connection(presented, scope, stream, open).map(|(key, _)| key)
    }

    /// The same for a connection that stays open. Also returns what it needs to notice that the key has ended; `None`
    /// if it uses no key.
    pub fn authorize_connection(
        &self,
        presented: Credentials<'_>,
        scope: Scope,
        stream: Option<&str>,
        open: bool,
    ) -> Result<(Arc<Key>, Option<HeldKey>), Refusal> {
        let (key, held) = self.look_up(presented, scope, stream, open)?;
        if key.view_key.is_some() { Err(Refusal::Forbidden(Denied::OtherRow)) } else { Ok((key, held)) }
    }

    /// Returns the presented key if it may read the row `row` of a view of `stream`.
    pub fn authorize_row(
        &self,
        presented: Credentials<'_>,
        stream: &str,
        row: &str,
        open: bool,
    ) -> Result<Arc<Key>, Refusal> {
        let (key, _) = self.look_up(presented, Scope::Read, Some(stream), open)?;
        let allowed = key.view_key.as_ref().is_none_or(|only| only == row);
        if allowed { Ok(key) } else { Err(Refusal::Forbidden(Denied::OtherRow)) }
    }

    fn look_up(
        &self,
        presented: Credentials<'_>,
        scope: Scope,
        stream: Option<&str>,
        open: bool,
    ) -> Result<(Arc<Key>, Option<HeldKey>), Refusal> {
        let (key, held) = self.identify(presented, scope, open)?;
        let Some(held) = held else { return Ok((key, None)) };
        let for_stream = key.streams.is_empty()
            || stream.is_some_and(|stream| key.streams.iter().any(|one| one == stream));
        if !key.scopes.contains(&scope) {
            return Err(Refusal::Forbidden(Denied::Scope(scope)));
        }
        match stream {
            _ if for_stream => Ok((key, Some(held))),
            Some(stream) => Err(Refusal::Forbidden(Denied::Stream(stream.to_owned()))),
            None => Err(Refusal::Forbidden(Denied::AllStreams)),
        }
    }

    /// Returns the presented key, whatever it may do; without `HeldKey` if none is needed.
    fn identify(
        &self,
        presented: Credentials<'_>,
        scope: Scope,
        open: bool,
    ) -> Result<(Arc<Key>, Option<HeldKey>), Refusal> {
        // Read before the keys: a refresh in between may have added this one.
        let is_complete = self.is_complete.load(Ordering::Acquire);
        match (presented.literals().find_map(|literal| self.find(literal)), &self.open) {
            (Some((hash, key)), _) => {
                let held = HeldKey { hash, expires: key.expires };
                Ok((key, Some(held)))
            }
            // Clients with a built-in key have to send it: with `--dev`, an unknown key counts as none.
            (None, Some(open)) => Ok((Arc::clone(open), None)),
            (None, None) if open && presented.is_empty() => Ok((Arc::clone(&self.anonymous), None)),
            // A 401 would be final for the sender of a key that is in the store, but not known here yet.
            (None, None) if !is_complete && self.may_be_valid(presented) => {
                Err(Refusal::StoreUnavailable(KEY_MAY_BE_NEW.to_owned()))
            }
            (None, None) => Err(Refusal::Unauthorized { scope, fault: presented.fault() }),
        }
    }

    /// Returns the presented key if it has `scope`, for whichever streams.
    pub(super) fn look_up_any_stream(
        &self,
        presented: Credentials<'_>,
        scope: Scope,
    ) -> Result<(Arc<Key>, Option<HeldKey>), Refusal> {
        let (key, held) = self.identify(presented, scope, false)?;
        if key.scopes.contains(&scope) {
            Ok((key, held))
        } else {
            Err(Refusal::Forbidden(Denied::Scope(scope)))
        }
    }

    /// Returns whether nobody needs a key.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(super) fn by_hash(&self, hash: &KeyHash) -> Option<Arc<Key>> {
        event::read_lock(&self.known).get(hash).cloned()
    }

    /// Returns whether this is the `API_KEY` of the replaced services.
    pub(super) fn is_literal(&self, hash: &KeyHash) -> bool {
        self.literal.as_ref().is_some_and(|(literal, _)| literal == hash)
    }

    /// Returns the hash of the first key, which is in the data folder.
    pub(super) fn first_hash(&self) -> KeyHash {
        self.first.hash()
    }

    pub(super) fn by_id(&self, id: &str) -> Option<(KeyHash, Arc<Key>)> {
        let known = event::read_lock(&self.known);
        let found = known.iter().find(|(_, key)| key.id == id)?;
        Some((*found.0, Arc::clone(found.1)))
    }

    /// Fails if a key is needed and no known one was presented. Such senders must not learn which views exist.
    pub fn expect_known(&self, presented: Credentials<'_>) -> Result<(), Refusal> {
        match self.look_up(presented, Scope::Read, None, false) {
            Ok(_) | Err(Refusal::Forbidden(_)) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    /// Returns whether one of these keys is not known to have expired.
    fn may_be_valid(&self, presented: Credentials<'_>) -> bool {
        let (known, now) = (event::read_lock(&self.known), Millis::now());
        presented.literals().any(|literal| known.get(&hash(literal)).is_none_or(|key| !key.has_expired(now)))
    }

    /// Returns whether this is the key of requests that showed none where none is asked for.
    pub fn is_anonymous(&self, key: &Arc<Key>) -> bool {
        Arc::ptr_eq(key, &self.anonymous)
    }

    /// Returns whether the key is still known, and has not expired.
    pub fn still_hold(&self, held: &HeldKey) -> bool {
        held.expires.is_none_or(|expires| expires > Millis::now())
            && event::read_lock(&self.known).contains_key(&held.hash)
    }

    /// Returns a signal that changes whenever a key was revoked, here or by another node.
    pub fn revocations(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Returns the number under which requests with a known key are counted; `None` without one.
    pub fn counted_as(&self, credentials: Credentials<'_>) -> Option<u128> {
        let known = event::read_lock(&self.known);
        let hash = credentials.literals().map(hash).find(|hash| known.contains_key(hash))?;
        Some(HeldKey { hash, expires: None }.counted_as())
    }

    fn find(&self, literal: &str) -> Option<(KeyHash, Arc<Key>)> {
        let presented = hash(literal);
        let key = {
            let known = event::read_lock(&self.known);
            let (stored, key) = known.get_key_value(&presented)?;
            bool::from(stored.ct_eq(&presented)).then(|| Arc::clone(key))?
        };
        let now = Millis::now();
        if key.has_expired(now) {
            return None;
        }
        key.last_used.note(now);
        Some((presented, key))
    }
}

/// Returns whether a literal key is too easily guessed to be used beyond loopback.
pub fn weak_key(literal: &str) -> bool {
    literal.chars().count() < KEY_CHARS_STRONG
}

pub(super) fn hash(literal: &str) -> KeyHash {
    Sha256::digest(literal.as_bytes()).into()
}

pub(super) fn new_literal() -> Result<String, KeyError> {
    Ok(format!("{KEY_PREFIX}{}", random_hex::<KEY_RANDOM_BYTES>()?))
}

pub(super) fn random_hex<const N: usize>() -> Result<String, KeyError> {
    let mut bytes = [0_u8; N];
    getrandom::fill(&mut bytes).map_err(|error| KeyError::Random(error.to_string()))?;
    Ok(event::hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_key_is_weak() {
        assert!(weak_key("secret") && weak_key("1234567890123456789") && !weak_key("mr_0123456789abcdef01"));
    }
}
