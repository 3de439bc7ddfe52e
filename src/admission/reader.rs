//! Readers that stay connected: what they may watch, with a key or with a token that was made of one. A page gets a token
//! from its own server, so that no key has to leave it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use event::Millis;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::access_keys::Keys;
use super::key::{Credentials, HeldKey, Key, KeyHash, Scope};
use super::{Denied, KeyFault, Refusal};

/// The thing that a reader wants to watch.
#[derive(Clone, Copy, Debug)]
pub struct Watched<'a> {
    pub stream: &'a str,
    pub view: Option<&'a str>,
    /// The only row of the view.
    pub row: Option<&'a str>,
    /// The selection of events or rows, if not all of them are meant.
    pub selection: Option<&'a str>,
    /// A key for one row may watch it.
    pub is_keyed_row: bool,
}

/// A reader that is known.
#[derive(Clone, Debug)]
pub struct Reader {
    /// `None` if nobody needs a key.
    held: Option<HeldKey>,
    /// `None` if the key itself was presented.
    grants: Option<Arc<[Grant]>>,
}

/// A thing that a token lets its reader watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    stream: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    view: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    selection: Option<String>,
}

/// The signed content of a token.
#[derive(Serialize, Deserialize)]
struct Content {
    /// The id of the key of which it was made.
    key: String,
    expires: i64,
    grants: Vec<Grant>,
}

const TOKEN_PREFIX: &str = "mrt_";
/// A signature for another purpose with the same key would be another one.
const PURPOSE: &[u8] = b"millrace token for a reader, version 1";

impl Reader {
    pub fn held(&self) -> Option<&HeldKey> {
        self.held.as_ref()
    }
}

impl Grant {
    pub fn of(watched: Watched<'_>) -> Self {
        Self {
            stream: watched.stream.to_owned(),
            view: watched.view.map(str::to_owned),
            row: watched.row.map(str::to_owned),
            selection: watched.selection.map(str::to_owned),
        }
    }

    fn covers(&self, watched: Watched<'_>) -> bool {
        self.stream == watched.stream
            && self.view.as_deref() == watched.view
            && self.row.as_deref() == watched.row
            && self.selection.as_deref().is_none_or(|selection| watched.selection == Some(selection))
    }
}

impl Keys {
    /// Returns the reader that presents this key or token. Fails if it is unknown, or may read nothing at all.
    pub fn reader(&self, presented: Credentials<'_>) -> Result<Reader, Refusal> {
        if let Some(token) = presented.literals().find(|literal| literal.starts_with(TOKEN_PREFIX)) {
            return self.reader_with_token(token);
        }
        let (key, held) = self.look_up_any_stream(presented, Scope::Read)?;
        expect_read(&key)?;
        Ok(Reader { held, grants: None })
    }

