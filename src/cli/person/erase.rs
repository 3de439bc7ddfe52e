//! `millrace person erase`: erases all events of one person.

use clap::Args;
use serde_json::json;
use serde_json::value::RawValue;

use super::erased::Erasure;
use super::subject::Subject;
use crate::cli::client::{Client, decode, escaped};
use crate::cli::exit::Failure;
use crate::cli::output::{JsonDocument, counted, print};

#[derive(Args)]
pub struct Erase {
    #[command(flatten)]
    subject: Subject,
    /// Erase the events; without this option, only print how many there are
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    format: JsonDocument,
}

impl Erase {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        if self.yes { self.request_erasure(client).await } else { self.count(client).await }
    }

    async fn count(&self, client: &Client) -> Result<(), Failure> {
        let mut count = 0_u64;
        let count_one = |_: &RawValue| {
            count += 1;
            Ok(())
        };
        self.subject.each_event(client, count_one).await?;
        if self.format.json {
            return print(&json!({ "events": count, "erased": false }).to_string());
        }
        print(&format!("{} would be erased; add --yes to erase permanently", counted(count, "event")))
    }

    async fn request_erasure(&self, client: &Client) -> Result<(), Failure> {
        let Subject { stream, value, field } = &self.subject;
        let body = json!({ "value": value, "field": field }).to_string();
        let path = format!("/v1/streams/{}/erasures", escaped(stream));
        let response: Box<RawValue> = client.post(&path, body).await?;
        if self.format.json {
            return print(response.get());
        }
        let Erasure { id, events, done_at, .. } = decode(&response, "the erasure")?;
        let events = counted(events, "event");
        match done_at {
            Some(_) => print(&format!("erased {events}; the record of it is {id}")),
            None => print(&format!("erasing {events}; `millrace person erased` shows when {id} is done")),
        }
    }
}
