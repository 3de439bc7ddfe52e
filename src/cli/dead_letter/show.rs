//! `millrace dead-letter show`: shows one dead letter.

use clap::Args;
use serde_json::value::RawValue;

use super::pages::DeadLetter;
use crate::cli::client::{Client, decode, escaped};
use crate::cli::exit::Failure;
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
        print_properties(&[
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
            ("event", one.event.get().to_owned()),
        ])
    }
}
