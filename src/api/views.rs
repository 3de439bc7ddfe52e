//! `/v1/views`: the views, their balances, and the comparison of a view with its log (`reconcile`, `rebuild`).

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use event::limits::LIST_ROWS_MAX;
use event::{Applied, Stalled};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::view_access::{RowReader, ViewReader};
use super::{Api, JsonText};
use crate::http::{Administrator, ApiError, Query, Reader};
use crate::store::{DEDUP_NAME, DEDUP_STORED_NAME};
use crate::views::{Balance, Ledger, Report, Running, View, compare, rebuild};

pub fn routes(api: &Arc<Api>) -> Router {
    let fold = |mend| {
        move |_: Administrator, State(api): State<Arc<Api>>, Path(name): Path<String>| {
            fold_log(api, name, mend)
        }
    };
    Router::new()
        .route("/v1/views", get(list))
        .route("/v1/views/{view}", get(show).delete(drop_view))
        .route("/v1/views/{view}/balances", get(balances))
        .route("/v1/views/{view}/balances/{key}", get(balance))
        .route("/v1/views/{view}/reconcile", post(fold(false)))
        .route("/v1/views/{view}/rebuild", post(fold(true)))
        .with_state(Arc::clone(api))
}

#[derive(Serialize)]
struct ViewList {
    views: Vec<ViewSummary>,
}

/// A view, and how far it is.
#[derive(Serialize)]
pub struct ViewSummary {
    name: String,
    kind: &'static str,
    stream: String,
    #[serde(flatten)]
    at: PositionState,
}

/// How far a view or dedup is, and why it does not continue.
#[derive(Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PositionState {
    state: Stage,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    position: Option<u64>,
    /// In log positions, those of other streams included.
    lag: Option<u64>,
    /// Since the first event was received that is not applied.
    lag_seconds: Option<u64>,
}

#[derive(Clone, Copy, Default, Serialize)]
#[serde(rename_all = "lowercase")]
enum Stage {
    #[default]
    Running,
    /// The store does not answer or is busy.
    Waiting,
    /// A person has to act.
    Paused,
}

impl ViewSummary {
    pub fn of(view: &View, states: &BTreeMap<String, PositionState>) -> Self {
        Self {
            name: view.name.clone(),
            kind: view.kind_name(),
            stream: view.stream.clone(),
            at: states.get(&view.name).cloned().unwrap_or_default(),
        }
    }
}

impl PositionState {
    /// Returns the states of dedup and of all views, by name.
    pub fn all(api: &Api) -> BTreeMap<String, Self> {
        let end = api.log.end();
        let state = |(name, applied): (String, Applied)| {
            let is_behind = applied.position < end;
            let lag_seconds = if is_behind { api.progress.lag_seconds(&name) } else { 0 };
            (name, Self::of(applied, end, lag_seconds))
        };
        api.progress.all().into_iter().map(state).collect()
    }

    fn of(applied: Applied, end: u64, lag_seconds: u64) -> Self {
        let (state, reason) = match applied.stalled {
            None => (Stage::Running, None),
            Some(Stalled::Waiting(reason)) => (Stage::Waiting, Some(reason)),
            Some(Stalled::Paused(reason)) => (Stage::Paused, Some(reason)),
        };
        let (position, lag) = (Some(applied.position), Some(end.saturating_sub(applied.position)));
        Self { state, reason, position, lag, lag_seconds: Some(lag_seconds) }
    }
}

async fn list(_: Reader, State(api): State<Arc<Api>>) -> Json<ViewList> {
    let states = PositionState::all(&api);
    let summary = |running: &Running| ViewSummary::of(&running.view, &states);
    Json(ViewList { views: api.views.values().map(summary).collect() })
}

#[derive(Serialize)]
struct ShownView {
    #[serde(flatten)]
    summary: ViewSummary,
    tables: Vec<String>,
}

async fn show(reader: ViewReader) -> Json<ShownView> {
    let view = &reader.view().view;
    let summary = ViewSummary::of(view, &PositionState::all(&reader.api));
    Json(ShownView { summary, tables: view.table_names() })
}

