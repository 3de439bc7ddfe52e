//! `/v1/notifications`: what is in the outbox, and one notification of it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use event::limits::{LIST_ROWS_MAX, PAGE_BYTES_MAX, WIDE_ROWS_READ_MAX};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Reading, answer};
use crate::admit::{Refusal, Scope};
use crate::views::{Notification, NotificationStatus, Notify, Running};

/// The outbox that is meant where none is named, if there are several.
const OUTBOX_DEFAULT: &str = "notifications";

pub fn routes(reading: &Arc<Reading>) -> Router {
    Router::new()
        .route("/v1/notifications", get(list))
        .route("/v1/notifications/{id}", get(show))
        .with_state(Arc::clone(reading))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    view: Option<String>,
    status: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    view: Option<String>,
}

type Asked<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;

fn checked<T>(asked: Asked<T>) -> Result<T, Refusal> {
    let Query(asked) = asked?;
    Ok(asked)
}

async fn list(State(reading): State<Arc<Reading>>, asked: Asked<Filter>, headers: HeaderMap) -> Response {
    let listed = async {
        let filter = checked(asked);
        let view =
            outbox(&reading, &headers, filter.as_ref().ok().and_then(|filter| filter.view.as_deref()))?;
        let filter = filter?;
        let known = |text: &String| {
            NotificationStatus::parse(text).ok_or_else(|| {
                let names = NotificationStatus::ALL.map(NotificationStatus::as_str).join(", ");
                Refusal::Parameter { name: "status", reason: format!("must be one of {names}") }
            })
        };
        let status = filter.status.as_ref().map(known).transpose()?;
        let limit = filter.limit.unwrap_or(LIST_ROWS_MAX).clamp(1, LIST_ROWS_MAX);
        page(&reading, view, status, filter.after, limit).await
    };
    answer(listed.await)
}

/// At least one if there is one, then as many as are not too much together.
async fn page(
    reading: &Reading,
    (view, outbox): (&Running, &Notify),
    status: Option<NotificationStatus>,
    mut after: Option<String>,
    limit: usize,
) -> Result<Listed, Refusal> {
    let (mut notifications, mut bytes) = (Vec::new(), 0);
    loop {
        let wanted = WIDE_ROWS_READ_MAX.min(limit - notifications.len());
        let read = outbox.notifications(&reading.store, status, after.as_deref(), wanted).await;
        let read = reading.rows_of(&view.view.name, read).await?;
        let last = read.len() < wanted;
        for notification in read {
            bytes += notification.payload.len() + notification.message.len();
            if bytes > PAGE_BYTES_MAX && !notifications.is_empty() {
                return Ok(Listed { notifications, more: true });
            }
            after = Some(notification.id.clone());
            notifications.push(Shown::of(notification));
        }
        if last || notifications.len() == limit {
            return Ok(Listed { notifications, more: !last });
        }
    }
}

async fn show(
    State(reading): State<Arc<Reading>>,
    Path(id): Path<String>,
    asked: Asked<Which>,
    headers: HeaderMap,
) -> Response {
    let found = async {
        let which = checked(asked);
        let named = which.as_ref().ok().and_then(|which| which.view.as_deref());
        let (view, outbox) = outbox(&reading, &headers, named)?;
        which?;
        let read = outbox.notification(&reading.store, &id).await;
        let found = reading.rows_of(&view.view.name, read).await?;
        found.map(Shown::of).ok_or_else(|| Refusal::NotFound(format!("there is no notification `{id}`")))
    };
    answer(found.await)
}

/// The outbox that is named, or the one that is meant, for whoever may read its stream.
fn outbox<'r>(
    reading: &'r Reading,
    headers: &HeaderMap,
    named: Option<&str>,
) -> Result<(&'r Running, &'r Notify), Refusal> {
    let name = match named {
        Some(name) => name,
        None if reading.views.get(OUTBOX_DEFAULT).is_some_and(|running| running.view.notify().is_some()) => {
            OUTBOX_DEFAULT
        }
        None => {
            let first = reading.views.iter().find(|(_, running)| running.view.notify().is_some());
            first.map_or(OUTBOX_DEFAULT, |(name, _)| name)
        }
    };
    let running = reading.view_for(headers, name)?;
    reading.keys.admit(headers, Scope::Read, Some(&running.view.stream), false)?;
    let outbox = running.view.notify();
    outbox
        .map(|outbox| (running, outbox))
        .ok_or_else(|| Refusal::NotFound(format!("view `{name}` is no outbox")))
}

#[derive(Serialize)]
struct Listed {
    notifications: Vec<Shown>,
    /// Whether it is worth asking for those after the last one.
    more: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    id: String,
    event_id: String,
    event_type: String,
    status: String,
    channel: String,
    recipient: String,
    message: String,
    attempts: i64,
    last_attempt_at: Option<String>,
    next_attempt_at: Option<String>,
    created_at: String,
    updated_at: String,
    /// Its own text, digit by digit.
    payload: Option<Box<RawValue>>,
}

impl Shown {
    fn of(notification: Notification) -> Self {
        Self {
            id: notification.id,
            event_id: notification.event_id,
            event_type: notification.event_type,
            status: notification.status,
            channel: notification.channel,
            recipient: notification.recipient,
            message: notification.message,
            attempts: notification.attempts,
            last_attempt_at: notification.last_attempt,
            next_attempt_at: notification.next_attempt,
            created_at: notification.created,
            updated_at: notification.updated,
            payload: RawValue::from_string(notification.payload).ok(),
        }
    }
}
