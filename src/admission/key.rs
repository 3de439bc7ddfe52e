//! A key: what it may do, how requests present it, and how a connection holds on to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use event::Millis;

use super::KeyFault;
use super::last_use::LastUse;

pub type KeyHash = [u8; 32];

/// The keys by their hashes.
pub type KnownKeys = HashMap<KeyHash, Arc<Key>>;

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
    /// The time from which on the key is unknown, if it has one.
    pub expires: Option<Millis>,
    pub last_used: LastUse,
}

impl Key {
    /// Returns the scope that the key was given for clients' ids, or else the key's name. A new key of the same name
    /// therefore continues where the old one stopped.
    pub fn id_scope(&self) -> &str {
        self.id_scope.as_ref().unwrap_or(&self.name)
    }

    /// Returns whether the key comes from the store, and neither from the environment nor from the data folder alone.
    pub fn is_stored(&self) -> bool {
        self.created.0 > 0
    }

    pub(super) fn has_expired(&self, now: Millis) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// The properties of a new key.
#[derive(Clone, Debug, Default)]
pub struct NewKey {
    pub name: String,
    pub id_scope: Option<String>,
    pub scopes: Vec<Scope>,
    pub streams: Vec<String>,
    pub view_key: Option<String>,
    pub expires: Option<Millis>,
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
    pub fn is_empty(&self) -> bool {
        !self.unreadable && self.literals == [None; 2]
    }

    /// Returns what is wrong if none of these is a known key.
    pub(super) fn fault(&self) -> KeyFault {
        match self {
            _ if self.is_empty() => KeyFault::Missing,
            Self { literals: [None, None], .. } => KeyFault::NotText,
            _ => KeyFault::Unknown,
        }
    }

    pub(super) fn literals(self) -> impl Iterator<Item = &'a str> {
        self.literals.into_iter().flatten()
    }
}

/// A key that a connection was opened with. It does not contain the key itself.
#[derive(Clone, Copy, Debug)]
pub struct HeldKey {
    pub(super) hash: KeyHash,
    pub(super) expires: Option<Millis>,
}

impl HeldKey {
    /// Returns the number under which requests with the key are counted.
    pub fn counted_as(&self) -> u128 {
        let (half, _) = self.hash.split_first_chunk().expect("a hash has 32 bytes");
        u128::from_le_bytes(*half)
    }

    /// Returns the time until the key expires, if it does.
    pub fn time_left(&self) -> Option<Duration> {
        let left = self.expires?.0.saturating_sub(Millis::now().0);
        Some(Duration::from_millis(left.max(0) as u64))
    }
}
