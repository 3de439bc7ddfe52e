//! `millrace event show`: shows the receipt of an event.

use std::collections::BTreeMap;

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::client::{Client, decode, escaped};
use crate::cli::exit::Failure;
use crate::cli::notification::Delivery;
use crate::cli::output::{JsonDocument, print, print_properties};

#[derive(Args)]
pub struct Show {
    /// Id of the event, as the server returned it in `eventId`
    id: String,
    #[command(flatten)]
    format: JsonDocument,
}

/// The receipt of an event.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    id: String,
    pub stream: String,
    position: u64,
    received_at: String,
    address: Option<String>,
    client_id: Option<String>,
    user_agent: Option<String>,
    retry_of: Option<String>,
    only_for: Option<String>,
    repeat_of: Option<String>,
    same_body: Option<bool>,
    takes_back: Option<String>,
    pub taken_back_by: Option<String>,
    traceparent: Option<String>,
    /// The dead letter of an event that reused an id for another body.
    dead_letter: Option<DeadLetter>,
    #[serde(default)]
    erased: bool,
    views: BTreeMap<String, ViewState>,
    #[serde(default)]
    notifications: Vec<Notification>,
    event: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Notification {
    id: String,
    deliveries: Vec<Delivery>,
}

#[derive(Deserialize)]
struct DeadLetter {
    letter: String,
    status: String,
    reason: String,
}

#[derive(Deserialize)]
struct ViewState {
    state: String,
    letter: Option<String>,
    status: Option<String>,
    reason: Option<String>,
}

impl Show {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let (text, receipt) = Receipt::get(client, &self.id).await?;
        if self.format.json { print(&text) } else { receipt.print() }
    }
}

impl Receipt {
    /// Requests the receipt of an event. Returns it as the server's text, and decoded.
    pub async fn get(client: &Client, id: &str) -> Result<(String, Self), Failure> {
        let response: Box<RawValue> = client.get(&format!("/v1/events/{}", escaped(id))).await?;
        Ok((response.get().to_owned(), decode(&response, "the receipt")?))
    }

    fn print(self) -> Result<(), Failure> {
        let repeat_of = self.repeat_of.map(|first| match self.same_body {
            Some(false) => format!("{first}, which has another body"),
            _ => first,
        });
        let dead_letter = self.dead_letter.map(DeadLetter::text);
        let erased = self.erased.then(|| "the text of the event was erased".to_owned());
        let event = self.event.map(|event| event.get().to_owned()).filter(|_| !self.erased);
        let optional = [
            ("address", self.address),
            ("client", self.client_id),
            ("user agent", self.user_agent),
            ("retry of", self.retry_of),
            ("only for", self.only_for),
            ("repeat of", repeat_of),
            ("dead letter", dead_letter),
            ("takes back", self.takes_back),
            ("taken back by", self.taken_back_by),
            ("trace", self.traceparent),
            ("erased", erased),
            ("event", event),
        ];
        let mut lines = vec![
            ("id", self.id),
            ("stream", self.stream),
            ("position", self.position.to_string()),
            ("received", self.received_at),
        ];
        lines.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
        let states = self.views.into_iter().map(|(view, state)| format!("{view}: {}", state.text()));
        lines.extend(states.map(|state| ("view", state)));
        for Notification { id, deliveries } in self.notifications {
            lines.push(("notification", id));
            lines.extend(deliveries.into_iter().flat_map(Delivery::lines));
        }
        print_properties(&lines)
    }
}

impl DeadLetter {
    fn text(self) -> String {
        format!("{}, {}: {}", self.letter, self.status, self.reason)
    }
}

impl ViewState {
    fn text(self) -> String {
        match self {
            Self { state, letter: Some(letter), status, reason } => {
                let (status, reason) = (status.unwrap_or_default(), reason.unwrap_or_default());
                format!("{state} {}", DeadLetter { letter, status, reason }.text())
            }
            Self { state, .. } => state,
        }
    }
}
