//! `/v1/keys`: list, create and revoke keys. The key itself is shown once, when it is created.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::{delete, get};
use axum::{Json, Router};
use event::Millis;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::Api;
use crate::admission::{Key, NewKey, Scope, ScopeName};
use crate::http::{Administrator, ApiError, JsonBody};

pub fn routes(api: &Arc<Api>) -> Router {
    Router::new()
        .route("/v1/keys", get(list).post(create))
        .route("/v1/keys/{key}", delete(revoke))
        .with_state(Arc::clone(api))
}

#[derive(Serialize)]
struct KeyList {
    keys: Vec<ListedKey>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListedKey {
    id: String,
    name: String,
    id_scope: String,
    scopes: Vec<&'static str>,
    streams: Vec<String>,
    view_key: Option<String>,
    created_at: String,
    expires: Option<String>,
    /// To the minute.
    last_used: Option<String>,
}

impl From<Key> for ListedKey {
    fn from(key: Key) -> Self {
        Self {
            id_scope: key.id_scope().to_owned(),
            id: key.id,
            name: key.name,
            scopes: key.scopes.iter().map(|scope| scope.as_str()).collect(),
            streams: key.streams,
            view_key: key.view_key,
            created_at: key.created.to_text(),
            expires: key.expires.map(Millis::to_text),
            last_used: key.last_used.time().map(Millis::to_text),
        }
    }
}

async fn list(_: Administrator, State(api): State<Arc<Api>>) -> Json<KeyList> {
    Json(KeyList { keys: api.keys.list().into_iter().map(ListedKey::from).collect() })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct CreateKey {
    name: ScopeName,
    id_scope: Option<ScopeName>,
    scopes: Vec<String>,
    #[serde(default)]
    streams: Vec<String>,
    view_key: Option<String>,
    expires: Option<String>,
}

impl CreateKey {
    fn checked(self, api: &Api) -> Result<NewKey, String> {
        let scope = |text: &String| {
            Scope::parse(text).ok_or_else(|| format!("`{text}` is not a scope; scopes are send, read, admin"))
        };
        let scopes = self.scopes.iter().map(scope).collect::<Result<Vec<_>, _>>()?;
        if scopes.is_empty() {
            return Err("needs at least one scope".to_owned());
        }
        if self.id_scope.is_some() && !scopes.contains(&Scope::Send) {
            return Err("a key with an `idScope` needs scope `send`".to_owned());
        }
        if self.view_key.is_some() && scopes != [Scope::Read] {
            return Err("a key with a `viewKey` can only have scope `read`".to_owned());
        }
        if !self.streams.is_empty() && scopes.contains(&Scope::Admin) {
            return Err("a key for some streams cannot have scope `admin`".to_owned());
        }
        if let Some(unknown) = self.streams.iter().find(|stream| !api.streams.contains_key(*stream)) {
            return Err(format!("there is no stream `{unknown}`"));
        }
        let expires = self.expires.as_deref().map(expiry).transpose()?;
        Ok(NewKey {
            name: self.name.into(),
            id_scope: self.id_scope.map(String::from),
            scopes,
            streams: self.streams,
            view_key: self.view_key,
            expires,
        })
    }
}

fn expiry(text: &str) -> Result<Millis, String> {
    match text.parse::<Millis>() {
        Ok(time) if time > Millis::now() => Ok(time),
        Ok(_) => Err(format!("`expires` is `{text}`, which is in the past")),
        Err(error) => Err(format!("`expires` is `{text}`: {error}")),
    }
}

#[derive(Serialize)]
struct CreatedKey {
    #[serde(flatten)]
    listed: ListedKey,
    key: String,
}

async fn create(
    _: Administrator,
    State(api): State<Arc<Api>>,
    JsonBody(create): JsonBody<CreateKey>,
) -> Result<Json<CreatedKey>, ApiError> {
    let new = create.checked(&api).map_err(|reason| ApiError::Parameter { name: "key", reason })?;
    let (key, literal) = api.keys.add(new).await?;
    tracing::info!(key = key.id, name = key.name, "key created");
    Ok(Json(CreatedKey { listed: key.into(), key: literal }))
}

#[derive(Serialize)]
struct Revoked {
    id: String,
    revoked: bool,
}

/// Serialises revocations: with two administrators left, two concurrent ones must not each see the other.
static REVOKING: Mutex<()> = Mutex::const_new(());

async fn revoke(
    _: Administrator,
    State(api): State<Arc<Api>>,
    Path(id_or_name): Path<String>,
) -> Result<Json<Revoked>, ApiError> {
    let _turn = REVOKING.lock().await;
    let keys = api.keys.list();
    let mut named = keys.iter().filter(|key| key.name == id_or_name);
    let id = match (keys.iter().find(|key| key.id == id_or_name), named.next(), named.next()) {
        (Some(key), ..) | (None, Some(key), None) => key.id.clone(),
        // Keys of an earlier version may share a name.
        (None, Some(one), Some(_)) => {
            let ids: Vec<&str> =
                keys.iter().filter(|key| key.name == one.name).map(|key| key.id.as_str()).collect();
            let reason =
                format!("several keys are named `{}`; revoke one by its id: {}", one.name, ids.join(", "));
            return Err(ApiError::conflict(reason));
        }
        (None, None, _) => id_or_name,
    };
    // A key that expires leaves nobody who could create another.
    let lasting = |key: &&Key| key.scopes.contains(&Scope::Admin) && key.expires.is_none();
    let mut administrators = keys.iter().filter(lasting);
    if administrators.next().is_some_and(|first| first.id == id) && administrators.next().is_none() {
        let reason = format!(
            "key `{id}` is the last one with scope `admin` that does not expire; create another first"
        );
        return Err(ApiError::conflict(reason));
    }
    if api.keys.revoke(&id).await? {
        tracing::info!(key = id, "key revoked");
        return Ok(Json(Revoked { id, revoked: true }));
    }
    Err(if keys.iter().any(|key| key.id == id) {
        ApiError::conflict(format!("key `{id}` comes from the environment; remove it there"))
    } else {
        ApiError::not_found(format!("there is no key `{id}`"))
    })
}
