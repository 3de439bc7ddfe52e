//! `millrace dead-letter show`: shows one dead letter.

use clap::Args;
use serde_json::value::RawValue;

use super::pages::DeadLetter;
use crate::cli::client::{Client, decode, escaped};
use crate::cli::exit::Failure;
use crate::cli::notification::Delivery;
use crate::cli::output::{JsonDocument, print, print_properties};

#[derive(Args)]
pub struct Show {
    /// Id of the dead letter, as `list` shows it
    id: String,
    #[command(flatten)]
    format: JsonDocument,
}

impl Show {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let response: Box<RawValue> = client.get(&format!("/v1/dead-letters/{}", escaped(&self.id))).await?;
        if self.format.json {
            return print(response.get());
        }
        let one: DeadLetter = decode(&response, "a dead letter")?;
        let mut lines = vec![
            ("id", one.id),
            ("status", one.status),
            ("reason", one.reason),
            ("view", one.view),
            ("stream", one.stream),
            ("position", one.position.to_string()),
            ("event id", one.event_id),
            ("tries", one.attempts.to_string()),
            ("since", one.created_at),
            ("changed", one.updated_at),
        ];
        let json = |text: Option<Box<RawValue>>| text.map(|text| text.get().to_owned());
        let optional = [
            ("notification", one.notification),
            ("destination", one.destination),
            ("note", one.note),
            ("sends", json(one.content)),
            ("event", json(one.event)),
        ];
        lines.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
        lines.extend(one.deliveries.into_iter().flat_map(Delivery::lines));
        print_properties(&lines)
    }
}
