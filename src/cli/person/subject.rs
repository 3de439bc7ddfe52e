//! The person whose events a command selects.

use clap::Args;
use event::limits::TAIL_EVENTS_MAX;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::client::{Client, escaped};
use crate::cli::exit::Failure;

#[derive(Args)]
pub struct Subject {
    /// The stream
    pub stream: String,
    /// Value that identifies the person, such as a user id
    pub value: String,
    /// Field that contains the value [default: the key of the stream]
    #[arg(long)]
    pub field: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    events: Vec<Box<RawValue>>,
    next: u64,
}

impl Subject {
    /// Calls `take` with each event of the person, in the order of the log.
    pub async fn each_event(
        &self,
        client: &Client,
        mut take: impl FnMut(&RawValue) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (stream, value) = (escaped(&self.stream), escaped(&self.value));
        let field = self.field.as_deref().map(|field| format!("&field={}", escaped(field)));
        let field = field.unwrap_or_default();
        let mut at = 0;
        loop {
            let path =
                format!("/v1/streams/{stream}/events?from={at}&limit={TAIL_EVENTS_MAX}&value={value}{field}");
            let page: Page = client.get(&path).await?;
            page.events.iter().try_for_each(|event| take(event))?;
            // An empty page that ends at a later position has passed events of other people.
            if page.events.is_empty() && page.next == at {
                return Ok(());
            }
            at = page.next;
        }
    }
}
