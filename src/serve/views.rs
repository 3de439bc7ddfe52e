//! `/v1/views`: what there is, one balance, all balances, and the two questions to the log: is the view
//! what the log makes (`reconcile`), and make it so (`rebuild`).

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use event::limits::LIST_ROWS_MAX;
use serde::Deserialize;
use serde_json::json;

use super::{Reading, answer};
use crate::admit::{Refusal, Scope};
use crate::views::{Balance, Ledger, Report, Running, compare, rebuild};

pub fn routes(reading: &Arc<Reading>) -> Router {
    Router::new()
        .route("/v1/views", get(list))
        .route("/v1/views/{view}", delete(drop_view))
        .route("/v1/views/{view}/balances", get(balances))
        .route("/v1/views/{view}/balances/{key}", get(balance))
        .route(
            "/v1/views/{view}/reconcile",
            post(|state, path, headers, body| ask_log(state, path, headers, body, false)),
        )
        .route(
            "/v1/views/{view}/rebuild",
            post(|state, path, headers, body| ask_log(state, path, headers, body, true)),
        )
        .with_state(Arc::clone(reading))
}

async fn list(State(reading): State<Arc<Reading>>, headers: HeaderMap) -> Response {
    let listed = || {
        reading.keys.admit(&headers, Scope::Read, None, false)?;
        let (positions, end) = (reading.progress.all(), reading.log.end());
        let views = reading.views.values().map(|running| {
            let view = &running.view;
            let position = positions.get(&view.name).map(|applied| applied.position);
            let lag = position.map(|position| end.saturating_sub(position));
            json!({ "name": view.name, "kind": view.kind_name(), "stream": view.stream, "position": position, "lag": lag })
        });
        Ok(json!({ "views": views.collect::<Vec<_>>() }))
    };
    answer(listed())
}

async fn balance(
    State(reading): State<Arc<Reading>>,
    Path((name, key)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let found = async {
        let view = reading.view_for(&headers, &name)?;
        reading.keys.admit_row(&headers, &view.view.stream, &key, false)?;
        let ledger = ledger(view)?;
        let read = ledger.balance(&reading.store, &key).await;
        reading
            .rows_of(&name, read)
            .await?
            .ok_or_else(|| Refusal::NotFound(format!("view `{name}` has no row for `{key}`")))
    };
    match found.await {
        Ok(balance) => exact(row(&balance)),
        Err(refusal) => refusal.as_problem(),
    }
}

/// Other views have no balances.
fn ledger(view: &Running) -> Result<&Ledger, Refusal> {
    let name = &view.view.name;
    view.view.ledger().ok_or_else(|| Refusal::NotFound(format!("view `{name}` is no ledger")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    after: Option<String>,
    limit: Option<usize>,
}

async fn balances(
    State(reading): State<Arc<Reading>>,
    Path(name): Path<String>,
    page: Result<Query<Page>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let found = async {
        let view = reading.view_for(&headers, &name)?;
        reading.keys.admit(&headers, Scope::Read, Some(&view.view.stream), false)?;
        let Query(page) = page?;
        let ledger = ledger(view)?;
        let limit = page.limit.unwrap_or(LIST_ROWS_MAX).clamp(1, LIST_ROWS_MAX);
        let read = ledger.balances(&reading.store, page.after.as_deref(), limit).await;
        reading.rows_of(&name, read).await
    };
    match found.await {
        Ok(rows) => {
            exact(format!("{{\"balances\":[{}]}}", rows.iter().map(row).collect::<Vec<_>>().join(",")))
        }
        Err(refusal) => refusal.as_problem(),
    }
}

/// A JSON number with all its digits.
fn row(balance: &Balance) -> String {
    format!("{{\"key\":{},\"balance\":{}}}", json!(balance.key), balance.amount)
}

pub fn exact(body: String) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

async fn ask_log(
    State(reading): State<Arc<Reading>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
    mend: bool,
) -> Response {
    let asked = async move {
        reading.admin_with(&headers, &body)?;
        reading.view(&name)?;
        let view = name.clone();
        let work = move |reading: &Reading| -> Result<Report, Refusal> {
            let running = reading.view(&view)?;
            let ask = if mend { rebuild } else { compare };
            Ok(ask(running, &reading.log, &reading.store, &reading.runtime, &reading.stopping)?)
        };
        Ok(report(&name, &reading.blocking(&reading.replays, work).await?, mend))
    };
    answer(asked.await)
}

/// Forgets a view that is no longer declared.
async fn drop_view(
    State(reading): State<Arc<Reading>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    let dropped = async {
        reading.admin(&headers)?;
        if reading.progress.all().contains_key(&name) {
            let reason = format!("view `{name}` is declared; take it out of the configuration first");
            return Err(Refusal::Conflict(reason));
        }
        match reading.store.drop_view(&name).await? {
            true => {
                tracing::info!(view = name, "view dropped; its table is as it was");
                Ok(json!({ "view": name, "dropped": true }))
            }
            false => Err(Refusal::NotFound(format!("there is no place of a view `{name}`"))),
        }
    };
    answer(dropped.await)
}

fn report(view: &str, report: &Report, mended: bool) -> serde_json::Value {
    let differences = report.differences.iter().map(|difference| {
        json!({ "key": difference.key, "had": difference.has, "shouldHave": difference.should_have })
    });
    json!({
        "view": view,
        "position": report.position,
        "keys": report.keys,
        "differenceCount": report.difference_count,
        "differences": differences.collect::<Vec<_>>(),
        "mended": mended,
    })
}
