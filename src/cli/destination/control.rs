//! `millrace destination pause`, `resume` and `drain`.

use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::Destination;
use super::list::Listed;
use crate::cli::client::{Client, decode, escaped};
use crate::cli::exit::Failure;
use crate::cli::output::{JsonDocument, counted, print};

/// Time between two looks whether deliveries still wait.
const WAITING_INTERVAL: Duration = Duration::from_millis(250);

#[derive(Args)]
pub struct Pause {
    /// Name of the destination
    name: String,
    /// Why, for others who wonder
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    format: JsonDocument,
}

#[derive(Args)]
pub struct Resume {
    /// Name of the destination
    name: String,
    #[command(flatten)]
    format: JsonDocument,
}

#[derive(Args)]
pub struct Drain {
    /// Name of the destination
    name: String,
    #[command(flatten)]
    format: JsonDocument,
}

#[derive(Deserialize)]
struct Drained {
    due: u64,
}

impl Pause {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let body = json!({ "reason": self.reason }).to_string();
        let path = format!("/v1/destinations/{}/pause", escaped(&self.name));
        let response: Box<RawValue> = client.post(&path, body).await?;
        if self.format.json { print(response.get()) } else { print(&format!("{} is paused", self.name)) }
    }
}

impl Resume {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let path = format!("/v1/destinations/{}/resume", escaped(&self.name));
        let response: Box<RawValue> = client.post(&path, String::new()).await?;
        if self.format.json { print(response.get()) } else { print(&format!("{} is resumed", self.name)) }
    }
}

impl Drain {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let path = format!("/v1/destinations/{}/drain", escaped(&self.name));
        let Drained { due } = client.post(&path, String::new()).await?;
        if !self.format.json {
            eprintln!("{} due now", counted(due, "notification"));
        }
        loop {
            let (text, destination) = self.look(client).await?;
            if destination.state == "paused" {
                return Err(Failure::Refused(format!("{} was paused meanwhile; resume it", self.name)));
            }
            if destination.waiting == 0 {
                let done = format!("nothing waits for {} any more", self.name);
                return if self.format.json { print(&text) } else { print(&done) };
            }
            tokio::time::sleep(WAITING_INTERVAL).await;
        }
    }

    async fn look(&self, client: &Client) -> Result<(String, Destination), Failure> {
        let listed: Listed = client.get("/v1/destinations").await?;
        for one in &listed.destinations {
            let destination: Destination = decode(one, "a destination")?;
            if destination.name == self.name {
                return Ok((one.get().to_owned(), destination));
            }
        }
        Err(Failure::NotFound(format!("there is no destination `{}`", self.name)))
    }
}
