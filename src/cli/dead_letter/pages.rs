//! Reads dead letters page by page.

use clap::ValueEnum;
use event::limits::LIST_ROWS_MAX;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::client::{Client, decode, escaped};
use crate::cli::exit::Failure;
use crate::cli::notification::Delivery;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Status {
    /// Waiting for a decision
    Open,
    /// Sent again, but not applied yet
    Retrying,
    /// Sent again and applied
    Applied,
    /// Sent after a retry
    Sent,
    /// Dropped: never applied or sent
    Dropped,
    /// All dead letters
    All,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    dead_letters: Vec<Box<RawValue>>,
    more: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    pub id: String,
    pub view: String,
    pub stream: String,
    pub position: u64,
    pub event_id: String,
    pub reason: String,
    pub status: String,
    pub attempts: i64,
    pub created_at: String,
    pub updated_at: String,
    pub notification: Option<String>,
    pub destination: Option<String>,
    pub note: Option<String>,
    pub content: Option<Box<RawValue>>,
    pub event: Option<Box<RawValue>>,
    #[serde(default)]
    pub deliveries: Vec<Delivery>,
}

/// The dead letters of one status, read page by page.
pub struct Pages<'a> {
    client: &'a Client,
    status: Status,
    view: Option<&'a str>,
    destination: Option<&'a str>,
    after: Option<String>,
    ended: bool,
}

impl<'a> Pages<'a> {
    pub fn new(
        client: &'a Client,
        status: Status,
        view: Option<&'a str>,
        destination: Option<&'a str>,
    ) -> Self {
        Self { client, status, view, destination, after: None, ended: false }
    }

    /// Returns the next page, or `None` after the last one.
    pub async fn next(&mut self) -> Result<Option<Vec<(DeadLetter, Box<RawValue>)>>, Failure> {
        if self.ended {
            return Ok(None);
        }
        let mut path = format!("/v1/dead-letters?limit={LIST_ROWS_MAX}");
        if let (false, Some(status)) = (self.status == Status::All, self.status.to_possible_value()) {
            path.push_str(&format!("&status={}", status.get_name()));
        }
        for (name, value) in [("view", self.view), ("destination", self.destination)] {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", escaped(value)));
            }
        }
        if let Some(after) = &self.after {
            path.push_str(&format!("&after={after}"));
        }
        let page: Page = self.client.get(&path).await?;
        self.ended = !page.more;
        let mut dead_letters = Vec::with_capacity(page.dead_letters.len());
        for text in page.dead_letters {
            let dead_letter: DeadLetter = decode(&text, "a dead letter")?;
            dead_letters.push((dead_letter, text));
        }
        self.after = dead_letters.last().map(|(dead_letter, _)| dead_letter.id.clone());
        Ok(Some(dead_letters))
    }
}