async fn balance(reader: RowReader) -> Result<JsonText, ApiError> {
    let RowReader { api, name, row: key } = &reader;
    let read = ledger(reader.view())?.balance(&api.store, key).await;
    let unknown = || ApiError::not_found(format!("view `{name}` has no row for `{key}`"));
    let balance = api.rows_of(name, read).await?.ok_or_else(unknown)?;
    Ok(JsonText(row(&balance)))
}

/// Fails for other kinds of views, which have no balances.
fn ledger(view: &Running) -> Result<&Ledger, ApiError> {
    let name = &view.view.name;
    view.view.ledger().ok_or_else(|| ApiError::not_found(format!("view `{name}` is not a ledger")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BalancesQuery {
    after: Option<String>,
    limit: Option<usize>,
}

async fn balances(reader: ViewReader, Query(query): Query<BalancesQuery>) -> Result<JsonText, ApiError> {
    let ledger = ledger(reader.view())?;
    let limit = query.limit.unwrap_or(LIST_ROWS_MAX).clamp(1, LIST_ROWS_MAX);
    let read = ledger.balances(&reader.api.store, query.after.as_deref(), limit).await;
    let rows = reader.api.rows_of(&reader.name, read).await?;
    Ok(JsonText(format!("{{\"balances\":[{}]}}", rows.iter().map(row).collect::<Vec<_>>().join(","))))
}

/// The balance as a JSON number with all its digits.
fn row(balance: &Balance) -> String {
    format!("{{\"key\":{},\"balance\":{}}}", json!(balance.key), balance.amount)
}

/// Folds the log again and compares the view with the outcome; with `mend`, corrects the view.
async fn fold_log(api: Arc<Api>, name: String, mend: bool) -> Result<Json<Comparison>, ApiError> {
    api.view(&name)?;
    let view = name.clone();
    let work = move |api: &Api| -> Result<Report, ApiError> {
        let running = api.view(&view)?;
        let fold = if mend { rebuild } else { compare };
        Ok(fold(running, &api.log, &api.store, &api.runtime, &api.stopping)?)
    };
    let report = api.blocking(&api.log_replays, work).await?;
    Ok(Json(Comparison::new(name, report, mend)))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Comparison {
    view: String,
    position: u64,
    keys: u64,
    difference_count: u64,
    /// The first ones.
    differences: Vec<Difference>,
    mended: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Difference {
    key: String,
    had: Option<String>,
    should_have: String,
}

impl Comparison {
    fn new(view: String, report: Report, mended: bool) -> Self {
        let difference = |difference: crate::views::Difference| Difference {
            key: difference.key,
            had: difference.has,
            should_have: difference.should_have,
        };
        Self {
            view,
            position: report.position,
            keys: report.keys,
            difference_count: report.difference_count,
            differences: report.differences.into_iter().map(difference).collect(),
            mended,
        }
    }
}

#[derive(Serialize)]
struct Dropped {
    view: String,
    dropped: bool,
}

/// Removes the position of a view that is no longer configured. Its table stays.
async fn drop_view(
    _: Administrator,
    State(api): State<Arc<Api>>,
    Path(view): Path<String>,
) -> Result<Json<Dropped>, ApiError> {
    let of_dedup = || ApiError::conflict(format!("`{view}` is the name of the deduplicator, not of a view"));
    if view == DEDUP_STORED_NAME {
        return Err(of_dedup());
    }
    if view != DEDUP_NAME && api.progress.all().contains_key(&view) {
        let reason = format!("view `{view}` is configured; remove it from the configuration first");
        return Err(ApiError::conflict(reason));
    }
    if !api.store.drop_view(&view).await? {
        let unknown = || ApiError::not_found(format!("the store has no position of a view `{view}`"));
        return Err(if view == DEDUP_NAME { of_dedup() } else { unknown() });
    }
    tracing::info!(view, "view dropped; its table is unchanged");
    Ok(Json(Dropped { view, dropped: true }))
}
