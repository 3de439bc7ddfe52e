//! An event of a client on its way into the log, and the answer to it.

use std::ops::Range;
use std::sync::Arc;

use event::{Millis, SentFrom};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::connection::Offered;
use super::endpoint::{Endpoint, NamespaceSources};
use super::packet;
use super::section::SocketIoSource;
use crate::admission::{Admitted, Context, IdScope, Key, Offer, OfferName, ScopeName};
use crate::http::{ApiError, Handshake};

/// An event that is being admitted.
pub struct PendingEvent {
    endpoint: Arc<Endpoint>,
    handshake: Arc<Handshake>,
    namespace: Arc<NamespaceSources>,
    client: Arc<str>,
    key: Arc<Key>,
    source: usize,
    ack: Option<u64>,
    order: Arc<Mutex<()>>,
    /// The message that contains the event, and where the event is in it.
    message: Arc<str>,
    range: Range<usize>,
}

/// An event and what has become of it.
pub struct Decided {
    pub client: Arc<str>,
    /// The index of its source; `None` if no source takes events of its name.
    pub source: Option<usize>,
    pub ack: Option<u64>,
    pub outcome: Result<Admitted, ApiError>,
}

/// Who sent an event, through which namespace.
pub struct Sender<'c> {
    pub endpoint: &'c Arc<Endpoint>,
    pub handshake: &'c Arc<Handshake>,
    pub namespace: &'c Arc<NamespaceSources>,
    pub client: &'c Arc<str>,
    /// Locked by each event of the client until it has its place in the log's order.
    pub order: &'c Arc<Mutex<()>>,
}

impl PendingEvent {
    pub fn new(sender: &Sender<'_>, offered: &Offered<'_, '_>, ack: Option<u64>, message: &Arc<str>) -> Self {
        let begin = offered.text.as_ptr() as usize - message.as_ptr() as usize;
        Self {
            endpoint: Arc::clone(sender.endpoint),
            handshake: Arc::clone(sender.handshake),
            namespace: Arc::clone(sender.namespace),
            client: Arc::clone(sender.client),
            key: Arc::clone(offered.key),
            source: offered.source,
            ack,
            order: Arc::clone(sender.order),
            message: Arc::clone(message),
            range: begin..begin + offered.text.len(),
        }
    }

    /// Waits until the event is durable or refused.
    pub async fn decided(self) -> Decided {
        let outcome = self.admitted().await;
        Decided { client: self.client, source: Some(self.source), ack: self.ack, outcome }
    }

    async fn admitted(&self) -> Result<Admitted, ApiError> {
        let source = &self.namespace.sources[self.source];
        let scope = source.id_scope.as_ref().map_or_else(|| self.key.id_scope(), ScopeName::as_str);
        let context = Context {
            ids: IdScope { stream: &source.stream, scope },
            window: source.window.map(|window| window.0),
            sent_from: SentFrom { client: Some(&self.client), ..self.handshake.sent_from() },
            trace: None,
            idempotency_key: None,
        };
        let name = if source.ids { OfferName::OwnId } else { OfferName::Unnamed };
        let offer = Offer { text: &self.message[self.range.clone()], name };
        let in_order = self.order.lock().await;
        let durable = self.endpoint.services.admission.queue_one(&context, offer).await?;
        drop(in_order);
        Ok(durable.await?)
    }
}

impl Decided {
    /// Returns the packets that answer the event.
    pub fn answers(&self, namespace: &NamespaceSources) -> impl Iterator<Item = String> {
        let source = &namespace.sources[self.source.unwrap_or_default()];
        let (event, for_event, for_callback) = match &self.outcome {
            Ok(admitted) => {
                let answer = source.answer.fill(admitted.id);
                (source.answer_event.as_ref(), answer.clone(), answer)
            }
            Err(error) => {
                let mut for_callback = refusal(source, error);
                for_callback["status"] = "error".into();
                (
                    Some(&source.error_event),
                    error_content(source, error).into(),
                    for_callback.to_string().into(),
                )
            }
        };
        let event = event.map(|event| packet::encode_event(&namespace.name, event.as_str(), &for_event));
        let ack = self.ack.map(|ack| packet::encode_ack(&namespace.name, ack, &for_callback));
        event.into_iter().chain(ack)
    }
}

/// Returns the content of the event that tells a client about a refusal.
pub fn error_content(source: &SocketIoSource, error: &ApiError) -> String {
    let mut content = refusal(source, error);
    content["timestamp"] = Millis::now().0.into();
    content.to_string()
}

/// Returns the content of a refusal in a callback or an event.
pub fn refusal(source: &SocketIoSource, error: &ApiError) -> Value {
    let mut refusal = json!({ "message": source.words(error), "code": error.code() });
    if let Some(seconds) = error.retry_after_seconds() {
        refusal["retryAfter"] = seconds.into();
    }
    refusal
}
