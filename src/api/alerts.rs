//! `/v1/alerts`: the alerts that are raised, and a test.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;

use super::Api;
use crate::alerts::{RaisedAlert, ShownAlerts, Told};
use crate::destinations::Verdict;
use crate::http::{Administrator, ApiError, Reader};

pub fn routes(api: &Arc<Api>) -> Router {
    Router::new()
        .route("/v1/alerts", get(list))
        .route("/v1/alerts/test", post(test))
        .with_state(Arc::clone(api))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertList {
    /// The destination; `null` if the configuration names none.
    to: Option<String>,
    alerts: Vec<AlertBody>,
    /// Why the last attempt to send an alert failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

#[derive(Serialize)]
struct AlertBody {
    condition: String,
    message: String,
    since: String,
    /// `raised` while it holds, `over` until the destination was told that it is over.
    state: &'static str,
    /// The destination has been told that it began.
    sent: bool,
}

impl From<(String, RaisedAlert)> for AlertBody {
    fn from((condition, alert): (String, RaisedAlert)) -> Self {
        Self {
            condition,
            message: alert.message,
            since: alert.since.to_text(),
            state: if alert.over_at.is_some() { "over" } else { "raised" },
            sent: alert.told == Told::Yes,
        }
    }
}

async fn list(_: Reader, State(api): State<Arc<Api>>) -> Json<AlertList> {
    let ShownAlerts { raised, last_error } = api.alerts.shown();
    let to = api.alerts.settings().map(|settings| settings.destination.name.clone());
    Json(AlertList { to, alerts: raised.into_iter().map(AlertBody::from).collect(), last_error })
}

#[derive(Serialize)]
struct Tested {
    to: String,
    sent: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Sends a test to the destination of alerts.
async fn test(_: Administrator, State(api): State<Arc<Api>>) -> Result<Json<Tested>, ApiError> {
    let none = || ApiError::conflict("the configuration has no `[alert]` section".to_owned());
    let to = api.alerts.settings().ok_or_else(none)?.destination.name.clone();
    let outcome = api.alerts.send_test().await.ok_or_else(none)?;
    Ok(Json(Tested { to, sent: outcome.verdict == Verdict::Sent, error: outcome.error }))
}
