//! `/v1/notifications`: the notifications of a view, and one of them.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::routing::get;
use axum::{Json, Router};
use event::limits::{LIST_ROWS_MAX, PAGE_BYTES_MAX, WIDE_ROWS_READ_MAX};
use serde::{Deserialize, Serialize};

use super::Api;
use super::delivery_state::DeliveryBody;
use super::view_access::{ViewReader, query_parameter};
use crate::http::{ApiError, Query};
use crate::store::NotificationStatus;
use crate::views::{NotificationBody, Notifications};

/// The view that is used if the query names none and there are several of this kind.
const VIEW_DEFAULT: &str = "notifications";

pub fn routes(api: &Arc<Api>) -> Router {
    Router::new()
        .route("/v1/notifications", get(list))
        .route("/v1/notifications/{id}", get(show))
        .with_state(Arc::clone(api))
}

/// A reader of the view that the query names, or of the default one.
struct NotificationsReader(ViewReader);

impl NotificationsReader {
    fn notifications(&self) -> Result<&Notifications, ApiError> {
        let name = &self.0.name;
        let other_kind = || ApiError::not_found(format!("view `{name}` is not of kind `notifications`"));
        self.0.view().view.notifications().ok_or_else(other_kind)
    }
}

impl FromRequestParts<Arc<Api>> for NotificationsReader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let named = query_parameter(parts, api, "view").await;
        let of_this_kind =
            |name: &str| api.views.get(name).is_some_and(|running| running.view.notifications().is_some());
        let name = if !named.is_empty() {
            named
        } else if of_this_kind(VIEW_DEFAULT) {
            VIEW_DEFAULT.to_owned()
        } else {
            api.views.keys().find(|name| of_this_kind(name)).cloned().unwrap_or(VIEW_DEFAULT.to_owned())
        };
        ViewReader::of(api, parts, name).map(Self)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NotificationsQuery {
    #[serde(rename = "view")]
    _view: Option<String>,
    status: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NotificationQuery {
    #[serde(rename = "view")]
    _view: Option<String>,
}

#[derive(Serialize)]
struct NotificationList {
    notifications: Vec<NotificationBody>,
    /// There are notifications after the last one.
    more: bool,
}

#[derive(Serialize)]
struct NotificationWithDeliveries {
    #[serde(flatten)]
    notification: NotificationBody,
    deliveries: Vec<DeliveryBody>,
}

async fn list(
    reader: NotificationsReader,
    Query(query): Query<NotificationsQuery>,
) -> Result<Json<NotificationList>, ApiError> {
    reader.notifications()?;
    let known = |text: &String| {
        NotificationStatus::parse(text).ok_or_else(|| {
            let names = NotificationStatus::ALL.map(NotificationStatus::as_str).join(", ");
            ApiError::Parameter { name: "status", reason: format!("must be one of {names}") }
        })
    };
    let status = query.status.as_ref().map(known).transpose()?;
    let limit = query.limit.unwrap_or(LIST_ROWS_MAX).clamp(1, LIST_ROWS_MAX);
    page(&reader, status, query.after, limit).await.map(Json)
}

/// Returns at least one notification if there is one, and no more than fit into the bytes of a page.
async fn page(
    reader: &NotificationsReader,
    status: Option<NotificationStatus>,
    mut after: Option<String>,
    limit: usize,
) -> Result<NotificationList, ApiError> {
    let ViewReader { api, name } = &reader.0;
    let (mut notifications, mut bytes) = (Vec::new(), 0);
    loop {
        let wanted = WIDE_ROWS_READ_MAX.min(limit - notifications.len());
        let read = reader.notifications()?.notifications(&api.store, status, after.as_deref(), wanted).await;
        let read = api.rows_of(name, read).await?;
        let last = read.len() < wanted;
        for notification in read {
            bytes += notification.payload.len() + notification.message.len();
            if bytes > PAGE_BYTES_MAX && !notifications.is_empty() {
                return Ok(NotificationList { notifications, more: true });
            }
            after = Some(notification.id.clone());
            notifications.push(NotificationBody::from(notification));
        }
        if last || notifications.len() == limit {
            return Ok(NotificationList { notifications, more: !last });
        }
    }
}

async fn show(
    reader: NotificationsReader,
    Path(id): Path<String>,
    _: Query<NotificationQuery>,
) -> Result<Json<NotificationWithDeliveries>, ApiError> {
    let ViewReader { api, name } = &reader.0;
    let read = reader.notifications()?.notification(&api.store, &id).await;
    let unknown = || ApiError::not_found(format!("there is no notification `{id}`"));
    let notification = api.rows_of(name, read).await?.ok_or_else(unknown)?;
    let deliveries = DeliveryBody::of(api, name, &notification.id).await?;
    Ok(Json(NotificationWithDeliveries { notification: notification.into(), deliveries }))
}
