//! Contract 1's reading side: `GET /userEvents/:userId` answers an array of one row.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::Reading;
use crate::admit::Refusal;
use crate::views::Ledger;

/// Which view it shows, and whether without a key.
#[derive(Clone)]
pub struct UserEvents {
    pub view: String,
    pub open: bool,
}

pub fn routes(reading: &Arc<Reading>, door: UserEvents) -> Router {
    let wrong_method = || async { Refusal::MethodNotAllowed.in_key("error") };
    let route = get(read).fallback(wrong_method);
    Router::new().route("/userEvents/{user}", route).with_state((Arc::clone(reading), door))
}

async fn read(
    State((reading, door)): State<(Arc<Reading>, UserEvents)>,
    Path(user): Path<String>,
    headers: HeaderMap,
) -> Response {
    match row(&reading, &door, &user, &headers).await {
        Ok(body) => {
            let json = HeaderValue::from_static("application/json");
            (StatusCode::OK, [(header::CONTENT_TYPE, json)], body).into_response()
        }
        Err(refusal) => refusal.in_key("error"),
    }
}

async fn row(
    reading: &Reading,
    door: &UserEvents,
    user: &str,
    headers: &HeaderMap,
) -> Result<String, Refusal> {
    let view = reading.view(&door.view)?;
    reading.keys.admit_row(headers, &view.view.stream, user, door.open)?;
    let unknown = || Refusal::NotFound(format!("No data found for user: {user}"));
    let ledger = view.view.ledger().ok_or_else(unknown)?;
    let read = ledger.balance(&reading.store, user).await;
    let balance = reading.rows_of(&door.view, read).await?.ok_or_else(unknown)?;
    Ok(format!("[{}]", row_text(ledger, &balance.key, &balance.amount.to_string())))
}

/// The row as the table has it: the amount with its exact digits, which no float has seen.
fn row_text(ledger: &Ledger, key: &str, amount: &str) -> String {
    let [key_column, amount_column] = ledger.columns().map(|name| serde_json::json!(name));
    format!("{{{key_column}:{},{amount_column}:{amount}}}", serde_json::json!(key))
}
