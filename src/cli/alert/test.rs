//! `millrace alert test`: sends a test to the destination of alerts.

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::client::{Client, decode};
use crate::cli::exit::Failure;
use crate::cli::output::{JsonDocument, print};

#[derive(Args)]
pub struct Test {
    #[command(flatten)]
    format: JsonDocument,
}

#[derive(Deserialize)]
struct Tested {
    to: String,
    sent: bool,
    error: Option<String>,
}

impl Test {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let response: Box<RawValue> = client.post("/v1/alerts/test", String::new()).await?;
        let Tested { to, sent, error } = decode(&response, "the result of the test")?;
        if self.format.json {
            print(response.get())?;
        }
        if !sent {
            let error = error.unwrap_or_default();
            return Err(Failure::Refused(format!("the test could not be sent to {to}: {error}")));
        }
        if self.format.json { Ok(()) } else { print(&format!("A test was sent to {to}.")) }
    }
}
