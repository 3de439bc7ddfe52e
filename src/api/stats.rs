//! `/v1/views/{view}/stats`: the statistics of one group, over all time or over a range of days.

use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;

use super::Api;
use super::view_access::RowReader;
use crate::admission::Refusal;
use crate::http::{ApiError, Query};
use crate::views::{GroupStats, StatsParameters};

pub fn routes(api: &Arc<Api>) -> Router {
    Router::new().route("/v1/views/{view}/stats", get(read)).with_state(Arc::clone(api))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    group: String,
    from: Option<String>,
    to: Option<String>,
    by: Option<String>,
    top: Option<usize>,
}

async fn read(reader: RowReader, Query(parameters): Query<Parameters>) -> Result<Json<GroupStats>, ApiError> {
    let RowReader { api, name, .. } = &reader;
    let other_kind = || ApiError::not_found(format!("view `{name}` is not a view of statistics"));
    let stats = reader.view().view.stats().ok_or_else(other_kind)?;
    let Parameters { group, from, to, by, top } = parameters;
    let parameters = StatsParameters { from, to, by, top };
    let query = parameters.query(stats, &group)?;
    let _permit = if query.is_long() {
        Some(api.long_ranges.acquire().await.map_err(|_| Refusal::Stopping)?)
    } else {
        None
    };
    let summary = stats.summary(&api.store, &query).await;
    let summary = api.rows_of(name, summary).await?;
    Ok(Json(GroupStats::new(stats, &query, summary)))
}
