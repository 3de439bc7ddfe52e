//! `/v1/streams/{stream}/uploads/{upload}`: which lines of an upload are stored. `send` asks before it sends, so that
//! acknowledged lines are not sent again.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use event::limits::{DEDUP_WAIT_DURATION_MAX, LIST_ROWS_MAX};
use serde::{Deserialize, Serialize};

use super::Api;
use crate::admission::{IdScope, Refusal};
use crate::http::{ApiError, Query, Sender};

pub fn routes(api: &Arc<Api>) -> Router {
    Router::new().route("/v1/streams/{stream}/uploads/{upload}", get(runs)).with_state(Arc::clone(api))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FromLine {
    from_line: Option<u64>,
}

#[derive(Serialize)]
struct Runs {
    runs: Vec<Run>,
    /// There are runs after the last one.
    more: bool,
}

/// Consecutive lines that were stored together.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    first_line: u64,
    lines: u64,
    hash: String,
}

async fn runs(
    sender: Sender,
    State(api): State<Arc<Api>>,
    Path((stream, upload)): Path<(String, String)>,
    Query(from): Query<FromLine>,
) -> Result<Json<Runs>, ApiError> {
    if !api.progress.dedup_reached(api.log.end(), DEDUP_WAIT_DURATION_MAX).await {
        return Err(Refusal::dedup_behind().into());
    }
    let id = IdScope { stream: &stream, scope: sender.key.id_scope() }.upload(&upload);
    let stored = api.store.upload_lines(id, from.from_line.unwrap_or(0), LIST_ROWS_MAX).await?;
    let more = stored.len() == LIST_ROWS_MAX;
    let run = |(first_line, lines, hash): (u64, u64, event::BodyHash)| Run {
        first_line,
        lines,
        hash: event::hex(&hash.0),
    };
    Ok(Json(Runs { runs: stored.into_iter().map(run).collect(), more }))
}
