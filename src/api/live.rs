//! `/v1/live` and its shortcuts: subscriptions to changes, as Server-Sent Events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Extension, FromRequestParts, Path, State};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::get;
use axum::Router;
use event::Stop;
use event::limits::{
    LIVE_CHUNK_BYTES, LIVE_HEARTBEAT_INTERVAL, LIVE_RETRY_DELAY_MAX, LIVE_RETRY_DELAY_MIN, SUBSCRIPTIONS_MAX,
};
use futures_util::stream::unfold;
use futures_util::FutureExt;
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::Api;
use crate::admission::{KeyWatch, Keys, Reader};
use crate::http::{
    ApiError, OpenSocket, Peer, Query, credentials, event_stream, write_event, write_heartbeat, write_retry,
};
use crate::live::{Message, SubscriptionRequest, Subscriptions, Topic, split_places};

pub fn routes(api: &Arc<Api>) -> Router {
    Router::new()
        .route("/v1/live", get(several))
        .route("/v1/views/{view}/live", get(of_view))
        .route("/v1/streams/{stream}/live", get(of_stream))
        .with_state(Arc::clone(api))
}

/// A reader with the parameters of its subscription.
struct LiveReader {
    reader: Reader,
    peer: Peer,
    parameters: Vec<(String, String)>,
    /// The place after which it continues.
    after: Option<String>,
}

impl FromRequestParts<Arc<Api>> for LiveReader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let Query(mut parameters) = Query::<Vec<(String, String)>>::from_request_parts(parts, api).await?;
        let (token, after) = (take(&mut parameters, "token"), take(&mut parameters, "after"));
        let reader = match &token {
            Some(token) => api.keys.reader_with_token(token)?,
            None => api.keys.reader(credentials(&parts.headers))?,
        };
        let Extension(peer) = Extension::<Peer>::from_request_parts(parts, api)
            .await
            .map_err(|error| ApiError::BrokenBody(error.to_string()))?;
        // A browser that connects again repeats the first URL, and adds where it was.
        let after = last_event_id(&parts.headers).or(after).filter(|after| !after.is_empty());
        Ok(Self { reader, peer, parameters, after })
    }
}

fn last_event_id(headers: &HeaderMap) -> Option<String> {
    headers.get("last-event-id")?.to_str().ok().map(str::to_owned)
}

/// Takes the last parameter of this name.
fn take(parameters: &mut Vec<(String, String)>, name: &str) -> Option<String> {
    let at = parameters.iter().rposition(|(known, _)| known == name)?;
    Some(parameters.remove(at).1)
}

async fn of_view(
    reader: LiveReader,
    State(api): State<Arc<Api>>,
    Path(view): Path<String>,
) -> Result<Response, ApiError> {
    one(&api, reader, "view", view)
}

async fn of_stream(
    reader: LiveReader,
    State(api): State<Arc<Api>>,
    Path(stream): Path<String>,
) -> Result<Response, ApiError> {
    one(&api, reader, "stream", stream)
}

fn one(api: &Arc<Api>, reader: LiveReader, kind: &str, name: String) -> Result<Response, ApiError> {
    let mut request = Map::new();
    for (name, text) in &reader.parameters {
        // The only parameter that is not a text.
        let value = match text.parse::<u64>() {
            Ok(number) if name == "top" => number.into(),
            _ => Value::from(text.as_str()),
        };
        if request.insert(name.clone(), value).is_some() {
            return Err(invalid(&format!("`{name}` is given twice")));
        }
    }
    request.insert(kind.to_owned(), name.into());
    let request = SubscriptionRequest::parse(&Value::Object(request).to_string())?;
    open(api, reader, vec![request])
}

/// Several subscriptions over one connection: browsers open at most six to one site.
async fn several(reader: LiveReader, State(api): State<Arc<Api>>) -> Result<Response, ApiError> {
    if let Some((name, _)) = reader.parameters.iter().find(|(name, _)| name != "subscribe") {
        return Err(invalid(&format!("has no parameter `{name}`; name each subscription as `subscribe={{...}}`")));
    }
    let requests = reader.parameters.iter().map(|(_, text)| SubscriptionRequest::parse(text));
    let requests = requests.collect::<Result<Vec<_>, _>>()?;
    if requests.is_empty() {
        return Err(invalid("names no subscription, such as `subscribe={\"stream\":\"orders\"}`"));
    }
    open(&api, reader, requests)
}

fn invalid(reason: &str) -> ApiError {
    ApiError::Parameter { name: "query", reason: reason.to_owned() }
}

