//! Keys with scopes. Their hashes are in the store, and in memory for every request. A presented key is looked up by
//! its hash, so that the time of a lookup reveals nothing about the stored keys.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, RwLock};

use event::Millis;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Denied, KeyFault, Refusal};
use crate::store::{Cell, Store, StoreError};

const KEY_RANDOM_BYTES: usize = 24;
const KEY_PREFIX: &str = "mr_";
/// A shorter `API_KEY` is refused if the server listens beyond loopback.
const KEY_CHARS_STRONG: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Send,
    Read,
    Admin,
}

impl Scope {
    pub const ALL: [Self; 3] = [Self::Send, Self::Read, Self::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

/// One key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Key {
    pub id: String,
    pub name: String,
    /// The scope of clients' ids, if it is not the name.
    pub id_scope: Option<String>,
    pub scopes: Vec<Scope>,
    /// The streams that the key may use, with their views. An empty list means all.
    pub streams: Vec<String>,
    /// The only row of a view that the key may read, if it is set.
    pub view_key: Option<String>,
    pub created: Millis,
}

impl Key {
    /// Returns the scope that the key was given for clients' ids, or else the key's name. A new key of the same name
    /// therefore continues where the old one stopped.
    pub fn id_scope(&self) -> &str {
        self.id_scope.as_ref().unwrap_or(&self.name)
    }
}

/// The columns of a stored key.
type StoredKey = ([u8; 32], String, String, String, String, Option<String>, Millis, Option<String>);

/// The properties of a new key.
#[derive(Clone, Debug, Default)]
pub struct NewKey {
    pub name: String,
    pub id_scope: Option<String>,
    pub scopes: Vec<Scope>,
    pub streams: Vec<String>,
    pub view_key: Option<String>,
}

/// The keys that a request presents, before they are looked up. A request may present two: a proxy may use one of the
/// headers for its own password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credentials<'a> {
    pub literals: [Option<&'a str>; 2],
    /// A key was presented that is not text.
    pub unreadable: bool,
}

impl<'a> Credentials<'a> {
    fn is_empty(&self) -> bool {
        !self.unreadable && self.literals == [None; 2]
    }

    /// Returns what is wrong if none of these is a known key.
    fn fault(&self) -> KeyFault {
        match self {
            _ if self.is_empty() => KeyFault::Missing,
            Self { literals: [None, None], .. } => KeyFault::NotText,
            _ => KeyFault::Unknown,
        }
    }

    fn literals(self) -> impl Iterator<Item = &'a str> {
        self.literals.into_iter().flatten()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("the operating system returned no random bytes: {0}")]
    Random(String),
    #[error("the first key cannot be written to `{path}`: {reason}")]
    Unwritable { path: String, reason: String },
}

#[derive(Clone)]
pub struct Keys {
    store: Store,
    by_hash: Arc<RwLock<HashMap<[u8; 32], Arc<Key>>>>,
    /// With `--dev`, nobody needs a key.
    open: Option<Arc<Key>>,
    anonymous: Arc<Key>,
}

impl Keys {
    /// Reads the keys of the store. `literal` is the `API_KEY` of the replaced services, which may send and read.
    pub async fn load(store: &Store, literal: Option<&str>, dev: bool) -> Result<Self, KeyError> {
        let unnamed = |scopes: &[Scope]| Arc::new(Key { scopes: scopes.to_vec(), ..Key::default() });
        let keys = Self {
            store: store.clone(),
            by_hash: Arc::default(),
            open: dev.then(|| unnamed(&Scope::ALL)),
            anonymous: unnamed(&[Scope::Send, Scope::Read]),
        };
        let sql = "SELECT hash, id, name, scopes, streams, view_key, created, id_scope FROM millrace_keys WHERE revoked IS NULL";
        let rows: Vec<StoredKey> = store.read("millrace_keys", sql, Vec::new()).await?;
        let mut known: HashMap<[u8; 32], Arc<Key>> = rows.into_iter().map(stored_key).collect();
        if let Some(literal) = literal {
            let key =
                Key { id: "API_KEY".to_owned(), name: "API_KEY".to_owned(), ..Key::clone(&keys.anonymous) };
            known.insert(hash(literal), Arc::new(key));
        }
        *event::write_lock(&keys.by_hash) = known;
        Ok(keys)
    }

