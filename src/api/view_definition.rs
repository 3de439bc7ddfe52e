//! `GET /v1/views/{view}/definition` and `POST /v1/views/{view}/accept`: the definitions of a view, and the decision to
//! continue under a changed one.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::routing::{get, post};
use axum::{Json, Router};
use event::json_in_plain_words;
use event::limits::DEFINITION_BYTES_MAX;
use serde::Serialize;
use serde_json::value::RawValue;

use super::Api;
use super::view_access::ViewReader;
use crate::http::{Administrator, ApiError, Share, body};
use crate::views::{AcceptEffect, Accepted, ChangedSetting, Definition, accept, definition_changes, prepare};

pub fn routes(api: &Arc<Api>) -> Router {
    Router::new()
        .route("/v1/views/{view}/definition", get(show))
        .route("/v1/views/{view}/accept", post(accept_change))
        .with_state(Arc::clone(api))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    view: String,
    /// As the configuration declares it.
    configured: Box<RawValue>,
    /// The definitions in the store; the last one is in force.
    stored: Vec<StoredDefinition>,
    /// Accepted for a later configuration.
    prepared: Option<Box<RawValue>>,
    /// The settings in which the configuration differs from the definition that is in force.
    changes: Vec<ChangedSetting>,
}

#[derive(Serialize)]
struct StoredDefinition {
    /// The position from which on it applies.
    from: u64,
    definition: Box<RawValue>,
}

async fn show(reader: ViewReader) -> Result<Json<Shown>, ApiError> {
    let (api, view, log) = (&reader.api, reader.view(), reader.api.log.id());
    let stored = api.store.definitions(&reader.name, log).await?;
    let prepared = api.store.prepared_definition(&reader.name, log).await?;
    let stored = stored.into_iter().map(|stored| {
        let (from, definition) = (stored.from, json(stored.text)?);
        Ok(StoredDefinition { from, definition })
    });
    Ok(Json(Shown {
        configured: json(view.definition.stored().text.clone())?,
        prepared: prepared.map(|prepared| json(prepared.text)).transpose()?,
        stored: stored.collect::<Result<_, ApiError>>()?,
        changes: definition_changes(&api.store, &reader.name, log, &view.definition).await?,
        view: reader.name.clone(),
    }))
}

fn json(text: String) -> Result<Box<RawValue>, ApiError> {
    let broken =
        |_| ApiError::conflict("`millrace_definitions` has a row that is not JSON; restore it".to_owned());
    RawValue::from_string(text).map_err(broken)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AcceptAnswer {
    view: String,
    /// `unchanged`, `prepared` or `in-force`.
    effect: &'static str,
    /// The settings that changed; empty if there was nothing to accept.
    changes: Vec<ChangedSetting>,
    /// The position from which on the new definition applies. Null if that is the position at which a server whose
    /// configuration has it takes over.
    from: Option<u64>,
}

/// Accepts the definition in the configuration, or the one in the body, which a later configuration will have.
async fn accept_change(
    _: Administrator,
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<AcceptAnswer>, ApiError> {
    let body = body::whole(&headers, body, DEFINITION_BYTES_MAX, &mut Share::default()).await?;
    let view = api.view(&name)?;
    let Accepted { effect, changes } = if body.is_empty() {
        accept(view, &api.log, &api.store).await?
    } else {
        let definition = Definition::parse(body::utf8("the definition", &body)?).map_err(|reason| {
            let reason = json_in_plain_words(&reason);
            ApiError::Parameter { name: "definition", reason }
        })?;
        prepare(view, &api.log, &api.store, &definition).await?
    };
    let (effect, from) = match effect {
        AcceptEffect::Unchanged => ("unchanged", None),
        AcceptEffect::Prepared => ("prepared", None),
        AcceptEffect::From(position) => ("in-force", Some(position)),
    };
    Ok(Json(AcceptAnswer { view: name, effect, changes, from }))
}
