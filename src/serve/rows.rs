//! `/v1/views/{view}/rows`: the rows of a table, oldest first, all of them or those with certain values.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use event::limits::LIST_ROWS_MAX;

use super::Reading;
use super::views::exact;
use crate::admit::{Refusal, Scope};
use crate::views::RowsPage;

pub fn routes(reading: &Arc<Reading>) -> Router {
    Router::new().route("/v1/views/{view}/rows", get(rows)).with_state(Arc::clone(reading))
}

/// What was asked for: `after` and `limit`, and columns with their values.
type Asked = Vec<(String, String)>;

async fn rows(
    State(reading): State<Arc<Reading>>,
    Path(name): Path<String>,
    asked: Result<Query<Asked>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let found = async {
        let view = reading.view_for(&headers, &name)?;
        reading.keys.admit(&headers, Scope::Read, Some(&view.view.stream), false)?;
        let Query(mut asked) = asked?;
        let after = number::<i64>("after", &mut asked)?;
        let limit = number::<usize>("limit", &mut asked)?.unwrap_or(LIST_ROWS_MAX).clamp(1, LIST_ROWS_MAX);
        let no_table = || Refusal::NotFound(format!("view `{name}` is no table"));
        let table = view.view.row_table().ok_or_else(no_table)?;
        let filter = table
            .filter(&reading.store, &asked)
            .map_err(|error| Refusal::Parameter { name: "query", reason: error.to_string() })?;
        let read = table.page(&reading.store, &filter, after, limit).await;
        reading.rows_of(&name, read).await
    };
    match found.await {
        Ok(RowsPage { rows, next }) => {
            let next = next.map_or_else(|| "null".to_owned(), |next| next.to_string());
            exact(format!("{{\"rows\":[{}],\"next\":{next}}}", rows.join(",")))
        }
        Err(refusal) => refusal.as_problem(),
    }
}

/// Takes a parameter of ours out of what was asked for; what is left are columns.
fn number<T: std::str::FromStr>(name: &'static str, asked: &mut Asked) -> Result<Option<T>, Refusal> {
    let Some(at) = asked.iter().position(|(asked, _)| asked == name) else { return Ok(None) };
    let (_, text) = asked.remove(at);
    let wrong = |_| Refusal::Parameter { name, reason: "is no number that rows may have".to_owned() };
    text.parse().map(Some).map_err(wrong)
}
