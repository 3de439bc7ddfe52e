//! `millrace view drop`: deletes the position of a view that was removed from the configuration.

use clap::Args;
use serde_json::value::RawValue;

use crate::cli::client::{Client, escaped};
use crate::cli::exit::Failure;
use crate::cli::output::{JsonDocument, print};

#[derive(Args)]
pub struct Drop {
    /// The view, as it was called in the configuration
    view: String,
    #[command(flatten)]
    format: JsonDocument,
}

impl Drop {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let response: Box<RawValue> = client.delete(&format!("/v1/views/{}", escaped(&self.view))).await?;
        if self.format.json {
            return print(response.get());
        }
        print(&format!("view `{}` dropped; its table is unchanged", self.view))
    }
}