    /// Creates the first key and writes it to the file where the command line finds it. Returns whether a key was
    /// created. If the file exists but the store does not know its key, the key is added to the store: only the owner
    /// of the data folder can write the file.
    pub async fn ensure_first(&self, path: &Path) -> Result<bool, KeyError> {
        let unwritable = |error: std::io::Error| KeyError::Unwritable {
            path: path.display().to_string(),
            reason: error.to_string(),
        };
        let new = NewKey { name: "first".to_owned(), scopes: Scope::ALL.to_vec(), ..NewKey::default() };
        let found = match std::fs::read_to_string(path) {
            Ok(literal) => Some(literal.trim().to_owned()).filter(|literal| !literal.is_empty()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(unwritable(error)),
        };
        let (literal, made) = match found {
            Some(literal) => (literal, false),
            None => (new_literal()?, true),
        };
        if made {
            // The file comes first: if the process ends here, the next start adds the key of the file to the store.
            let before_rename = || failpoint::hit("keys.file_made");
            event::write_private(path, &literal, before_rename).map_err(unwritable)?;
            failpoint::hit("keys.written");
        }
        let sql = "SELECT id FROM millrace_keys WHERE hash = ?".to_owned();
        let known = self.store.rows(sql, vec![Cell::Bytes(hash(&literal).to_vec())]).await?;
        if known.is_empty() {
            self.insert(new, &literal).await?;
        }
        Ok(made)
    }

    /// Creates a key. The literal is returned once and stored nowhere.
    pub async fn add(&self, new: NewKey) -> Result<(Key, String), KeyError> {
        let literal = new_literal()?;
        Ok((self.insert(new, &literal).await?, literal))
    }

    async fn insert(&self, new: NewKey, literal: &str) -> Result<Key, KeyError> {
        let key = Key {
            id: random_hex::<4>()?,
            name: new.name,
            id_scope: new.id_scope,
            scopes: new.scopes,
            streams: new.streams,
            view_key: new.view_key,
            created: Millis::now(),
        };
        let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.as_str()).collect();
        let sql = "INSERT INTO millrace_keys (id, name, hash, scopes, streams, view_key, created, id_scope) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
        let parameters = vec![
            Cell::Text(key.id.clone()),
            Cell::Text(key.name.clone()),
            Cell::Bytes(hash(literal).to_vec()),
            Cell::Text(scopes.join(",")),
            Cell::Text(key.streams.join(",")),
            key.view_key.clone().map_or(Cell::Null, Cell::Text),
            Cell::Integer(key.created.0),
            key.id_scope.clone().map_or(Cell::Null, Cell::Text),
        ];
        self.store.change(sql.to_owned(), parameters).await?;
        let mut known = event::write_lock(&self.by_hash);
        known.insert(hash(literal), Arc::new(key.clone()));
        Ok(key)
    }

    /// Revokes a key. Returns `false` if it does not exist or is revoked already.
    pub async fn revoke(&self, id: &str) -> Result<bool, KeyError> {
        let sql = "UPDATE millrace_keys SET revoked = ? WHERE id = ? AND revoked IS NULL";
        let changed = self
            .store
            .change(sql.to_owned(), vec![Cell::Integer(Millis::now().0), Cell::Text(id.to_owned())])
            .await?;
        if changed == 1 {
            event::write_lock(&self.by_hash).retain(|_, key| key.id != id);
        }
        Ok(changed == 1)
    }

    pub fn list(&self) -> Vec<Key> {
        let known = event::read_lock(&self.by_hash);
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
        let key = self.look_up(presented, scope, stream, open)?;
        if key.view_key.is_some() { Err(Refusal::Forbidden(Denied::OtherRow)) } else { Ok(key) }
    }

