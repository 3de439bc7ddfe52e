//! `/v1/tokens`: tokens for readers whose programs cannot keep a key, such as web pages. The page's own server makes one
//! with its key, for what this reader may watch, for minutes.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::routing::post;
use axum::{Json, Router};
use event::limits::{TOKEN_DURATION_DEFAULT, TOKEN_DURATION_MAX, TOKEN_GRANTS_MAX};
use serde::{Deserialize, Serialize};

use super::Api;
use crate::admission::{Grant, Reader};
use crate::http::{ApiError, JsonBody, credentials};
use crate::live::SubscriptionRequest;

pub fn routes(api: &Arc<Api>) -> Router {
    Router::new().route("/v1/tokens", post(create)).with_state(Arc::clone(api))
}

/// A reader that presents a key in a header.
struct TokenMaker(Reader);

impl FromRequestParts<Arc<Api>> for TokenMaker {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        Ok(Self(api.keys.reader(credentials(&parts.headers))?))
    }
}

/// The subscriptions that the token is for: one, or several under `subscribe`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenRequest {
    stream: Option<String>,
    view: Option<String>,
    #[serde(alias = "group", alias = "id")]
    key: Option<String>,
    subscribe: Option<Vec<SubscriptionRequest>>,
    minutes: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TokenBody {
    token: String,
    expires_at: String,
}

async fn create(
    TokenMaker(reader): TokenMaker,
    State(api): State<Arc<Api>>,
    JsonBody(body): JsonBody<TokenRequest>,
) -> Result<Json<TokenBody>, ApiError> {
    let invalid = |name, reason: String| ApiError::Parameter { name, reason };
    let longest = TOKEN_DURATION_MAX.as_secs() / 60;
    let valid = match body.minutes {
        None => TOKEN_DURATION_DEFAULT,
        Some(minutes) if (1..=longest).contains(&minutes) => Duration::from_secs(minutes * 60),
        Some(_) => return Err(invalid("minutes", format!("must be between 1 and {longest}"))),
    };
    let TokenRequest { stream, view, key, subscribe, .. } = body;
    let requests = match subscribe {
        Some(_) if stream.is_some() || view.is_some() || key.is_some() => {
            return Err(invalid(
                "subscribe",
                "cannot be combined with `stream`, `view` and `key`".to_owned(),
            ));
        }
        Some(requests) => requests,
        None => vec![SubscriptionRequest { stream, view, key, ..SubscriptionRequest::default() }],
    };
    if !(1..=TOKEN_GRANTS_MAX).contains(&requests.len()) {
        let reason = format!("must name between 1 and {TOKEN_GRANTS_MAX} subscriptions");
        return Err(invalid("subscribe", reason));
    }
    let mut grants = Vec::with_capacity(requests.len());
    for request in &requests {
        let target = api.live.target(request)?;
        api.keys.may_watch(&reader, target.watched())?;
        grants.push(Grant::of(target.watched()));
    }
    let (token, expires) = api.keys.token(&reader, grants, valid)?;
    Ok(Json(TokenBody { token, expires_at: expires.to_text() }))
}