fn open(
    api: &Arc<Api>,
    reader: LiveReader,
    mut requests: Vec<SubscriptionRequest>,
) -> Result<Response, ApiError> {
    let LiveReader { reader, peer, after, .. } = reader;
    if requests.len() > SUBSCRIPTIONS_MAX {
        return Err(invalid(&format!("names more than {SUBSCRIPTIONS_MAX} subscriptions")));
    }
    if let Some(after) = &after {
        let places = split_places(after);
        if places.len() != requests.len() {
            let reason = "is not the place of these subscriptions".to_owned();
            return Err(ApiError::Parameter { name: "after", reason });
        }
        for (request, place) in requests.iter_mut().zip(places) {
            request.after = Some(place.to_owned());
        }
    }
    let mut topics: Vec<Topic> = Vec::with_capacity(requests.len());
    for request in &requests {
        let topic = api.live.topic(request)?;
        api.keys.may_watch(&reader, topic.watched())?;
        topics.push(topic);
    }
    let mut place = api.sockets.open_subscriber(peer)?;
    place.signed_in();
    let mut subscriptions = Subscriptions::default();
    for (topic, request) in topics.iter().zip(&requests) {
        subscriptions.add(api.live.subscribe(topic)?, request.after.as_deref());
    }
    let connection = Connection {
        revocations: api.keys.revocations(),
        keys: api.keys.clone(),
        key_watch: KeyWatch::new(reader.held().copied(), Instant::now()),
        stop: api.sockets.stop().clone(),
        subscriptions,
        begun: false,
        has_ended: false,
        heartbeat_at: Instant::now() + LIVE_HEARTBEAT_INTERVAL,
        _place: place,
    };
    Ok(event_stream(unfold(connection, |mut connection| async {
        let piece = connection.next_piece().await?;
        Some((Ok::<Bytes, Infallible>(piece.into()), connection))
    })))
}

/// One reader's connection.
struct Connection {
    subscriptions: Subscriptions,
    keys: Keys,
    key_watch: KeyWatch,
    revocations: watch::Receiver<()>,
    stop: Stop,
    begun: bool,
    has_ended: bool,
    heartbeat_at: Instant,
    _place: OpenSocket,
}

impl Connection {
    /// Waits for the next piece of the answer; `None` at its end.
    async fn next_piece(&mut self) -> Option<String> {
        let mut piece = String::new();
        if self.has_ended {
            return None;
        }
        if !std::mem::replace(&mut self.begun, true) {
            // At once, so that the reader knows that it is connected.
            write_retry(&mut piece, retry_delay());
            return Some(piece);
        }
        while piece.is_empty() {
            self.wait(&mut piece).await;
        }
        Some(piece)
    }

    async fn wait(&mut self, piece: &mut String) {
        let deadline = self.key_watch.deadline().unwrap_or(self.heartbeat_at).min(self.heartbeat_at);
        tokio::select! {
            biased;
            () = self.stop.wait() => self.end(piece, "stopping"),
            _ = self.revocations.changed() => self.check_key(piece),
            () = sleep_until(deadline) => self.tick(piece),
            (_, message) = self.subscriptions.next() => {
                self.write(piece, &message);
                // What is there already is sent with it.
                while piece.len() < LIVE_CHUNK_BYTES
                    && let Some((_, message)) = self.subscriptions.next().now_or_never()
                {
                    self.write(piece, &message);
                }
            }
        }
    }

    fn write(&mut self, piece: &mut String, message: &Message) {
        // The browser gives messages without a name to `onmessage`, and those without content to nobody.
        let name = (!matches!(message, Message::Change { .. } | Message::Place { .. })).then(|| message.name());
        write_event(piece, name, &self.subscriptions.place(), message.content());
        self.heartbeat_at = Instant::now() + LIVE_HEARTBEAT_INTERVAL;
    }

    fn tick(&mut self, piece: &mut String) {
        let now = Instant::now();
        if now >= self.heartbeat_at {
            write_heartbeat(piece);
            self.heartbeat_at = now + LIVE_HEARTBEAT_INTERVAL;
        }
        self.key_watch.checked(now);
        self.check_key(piece);
    }

    fn check_key(&mut self, piece: &mut String) {
        if !self.key_watch.holds(&self.keys) {
            self.end(piece, "key-ended");
        }
    }

    /// Ends the answer after a message that says why.
    fn end(&mut self, piece: &mut String, reason: &str) {
        write_event(piece, Some("end"), "", &serde_json::json!({ "reason": reason }).to_string());
        self.has_ended = true;
    }
}

/// Returns a delay of its own for each reader, so that not all of them come back at once.
fn retry_delay() -> Duration {
    let mut random = [0_u8; 2];
    // Without random bytes, the delay is the shortest one.
    let _ = getrandom::fill(&mut random);
    let share = f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX);
    LIVE_RETRY_DELAY_MIN + (LIVE_RETRY_DELAY_MAX - LIVE_RETRY_DELAY_MIN).mul_f64(share)
}