    /// Returns the presented key if it may read the row `row` of a view of `stream`.
    pub fn authorize_row(
        &self,
        presented: Credentials<'_>,
        stream: &str,
        row: &str,
        open: bool,
    ) -> Result<Arc<Key>, Refusal> {
        let key = self.look_up(presented, Scope::Read, Some(stream), open)?;
        let allowed = key.view_key.as_ref().is_none_or(|only| only == row);
        if allowed { Ok(key) } else { Err(Refusal::Forbidden(Denied::OtherRow)) }
    }

    fn look_up(
        &self,
        presented: Credentials<'_>,
        scope: Scope,
        stream: Option<&str>,
        open: bool,
    ) -> Result<Arc<Key>, Refusal> {
        let key = match (presented.literals().find_map(|literal| self.find(literal)), &self.open) {
            (Some(key), _) => key,
            // Clients with a built-in key have to send it: with `--dev`, an unknown key counts as none.
            (None, Some(open)) => return Ok(Arc::clone(open)),
            (None, None) if open && presented.is_empty() => return Ok(Arc::clone(&self.anonymous)),
            (None, None) => return Err(Refusal::Unauthorized { scope, fault: presented.fault() }),
        };
        let for_stream = key.streams.is_empty()
            || stream.is_some_and(|stream| key.streams.iter().any(|one| one == stream));
        if !key.scopes.contains(&scope) {
            return Err(Refusal::Forbidden(Denied::Scope(scope)));
        }
        match stream {
            _ if for_stream => Ok(key),
            Some(stream) => Err(Refusal::Forbidden(Denied::Stream(stream.to_owned()))),
            None => Err(Refusal::Forbidden(Denied::AllStreams)),
        }
    }

    /// Returns whether any key was presented that may read something, or none is needed: others do not learn which
    /// views exist.
    pub fn expect_known(&self, presented: Credentials<'_>) -> Result<(), Refusal> {
        match self.look_up(presented, Scope::Read, None, false) {
            Err(refusal @ Refusal::Unauthorized { .. }) => Err(refusal),
            _ => Ok(()),
        }
    }

    /// Returns whether this is the key of requests that showed none where none is asked for.
    pub fn is_anonymous(&self, key: &Arc<Key>) -> bool {
        Arc::ptr_eq(key, &self.anonymous)
    }

    /// Returns the number under which requests with a known key are counted; `None` without one.
    pub fn counted_as(&self, credentials: Credentials<'_>) -> Option<u128> {
        let known = event::read_lock(&self.by_hash);
        let known = credentials.literals().map(hash).find(|hash| known.contains_key(hash))?;
        let (half, _) = known.split_first_chunk()?;
        Some(u128::from_le_bytes(*half))
    }

    fn find(&self, literal: &str) -> Option<Arc<Key>> {
        let presented = hash(literal);
        let known = event::read_lock(&self.by_hash);
        let (stored, key) = known.get_key_value(&presented)?;
        bool::from(stored.ct_eq(&presented)).then(|| Arc::clone(key))
    }
}

/// Returns whether a literal key is too easily guessed to be used beyond loopback.
pub fn weak_key(literal: &str) -> bool {
    literal.chars().count() < KEY_CHARS_STRONG
}

fn hash(literal: &str) -> [u8; 32] {
    Sha256::digest(literal.as_bytes()).into()
}

fn new_literal() -> Result<String, KeyError> {
    Ok(format!("{KEY_PREFIX}{}", random_hex::<KEY_RANDOM_BYTES>()?))
}

fn random_hex<const N: usize>() -> Result<String, KeyError> {
    let mut bytes = [0_u8; N];
    getrandom::fill(&mut bytes).map_err(|error| KeyError::Random(error.to_string()))?;
    Ok(event::hex(&bytes))
}

fn stored_key(row: StoredKey) -> ([u8; 32], Arc<Key>) {
    let (hash, id, name, scopes, streams, view_key, created, id_scope) = row;
    let list = |text: &str| -> Vec<String> {
        text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let scopes = list(&scopes).iter().filter_map(|scope| Scope::parse(scope)).collect();
    (hash, Arc::new(Key { id, name, id_scope, scopes, streams: list(&streams), view_key, created }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_key_is_weak() {
        assert!(weak_key("secret") && weak_key("1234567890123456789") && !weak_key("mr_0123456789abcdef01"));
    }
}
