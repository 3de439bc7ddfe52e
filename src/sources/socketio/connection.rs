//! A namespace that a client is connected to, and what the client may do there.

use std::sync::Arc;

use event::limits::SIGN_IN_BYTES_MAX;
use serde::Deserialize;
use tokio::time::Instant;

use super::endpoint::{Endpoint, NamespaceSources};
use super::packet::{Arguments, Packet};
use crate::admission::{Credentials, HeldKey, Key, KeyFault, KeyWatch, Refusal, Scope};
use crate::http::{Access, ApiError, Handshake, foreign_page, literal_key, random_id};
use crate::sources::watching::Watching;

pub struct Connection {
    pub namespace: Arc<NamespaceSources>,
    /// The name of the connection, which the client knows as `socket.id`.
    pub client: Arc<str>,
    pub key_watch: KeyWatch,
    /// The key has ended, and the client is told so after the answers to its events.
    pub is_ending: bool,
    /// The subscriptions of the client.
    pub watching: Watching,
    /// The key to use for each source of the namespace, or why the client may not use the source.
    rights: Vec<Result<Arc<Key>, ApiError>>,
}

/// An event that can be offered to admission.
pub struct Offered<'c, 'a> {
    pub source: usize,
    pub key: &'c Arc<Key>,
    pub text: &'a str,
}

/// The data of a client that connects to a namespace.
#[derive(Default, Deserialize)]
struct SignIn {
    token: Option<String>,
}

impl SignIn {
    fn parse(data: &str) -> Result<Self, ApiError> {
        match data {
            "" => Ok(Self::default()),
            data if data.len() > SIGN_IN_BYTES_MAX => {
                Err(Refusal::TooLarge { what: "`auth`", bytes_max: SIGN_IN_BYTES_MAX }.into())
            }
            data => serde_json::from_str(data).map_err(|_| ApiError::Parameter {
                name: "auth",
                reason: "must be an object whose `token` is a text".to_owned(),
            }),
        }
    }
}

impl Connection {
    /// Finds out which sources of the namespace the client may use. Fails if it may use none of them, and may not watch
    /// changes either. `auth` is what the client sends when it connects; its key wins over a key in the headers.
    pub fn open(
        endpoint: &Endpoint,
        handshake: &Handshake,
        namespace: &Arc<NamespaceSources>,
        auth: &str,
    ) -> Result<Self, ApiError> {
        let services = &endpoint.services;
        let sign_in = SignIn::parse(auth)?;
        let presented = match sign_in.token.as_deref().and_then(literal_key) {
            Some(token) => Credentials { literals: [Some(token), None], unreadable: false },
            None => handshake.credentials(),
        };
        let foreign = foreign_page(&handshake.headers, &services.hosts);
        let mut held_key: Option<HeldKey> = None;
        let mut rights: Vec<Result<Arc<Key>, ApiError>> = Vec::with_capacity(namespace.sources.len());
        for source in &namespace.sources {
            if foreign && source.origins.allowed(&handshake.headers).is_none() {
                rights.push(Err(ApiError::ForeignPage));
                continue;
            }
            let (stream, open) = (Some(source.stream.as_str()), source.access == Access::Open);
            let keys = &services.admission.keys;
            let authorized = keys.authorize_connection(presented, Scope::Send, stream, open);
            rights.push(authorized.map_err(ApiError::from).map(|(key, held)| {
                held_key = held_key.or(held);
                key
            }));
        }
        let watching = Watching::new(&services.live, &services.admission.keys, presented);
        if let (true, Some(Err(error))) = (rights.iter().all(Result::is_err), rights.first()) {
            // A reader comes with its own key or token, but its page has to be listed, too.
            let is_foreign = rights.iter().all(|right| *right == Err(ApiError::ForeignPage));
            match watching.reader() {
                Ok(reader) if !is_foreign => held_key = reader.held().copied(),
                _ => return Err(error.clone()),
            }
        }
        Ok(Self {
            namespace: Arc::clone(namespace),
            client: random_id()?,
            key_watch: KeyWatch::new(held_key, Instant::now()),
            is_ending: false,
            watching,
            rights,
        })
    }

    /// Counts a message of the client. Fails if its key has ended, or if it sends too many.
    pub fn count(&self, endpoint: &Endpoint, handshake: &Handshake) -> Result<(), ApiError> {
        if !self.key_watch.holds(&endpoint.services.admission.keys) {
            return Err(Refusal::Unauthorized { scope: Scope::Send, fault: KeyFault::Unknown }.into());
        }
        let rates = &endpoint.services.rates;
        rates.count_address(handshake.peer.0)?;
        rates.count_known(self.key_watch.counted_as())
    }

    /// Returns what can be offered to admission. `source` takes events of this name.
    pub fn offered<'c, 'a>(
        &'c self,
        endpoint: &Endpoint,
        handshake: &Handshake,
        source: Option<usize>,
        packet: &Packet<'_>,
        arguments: &Arguments<'a>,
    ) -> Result<Offered<'c, 'a>, ApiError> {
        let invalid = |reason: String| ApiError::Parameter { name: "event", reason };
        let source = source.ok_or_else(|| {
            let known: Vec<String> = self.namespace.events().map(|event| format!("`{event}`")).collect();
            invalid(format!("no source takes events of this name (names: {})", known.join(", ")))
        })?;
        let key = self.rights[source].as_ref().map_err(Clone::clone)?;
        self.count(endpoint, handshake)?;
        if packet.attachments > 0 {
            return Err(invalid("contains binary data; send it as JSON".to_owned()));
        }
        match (arguments.first, arguments.count) {
            (Some(text), 1) => Ok(Offered { source, key, text }),
            (None, _) => Err(invalid("has no data".to_owned())),
            (_, count) => Err(invalid(format!("has {count} arguments; send one object for each event"))),
        }
    }
}
