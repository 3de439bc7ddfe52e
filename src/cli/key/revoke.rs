//! `millrace key revoke`: revokes a key.

use clap::Args;
use serde_json::value::RawValue;

use crate::cli::client::{Client, escaped};
use crate::cli::exit::Failure;
use crate::cli::output::{JsonDocument, print};

#[derive(Args)]
pub struct Revoke {
    /// Name or id of the key, as `millrace key list` shows it
    #[arg(value_name = "NAME|ID")]
    key: String,
    #[command(flatten)]
    format: JsonDocument,
}

impl Revoke {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let response: Box<RawValue> = client.delete(&format!("/v1/keys/{}", escaped(&self.key))).await?;
        if self.format.json { print(response.get()) } else { print(&format!("key `{}` revoked", self.key)) }
    }
}
