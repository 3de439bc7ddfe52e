//! `/v1/keys`: list, make, revoke. The literal of a key is shown once, when it is made.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{delete, get};
use event::limits::KEY_BODY_BYTES_MAX;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{Reading, answer};
use crate::admit::{Key, NewKey, Refusal, Scope, Share, body};

pub fn routes(reading: &Arc<Reading>) -> Router {
    Router::new()
        .route("/v1/keys", get(list).post(make))
        .route("/v1/keys/{id}", delete(revoke))
        .with_state(Arc::clone(reading))
}

async fn list(State(reading): State<Arc<Reading>>, headers: HeaderMap) -> Response {
    let listed = reading
        .admin(&headers)
        .map(|_| json!({ "keys": reading.keys.list().iter().map(shown).collect::<Vec<_>>() }));
    answer(listed)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: String,
    scopes: Vec<String>,
    #[serde(default)]
    streams: Vec<String>,
    #[serde(rename = "viewKey")]
    view_key: Option<String>,
}

async fn make(State(reading): State<Arc<Reading>>, headers: HeaderMap, body: Body) -> Response {
    let made = async {
        reading.admin_with(&headers, &body)?;
        let parameter = |reason: String| Refusal::Parameter { name: "key", reason };
        let body = body::whole(&headers, body, KEY_BODY_BYTES_MAX, &mut Share::default()).await?;
        let wanted: Wanted = serde_json::from_slice(&body).map_err(|error| parameter(error.to_string()))?;
        let scope = |text: &String| {
            Scope::parse(text)
                .ok_or_else(|| parameter(format!("`{text}` is no scope; send, read, admin are")))
        };
        let scopes = wanted.scopes.iter().map(scope).collect::<Result<Vec<_>, _>>()?;
        if scopes.is_empty()
            || wanted.name.is_empty()
            || wanted.name.chars().count() > 100
            || wanted.name.chars().any(char::is_control)
        {
            return Err(parameter(
                "needs a name of at most 100 plain characters and at least one scope".to_owned(),
            ));
        }
        if wanted.view_key.is_some() && scopes != [Scope::Read] {
            return Err(parameter("with a `viewKey` it may only read".to_owned()));
        }
        if !wanted.streams.is_empty() && scopes.contains(&Scope::Admin) {
            return Err(parameter("a key for some streams cannot administrate".to_owned()));
        }
        if let Some(unknown) = wanted.streams.iter().find(|stream| !reading.streams.contains_key(*stream)) {
            return Err(parameter(format!("there is no stream `{unknown}`")));
        }
        let new = NewKey { name: wanted.name, scopes, streams: wanted.streams, view_key: wanted.view_key };
        let (key, literal) = reading.keys.add(new).await?;
        tracing::info!(key = key.id, name = key.name, "key made");
        let mut body = shown(&key);
        body["key"] = json!(literal);
        Ok(body)
    };
    answer(made.await)
}

/// One at a time: two that are the last two must not both see the other.
static REVOKING: Mutex<()> = Mutex::const_new(());

async fn revoke(State(reading): State<Arc<Reading>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let revoked = async {
        reading.admin(&headers)?;
        let _turn = REVOKING.lock().await;
        let keys = reading.keys.list();
        let mut administrators = keys.iter().filter(|key| key.scopes.contains(&Scope::Admin));
        if administrators.next().is_some_and(|first| first.id == id) && administrators.next().is_none() {
            let reason = format!("key `{id}` is the last that may administer; make another first");
            return Err(Refusal::Conflict(reason));
        }
        match reading.keys.revoke(&id).await? {
            true => {
                tracing::info!(key = id, "key revoked");
                Ok(json!({ "id": id, "revoked": true }))
            }
            false if keys.iter().any(|key| key.id == id) => {
                Err(Refusal::Conflict(format!("key `{id}` is the environment's; take it out there")))
            }
            false => Err(Refusal::NotFound(format!("there is no key `{id}`"))),
        }
    };
    answer(revoked.await)
}

fn shown(key: &Key) -> Value {
    let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.as_str()).collect();
    json!({
        "id": key.id,
        "name": key.name,
        "scopes": scopes,
        "streams": key.streams,
        "viewKey": key.view_key,
        "createdAt": key.created.to_text(),
    })
}
