//! `/v1/live` and its shortcuts: subscriptions to changes, as Server-Sent Events.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Extension, FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::get;
use event::limits::SUBSCRIPTIONS_MAX;
use serde_json::{Map, Value};

use super::Api;
use super::live_connection::{self, Connection};
use crate::admission::Reader;
use crate::http::{ApiError, Peer, Query, credentials, event_stream};
use crate::live::{SubscriptionRequest, Subscriptions, Target, split_places};

pub fn routes(api: &Arc<Api>) -> Router {
    Router::new()
        .route("/v1/live", get(several))
        .route("/v1/views/{view}/live", get(of_view))
        .route("/v1/streams/{stream}/live", get(of_stream))
        .layer(from_fn(end_instead_of_refusal))
        .with_state(Arc::clone(api))
}

/// Ends the answer to a browser that cannot be served now, so that it connects again. After a refusal, it would never do
/// that.
async fn end_instead_of_refusal(request: Request, next: Next) -> Response {
    let accepted = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let is_browser = accepted.is_some_and(|accepted| accepted.contains("text/event-stream"));
    let answer = next.run(request).await;
    match answer.extensions().get::<ApiError>().and_then(ApiError::retry_after_seconds) {
        Some(seconds) if is_browser => live_connection::try_again(Duration::from_secs(seconds)),
        _ => answer,
    }
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
        let after = last_event_id(&parts.headers).or(after.filter(|after| !after.is_empty()));
        Ok(Self { reader, peer, parameters, after })
    }
}

fn last_event_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("last-event-id")?.to_str().ok()?;
    (!id.is_empty()).then(|| id.to_owned())
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
        return Err(invalid(&format!(
            "has no parameter `{name}`; name each subscription as `subscribe={{...}}`"
        )));
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
            request.after = Some(place);
        }
    }
    let mut targets: Vec<Target> = Vec::with_capacity(requests.len());
    for request in &requests {
        let target = api.live.target(request)?;
        api.keys.may_watch(&reader, target.watched())?;
        targets.push(target);
    }
    let mut place = api.sockets.open_subscriber(peer)?;
    place.signed_in();
    let mut subscriptions = Subscriptions::default();
    for (target, request) in targets.iter().zip(&requests) {
        subscriptions.add(api.live.subscribe(target)?, request.after.as_deref());
    }
    let stop = api.sockets.stop();
    let connection = Connection::new(&api.keys, &reader, stop, subscriptions, place);
    Ok(event_stream(connection.pieces()))
}