    /// Returns the reader that presents this token. Refuses keys, because a key must not be in a URL.
    pub fn reader_with_token(&self, token: &str) -> Result<Reader, Refusal> {
        let unauthorized = |fault| Refusal::Unauthorized { scope: Scope::Read, fault };
        let bad = || unauthorized(KeyFault::BadToken);
        let (text, signed) =
            token.strip_prefix(TOKEN_PREFIX).and_then(|rest| rest.split_once('.')).ok_or_else(bad)?;
        let decoded = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| bad());
        let content: Content = serde_json::from_slice(&decoded(text)?).map_err(|_| bad())?;
        if self.is_open() {
            // Nobody needs a key, but a page finds out what its token allows.
            return Ok(Reader { held: None, grants: Some(content.grants.into()) });
        }
        let (hash, key) = self.by_id(&content.key).ok_or_else(|| unauthorized(KeyFault::TokenEnded))?;
        self.signature(&hash, text).verify_slice(&decoded(signed)?).map_err(|_| bad())?;
        let now = Millis::now();
        let expires = key.expires.map_or(content.expires, |expires| expires.0.min(content.expires));
        if expires <= now.0 {
            return Err(unauthorized(KeyFault::TokenEnded));
        }
        key.last_used.note(now);
        let held = HeldKey { hash, expires: Some(Millis(expires)) };
        Ok(Reader { held: Some(held), grants: Some(content.grants.into()) })
    }

    /// Fails if the reader may not watch this. A token allows no more than its key does.
    pub fn may_watch(&self, reader: &Reader, watched: Watched<'_>) -> Result<(), Refusal> {
        if reader.grants.as_ref().is_some_and(|grants| !grants.iter().any(|grant| grant.covers(watched))) {
            return Err(Refusal::Forbidden(Denied::OtherThanToken));
        }
        let Some(held) = &reader.held else { return Ok(()) };
        let ended = Refusal::Unauthorized { scope: Scope::Read, fault: KeyFault::Unknown };
        if !self.still_hold(held) {
            return Err(ended);
        }
        let key = self.by_hash(&held.hash).ok_or(ended)?;
        expect_read(&key)?;
        if !key.streams.is_empty() && !key.streams.iter().any(|stream| stream == watched.stream) {
            return Err(Refusal::Forbidden(Denied::Stream(watched.stream.to_owned())));
        }
        match &key.view_key {
            Some(only) if !watched.is_keyed_row || watched.row != Some(only) => {
                Err(Refusal::Forbidden(Denied::OtherRow))
            }
            _ => Ok(()),
        }
    }

    /// Makes a token that lets its bearer watch this, for a time. `reader` has presented a key, and may watch it.
    pub fn token(
        &self,
        reader: &Reader,
        grants: Vec<Grant>,
        valid: Duration,
    ) -> Result<(String, Millis), Refusal> {
        if reader.grants.is_some() {
            return Err(Refusal::Forbidden(Denied::TokenOfToken));
        }
        let hash = reader.held.as_ref().map_or([0; 32], |held| held.hash);
        let key = self.by_hash(&hash).map(|key| key.id.clone()).unwrap_or_default();
        let mut expires = Millis::now().0.saturating_add(valid.as_millis() as i64);
        if let Some(of_key) = reader.held.as_ref().and_then(|held| held.expires) {
            expires = expires.min(of_key.0);
        }
        let content = Content { key, expires, grants };
        let content = serde_json::to_string(&content).expect("texts and numbers are serializable");
        let content = URL_SAFE_NO_PAD.encode(content);
        let signature = URL_SAFE_NO_PAD.encode(self.signature(&hash, &content).finalize().into_bytes());
        Ok((format!("{TOKEN_PREFIX}{content}.{signature}"), Millis(expires)))
    }

    /// Signs with the hash of the key, which each node knows, and nobody else. `API_KEY` may be a word that can be guessed
    /// from its signatures, so the first key of this data folder takes part in them.
    fn signature(&self, hash: &KeyHash, content: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(hash).expect("HMAC takes keys of any length");
        if self.is_literal(hash) {
            mac.update(&self.first_hash());
        }
        mac.update(PURPOSE);
        mac.update(content.as_bytes());
        mac
    }
}

fn expect_read(key: &Key) -> Result<(), Refusal> {
    if key.scopes.contains(&Scope::Read) {
        Ok(())
    } else {
        Err(Refusal::Forbidden(Denied::Scope(Scope::Read)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_covers_what_it_was_made_for_and_nothing_else() {
        let watched = |view, row| Watched { stream: "s", view, row, selection: None, is_keyed_row: true };
        let selected = |selection| Watched { selection: Some(selection), ..watched(None, None) };
        let row = Grant::of(watched(Some("v"), Some("r")));
        let view = Grant::of(watched(Some("v"), None));
        let stream = Grant::of(watched(None, None));
        for (wanted, covered) in [
            (watched(Some("v"), Some("r")), [true, false, false]),
            (watched(Some("v"), Some("q")), [false, false, false]),
            (watched(Some("v"), None), [false, true, false]),
            (watched(Some("w"), Some("r")), [false, false, false]),
            (watched(None, None), [false, false, true]),
            (Watched { stream: "t", ..watched(None, None) }, [false, false, false]),
        ] {
            assert_eq!([&row, &view, &stream].map(|grant| grant.covers(wanted)), covered, "{wanted:?}");
        }
        let some = Grant::of(selected("ann"));
        assert!(some.covers(selected("ann")) && stream.covers(selected("ann")));
        assert!(!some.covers(selected("bob")) && !some.covers(watched(None, None)));
    }
}
