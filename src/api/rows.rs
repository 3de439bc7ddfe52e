//! `/v1/views/{view}/rows`: the rows of a table, oldest first, all of them or those with given values.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use event::limits::LIST_ROWS_MAX;

use super::view_access::ViewReader;
use super::{Api, JsonText};
use crate::http::{ApiError, Query};
use crate::views::RowsPage;

pub fn routes(api: &Arc<Api>) -> Router {
    Router::new().route("/v1/views/{view}/rows", get(rows)).with_state(Arc::clone(api))
}

/// `after` and `limit`, and columns with the values to look for.
type Parameters = Vec<(String, String)>;

async fn rows(reader: ViewReader, Query(mut parameters): Query<Parameters>) -> Result<JsonText, ApiError> {
    let ViewReader { api, name } = &reader;
    let after = take_number::<i64>("after", &mut parameters)?;
    let limit = take_number::<usize>("limit", &mut parameters)?.unwrap_or(LIST_ROWS_MAX);
    let other_kind = || ApiError::not_found(format!("view `{name}` is not a table"));
    let table = reader.view().view.row_table().ok_or_else(other_kind)?;
    let filter = table
        .filter(&api.store, &parameters)
        .map_err(|error| ApiError::Parameter { name: "query", reason: error.to_string() })?;
    let read = table.page(&api.store, &filter, after, limit.clamp(1, LIST_ROWS_MAX)).await;
    let RowsPage { rows, next } = api.rows_of(name, read).await?;
    let next = next.map_or_else(|| "null".to_owned(), |next| next.to_string());
    Ok(JsonText(format!("{{\"rows\":[{}],\"next\":{next}}}", rows.join(","))))
}

/// Removes a parameter of the API, so that only columns are left.
fn take_number<T: std::str::FromStr>(
    name: &'static str,
    parameters: &mut Parameters,
) -> Result<Option<T>, ApiError> {
    let Some(at) = parameters.iter().position(|(known, _)| known == name) else { return Ok(None) };
    let (_, text) = parameters.remove(at);
    let invalid = |_| ApiError::Parameter { name, reason: "is not a valid number".to_owned() };
    text.parse().map(Some).map_err(invalid)
}
