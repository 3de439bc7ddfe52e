//! The target of a subscription: the request as readers write it, checked against the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use event::Fields;
use event::limits::KEY_CHARS_MAX;
use serde::Deserialize;
use serde_json::json;

use super::cursor::Cursor;
use super::stream_page::EventFilter;
use super::value::ValueQuery;
use crate::admission::Watched;
use crate::store::NotificationStatus;
use crate::views::{ParameterError, Running, StatsParameters, ViewKind};

/// A subscription as readers write it: `{"view":"revenue","key":"user1"}` or `{"stream":"orders"}`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SubscriptionRequest {
    pub stream: Option<String>,
    pub view: Option<String>,
    /// The key of a balance, the group of statistics, or the id of a notification.
    #[serde(alias = "group", alias = "id")]
    pub key: Option<String>,
    /// The place after which the reader continues.
    pub after: Option<String>,
    // For a stream.
    pub field: Option<String>,
    pub value: Option<String>,
    // The first position of a stream, or the first day of statistics.
    pub from: Option<Start>,
    // For statistics.
    pub to: Option<String>,
    pub by: Option<String>,
    pub top: Option<usize>,
    // For notifications.
    pub status: Option<String>,
}

/// A position, or a day.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Start {
    Position(u64),
    Text(String),
}

/// A checked subscription.
#[derive(Clone)]
pub struct Target {
    pub stream: String,
    pub view: Option<String>,
    pub kind: TargetKind,
    pub after: Option<Cursor>,
    /// The selection of events or notifications, if not all of them are meant.
    selection: Option<String>,
}

#[derive(Clone)]
pub enum TargetKind {
    /// The events of a stream: those that arrive, or from a position on.
    Events { filter: EventFilter, from: Option<u64> },
    /// The rows of a table.
    Rows,
    /// A value that is sent as a whole whenever it changes.
    Value(ValueQuery),
}

/// Why nobody can subscribe to this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("there is no view `{0}`")]
    NoView(String),
    #[error("there is no stream `{0}`")]
    NoStream(String),
    #[error(transparent)]
    Parameter(#[from] ParameterError),
}

fn invalid(name: &'static str, reason: impl Into<String>) -> TargetError {
    ParameterError { name, reason: reason.into() }.into()
}

