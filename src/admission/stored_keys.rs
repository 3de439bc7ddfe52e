//! The keys in the store: one row each, with the hash of the key and never the key itself.

use std::sync::Arc;

use event::Millis;

use super::access_keys::{KeyError, random_hex};
use super::key::{Key, KeyHash, KnownKeys, NewKey, Scope};
use super::last_use::LastUse;
use crate::store::{Cell, Store, StoreError};

#[derive(Clone)]
pub struct StoredKeys {
    store: Store,
}

/// The columns of a stored key.
type Row = (
    KeyHash,
    String,
    String,
    String,
    String,
    Option<String>,
    Millis,
    Option<String>,
    Option<Millis>,
    Option<Millis>,
);

impl StoredKeys {
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Returns the keys that are not revoked.
    pub async fn all(&self) -> Result<KnownKeys, StoreError> {
        let sql = "SELECT hash, id, name, scopes, streams, view_key, created, id_scope, expires, last_used FROM millrace_keys WHERE revoked IS NULL";
        let rows: Vec<Row> = self.store.read("millrace_keys", sql, Vec::new()).await?;
        Ok(rows.into_iter().map(key_of).collect())
    }

    /// Returns whether the store has a key with this hash, revoked or not.
    pub async fn has(&self, hash: KeyHash) -> Result<bool, StoreError> {
        let sql = "SELECT id FROM millrace_keys WHERE hash = ?".to_owned();
        Ok(!self.store.rows(sql, vec![Cell::Bytes(hash.to_vec())]).await?.is_empty())
    }

    /// Returns whether a key that is not revoked has this name.
    pub async fn has_name(&self, name: &str) -> Result<bool, StoreError> {
        let sql = "SELECT id FROM millrace_keys WHERE name = ? AND revoked IS NULL".to_owned();
        Ok(!self.store.rows(sql, vec![name.into()]).await?.is_empty())
    }

    pub async fn insert(&self, new: NewKey, hash: KeyHash) -> Result<Key, KeyError> {
        let NewKey { name, id_scope, scopes, streams, view_key, expires } = new;
        let (id, created, last_used) = (random_hex::<4>()?, Millis::now(), LastUse::default());
        let key = Key { id, name, id_scope, scopes, streams, view_key, created, expires, last_used };
        let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.as_str()).collect();
        let text = |text: &Option<String>| text.as_deref().map_or(Cell::Null, Cell::from);
        let sql = "INSERT INTO millrace_keys (id, name, hash, scopes, streams, view_key, created, id_scope, expires) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
        let parameters = vec![
            key.id.as_str().into(),
            key.name.as_str().into(),
            Cell::Bytes(hash.to_vec()),
            Cell::Text(scopes.join(",")),
            Cell::Text(key.streams.join(",")),
            text(&key.view_key),
            key.created.into(),
            text(&key.id_scope),
            key.expires.map_or(Cell::Null, Cell::from),
        ];
        self.store.change(sql.to_owned(), parameters).await?;
        Ok(key)
    }

    /// Revokes a key. Returns `false` if it does not exist or is revoked already.
    pub async fn revoke(&self, id: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE millrace_keys SET revoked = ? WHERE id = ? AND revoked IS NULL";
        Ok(self.store.change(sql.to_owned(), vec![Millis::now().into(), id.into()]).await? == 1)
    }

    /// Stores when these keys were last used, unless the store knows a later use.
    pub async fn note_uses(&self, keys: &[Arc<Key>]) -> Result<(), StoreError> {
        let sql =
            "UPDATE millrace_keys SET last_used = ? WHERE id = ? AND (last_used IS NULL OR last_used < ?)";
        let used = keys.iter().filter_map(|key| Some((key.last_used.time()?, key)));
        let change = |(time, key): (Millis, &Arc<Key>)| {
            (sql.to_owned(), vec![time.into(), key.id.as_str().into(), time.into()])
        };
        let changes: Vec<_> = used.map(change).collect();
        if changes.is_empty() { Ok(()) } else { self.store.change_all(changes).await.map(drop) }
    }
}

fn key_of(row: Row) -> (KeyHash, Arc<Key>) {
    let (hash, id, name, scopes, streams, view_key, created, id_scope, expires, last_used) = row;
    let list = |text: &str| -> Vec<String> {
        text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let scopes = list(&scopes).iter().filter_map(|scope| Scope::parse(scope)).collect();
    let (streams, last_used) = (list(&streams), LastUse::at(last_used));
    (hash, Arc::new(Key { id, name, id_scope, scopes, streams, view_key, created, expires, last_used }))
}
