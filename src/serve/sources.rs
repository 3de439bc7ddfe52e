//! What of a source has arrived: `send` asks before it sends, so that nothing that was acknowledged goes
//! over the wire again.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use event::SourceId;
use event::limits::{LIST_ROWS_MAX, SOURCE_GATE_DURATION_MAX};
use serde::Deserialize;
use serde_json::json;

use super::{Reading, answer};
use crate::admit::{Refusal, Scope};

pub fn routes(reading: &Arc<Reading>) -> Router {
    Router::new().route("/v1/streams/{stream}/sources/{source}", get(runs)).with_state(Arc::clone(reading))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct From {
    from_line: Option<u64>,
}

async fn runs(
    State(reading): State<Arc<Reading>>,
    Path((stream, source)): Path<(String, String)>,
    query: Result<Query<From>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let read = async {
        let key = reading.keys.admit(&headers, Scope::Send, Some(&stream), false)?;
        let Query(query) = query?;
        if !reading.progress.gate_reached(reading.log.end(), SOURCE_GATE_DURATION_MAX).await {
            return Err(Refusal::unsettled());
        }
        let id = SourceId::derived(&stream, &key.name, &format!("source:{source}"));
        let runs = reading.store.seen_lines(id, query.from_line.unwrap_or(0), LIST_ROWS_MAX).await?;
        let run = |(first, lines, hash): (u64, u64, event::BodyHash)| {
            let hash: String = hash.0.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({ "firstLine": first, "lines": lines, "hash": hash })
        };
        let more = runs.len() == LIST_ROWS_MAX;
        Ok(json!({ "runs": runs.into_iter().map(run).collect::<Vec<_>>(), "more": more }))
    };
    answer(read.await)
}