impl SubscriptionRequest {
    /// Reads a request from its JSON text.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        serde_json::from_str(text)
            .map_err(|error| invalid("subscribe", event::json_in_plain_words(&error.to_string())))
    }

    /// Checks the request.
    pub fn target(
        &self,
        streams: &BTreeMap<String, Arc<Fields>>,
        views: &BTreeMap<String, Running>,
    ) -> Result<Target, TargetError> {
        self.expect_plain_texts()?;
        let after = self.after.as_deref().filter(|text| !text.is_empty()).map(str::parse).transpose();
        let after = after.map_err(|_| invalid("after", "is not the place of a subscription"))?;
        match (&self.stream, &self.view) {
            (Some(stream), None) => {
                let fields = streams.get(stream).ok_or_else(|| TargetError::NoStream(stream.clone()))?;
                self.expect_only("a stream", &["field", "value", "from"])?;
                let filter = EventFilter::new(stream, fields, self.field.as_deref(), self.value.as_deref())?;
                let kind = TargetKind::Events { filter, from: self.position()? };
                let selection = self.value.as_ref().map(|value| json!([self.field, value]).to_string());
                Ok(Target { stream: stream.clone(), view: None, kind, after, selection })
            }
            (None, Some(view)) => {
                let running = views.get(view).ok_or_else(|| TargetError::NoView(view.clone()))?;
                let (stream, view) = (running.view.stream.clone(), Some(view.clone()));
                let kind = self.of_view(running)?;
                let selects =
                    [self.to.is_some(), self.by.is_some(), self.top.is_some(), self.status.is_some()];
                let selects = self.from.is_some() || selects.contains(&true);
                let selection = json!([self.day()?, self.to, self.by, self.top, self.status]).to_string();
                Ok(Target { stream, view, kind, after, selection: selects.then_some(selection) })
            }
            _ => Err(invalid("subscribe", "must name either a `stream` or a `view`")),
        }
    }

    fn of_view(&self, running: &Running) -> Result<TargetKind, TargetError> {
        let key = |of: &str| {
            let missing = || invalid("key", format!("is missing; name {of}"));
            self.key.clone().filter(|key| !key.is_empty()).ok_or_else(missing)
        };
        match &running.view.kind {
            ViewKind::Ledger(_) => {
                self.expect_only("a ledger", &["key"])?;
                Ok(TargetKind::Value(ValueQuery::Balance { key: key("the key of a balance")?.into() }))
            }
            ViewKind::Stats(stats) => {
                self.expect_only("statistics", &["key", "from", "to", "by", "top"])?;
                let (to, by, top) = (self.to.clone(), self.by.clone(), self.top);
                let parameters = StatsParameters { from: self.day()?, to, by, top };
                let group = key("the group of the statistics")?;
                if parameters.query(stats, &group)?.is_long() {
                    return Err(invalid(
                        "by",
                        "can be watched for one day or for all time, not for a range of days",
                    ));
                }
                Ok(TargetKind::Value(ValueQuery::Statistics { group: group.into(), parameters }))
            }
            ViewKind::Notifications(_) => {
                self.expect_only("notifications", &["key", "status"])?;
                match (&self.key, &self.status) {
                    (Some(id), None) => {
                        Ok(TargetKind::Value(ValueQuery::Notification { id: id.as_str().into() }))
                    }
                    (Some(_), Some(_)) => {
                        Err(invalid("status", "cannot be combined with the id of a notification"))
                    }
                    (None, status) => {
                        let status = status.as_deref().map(status_of).transpose()?;
                        Ok(TargetKind::Value(ValueQuery::NotificationList { status }))
                    }
                }
            }
            ViewKind::Table(_) => {
                self.expect_only("a table", &[])?;
                Ok(TargetKind::Rows)
            }
        }
    }

    /// Fails if a text cannot be looked up in a database.
    fn expect_plain_texts(&self) -> Result<(), TargetError> {
        let texts = [("key", &self.key), ("value", &self.value), ("by", &self.by), ("status", &self.status)];
        for (name, text) in texts {
            let Some(text) = text else { continue };
            if text.contains('\0') {
                return Err(invalid(name, "contains the character U+0000"));
            }
            if text.chars().count() > KEY_CHARS_MAX as usize {
                return Err(invalid(name, format!("is longer than {KEY_CHARS_MAX} characters")));
            }
        }
        Ok(())
    }

    /// Fails if the request has a parameter that means nothing here, because it would be ignored.
    fn expect_only(&self, what: &str, known: &[&str]) -> Result<(), TargetError> {
        let given = [
            ("key", self.key.is_some()),
            ("field", self.field.is_some()),
            ("value", self.value.is_some()),
            ("from", self.from.is_some()),
            ("to", self.to.is_some()),
            ("by", self.by.is_some()),
            ("top", self.top.is_some()),
            ("status", self.status.is_some()),
        ];
        match given.into_iter().find(|(name, is_given)| *is_given && !known.contains(name)) {
            Some((name, _)) => Err(invalid(name, format!("does not apply to {what}"))),
            None => Ok(()),
        }
    }

    fn position(&self) -> Result<Option<u64>, TargetError> {
        match &self.from {
            None => Ok(None),
            Some(Start::Position(position)) => Ok(Some(*position)),
            Some(Start::Text(text)) => {
                text.parse().map(Some).map_err(|_| invalid("from", "is not a position"))
            }
        }
    }

    fn day(&self) -> Result<Option<String>, TargetError> {
        match &self.from {
            None => Ok(None),
            Some(Start::Text(text)) => Ok(Some(text.clone())),
            Some(Start::Position(_)) => Err(invalid("from", "is not a day such as 2025-11-01")),
        }
    }
}

fn status_of(text: &str) -> Result<NotificationStatus, TargetError> {
    NotificationStatus::parse(text).ok_or_else(|| {
        let names = NotificationStatus::ALL.map(NotificationStatus::as_str).join(", ");
        invalid("status", format!("must be one of {names}"))
    })
}

impl Target {
    /// Returns what the reader has to be allowed to watch.
    pub fn watched(&self) -> Watched<'_> {
        Watched {
            stream: &self.stream,
            view: self.view.as_deref(),
            row: self.row(),
            selection: self.selection.as_deref(),
            is_keyed_row: self.is_keyed_row(),
        }
    }

    /// Returns the only row of the subscription; `None` if it covers several.
    fn row(&self) -> Option<&str> {
        match &self.kind {
            TargetKind::Value(query) => query.row().map(|row| &**row),
            TargetKind::Events { .. } | TargetKind::Rows => None,
        }
    }

    /// Returns whether a key for one row of a view may subscribe to this.
    fn is_keyed_row(&self) -> bool {
        matches!(&self.kind, TargetKind::Value(ValueQuery::Balance { .. } | ValueQuery::Statistics { .. }))
    }
}
