//! `millrace dead-letter drop`: decides that an event is never applied.

use clap::Args;
use serde_json::json;
use serde_json::value::RawValue;

use crate::cli::client::{Client, escaped};
use crate::cli::exit::Failure;
use crate::cli::output::{JsonDocument, print};

#[derive(Args)]
pub struct Drop {
    /// Id of the dead letter, as `list` shows it
    id: String,
    /// Why, for others who wonder
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    format: JsonDocument,
}

impl Drop {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let path = format!("/v1/dead-letters/{}/drop", escaped(&self.id));
        let response: Box<RawValue> =
            client.post(&path, json!({ "reason": self.reason }).to_string()).await?;
        if self.format.json { print(response.get()) } else { print(&format!("{} dropped", self.id)) }
    }
}
