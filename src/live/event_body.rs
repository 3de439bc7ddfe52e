//! An event of the log in the form in which readers get it.

use event::{EventId, LogId, SentFrom};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::log::{Entry, Header};
use crate::views::only_view;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventBody {
    pub id: String,
    pub stream: String,
    pub position: u64,
    pub received_at: String,
    pub address: Option<String>,
    /// The name that the server gave to the sender's connection.
    #[serde(rename = "clientId", skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    pub retry_of: Option<String>,
    /// The only view that applies the event, if it is a dead letter that was sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only_for: Option<String>,
    /// Why no view counts the event, with `settled=true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<LeftOut>,
    /// The event that this correction undoes.
    #[serde(rename = "takesBack", skip_serializing_if = "Option::is_none")]
    pub corrects: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub erased: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The event's own text, digit by digit.
    pub event: Option<Box<RawValue>>,
    /// The position of the event that this correction undoes.
    #[serde(skip)]
    pub target: Option<u64>,
    /// The dead letter of which this event is a retry.
    #[serde(skip)]
    pub retried: Option<EventId>,
}

/// Why no view counts an event.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeftOut {
    /// It was sent before, or its id was used for another event.
    Repeat,
    #[serde(rename = "taken-back")]
    Corrected,
    /// It undoes another event, and no view counts it.
    Correction,
    Erased,
}

impl EventBody {
    pub fn of(log: LogId, position: u64, header: &Header<'_>, entry: &Entry<'_>) -> Self {
        let id = entry.client.map_or_else(|| EventId::at(log, position), |(id, _)| id);
        let SentFrom { address, client, user_agent } = header.sent_from;
        Self {
            id: id.to_string(),
            stream: header.stream.to_owned(),
            position,
            received_at: header.received.to_text(),
            address: address.filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string()),
            client: client.map(str::to_owned),
            user_agent: user_agent.map(str::to_owned),
            retry_of: header.retry.map(|retry| retry.dead_letter.to_string()),
            only_for: header.retry.and_then(only_view).map(str::to_owned),
            left_out: entry.corrects.map(|_| LeftOut::Correction),
            corrects: entry.corrects.map(|target| EventId::at(log, target).to_string()),
            erased: entry.erased(),
            traceparent: header.trace.map(str::to_owned),
            event: RawValue::from_string(entry.text.to_owned()).ok(),
            target: entry.corrects,
            retried: header.retry.map(|retry| retry.dead_letter),
        }
    }
}
