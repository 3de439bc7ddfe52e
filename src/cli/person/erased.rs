//! `millrace person erased`: lists the erasures.

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::client::{Client, decode};
use crate::cli::exit::Failure;
use crate::cli::output::{JsonLines, Output, counted};

#[derive(Args)]
pub struct Erased {
    #[command(flatten)]
    format: JsonLines,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Erasure {
    pub id: String,
    stream: String,
    field: String,
    pub events: u64,
    asked_at: String,
    pub done_at: Option<String>,
}

#[derive(Deserialize)]
struct Erasures {
    erasures: Vec<Box<RawValue>>,
}

impl Erased {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let mut output = Output::stdout();
        let response: Erasures = client.get("/v1/erasures").await?;
        for erasure in &response.erasures {
            if self.format.json {
                output.line(erasure.get())?;
                continue;
            }
            let Erasure { id, stream, field, events, asked_at, done_at } = decode(erasure, "an erasure")?;
            let done = done_at.map_or("in progress".to_owned(), |done| format!("completed {done}"));
            let events = counted(events, "event");
            output.line(&format!("{id}  requested {asked_at}  {done}  {events} by {field} of {stream}"))?;
        }
        output.flush()
    }
}
