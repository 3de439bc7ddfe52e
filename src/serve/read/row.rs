//! Contract 1's reading side, `GET /userEvents/:userId`: an array of one row, as the table has it.

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;

use super::At;
use crate::admit::Refusal;
use crate::views::Ledger;

pub async fn read(State(at): State<At>, Path(key): Path<String>, headers: HeaderMap) -> Response {
    at.read.answer(row(&at, &key, &headers).await)
}

async fn row(at: &At, key: &str, headers: &HeaderMap) -> Result<String, Refusal> {
    let At { reading, read } = at;
    let view = reading.view(&read.view)?;
    reading.keys.admit_row(headers, &view.view.stream, key, read.open)?;
    let unknown = || Refusal::NotFound(format!("No data found for user: {key}"));
    let ledger = view.view.ledger().ok_or_else(unknown)?;
    let balance = ledger.balance(&reading.store, key).await;
    let balance = reading.rows_of(&read.view, balance).await?.ok_or_else(unknown)?;
    Ok(format!("[{}]", row_text(ledger, &balance.key, &balance.amount.to_string())))
}

/// The amount with its exact digits, which no float has seen.
fn row_text(ledger: &Ledger, key: &str, amount: &str) -> String {
    let [key_column, amount_column] = ledger.columns().map(|name| serde_json::json!(name));
    format!("{{{key_column}:{},{amount_column}:{amount}}}", serde_json::json!(key))
}
