//! What the first request of a connection that stays open tells about its client.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use event::SentFrom;
use event::limits::SOCKET_HEADER_BYTES_MAX;

use super::{Peer, credentials, sent_from};
use crate::admission::{Credentials, Refusal};

pub struct Handshake {
    pub peer: Peer,
    /// The headers that are needed after the request.
    pub headers: HeaderMap,
}

const KEPT: [HeaderName; 6] = [
    header::AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    header::HOST,
    header::ORIGIN,
    HeaderName::from_static("sec-fetch-site"),
    header::USER_AGENT,
];

impl Handshake {
    pub fn of(peer: Peer, all: &HeaderMap) -> Self {
        let mut headers = HeaderMap::new();
        for name in KEPT {
            if let Some(value) = all.get(&name) {
                // A clone would keep the whole head of the request in memory.
                headers.insert(name, copied(value));
            }
        }
        Self { peer, headers }
    }

    /// Removes the keys, once they are not needed any more.
    #[must_use]
    pub fn without_credentials(mut self) -> Self {
        self.headers.remove(header::AUTHORIZATION);
        self.headers.remove("x-api-key");
        self
    }

    pub fn credentials(&self) -> Credentials<'_> {
        credentials(&self.headers)
    }

    pub fn sent_from(&self) -> SentFrom<'_> {
        sent_from(self.peer, &self.headers)
    }
}

fn copied(value: &HeaderValue) -> HeaderValue {
    let bytes = value.as_bytes();
    let cut = &bytes[..bytes.len().min(SOCKET_HEADER_BYTES_MAX)];
    HeaderValue::from_bytes(cut).expect("a part of a header is valid")
}

/// Returns a name that nobody can guess, for a connection.
pub fn random_id() -> Result<Arc<str>, Refusal> {
    let mut bytes = [0_u8; 15];
    getrandom::fill(&mut bytes).map_err(|error| {
        Refusal::Unexpected(format!("the operating system returned no random bytes: {error}"))
    })?;
    Ok(URL_SAFE_NO_PAD.encode(bytes).into())
}
