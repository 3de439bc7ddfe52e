//! `millrace view show`: shows the state and the tables of one view.

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::list::{Summary, number};
use crate::cli::client::{Client, decode, escaped};
use crate::cli::exit::Failure;
use crate::cli::output::{JsonDocument, print, print_properties};

#[derive(Args)]
pub struct Show {
    /// The view, such as revenue
    view: String,
    #[command(flatten)]
    format: JsonDocument,
}

#[derive(Deserialize)]
struct Shown {
    #[serde(flatten)]
    summary: Summary,
    tables: Vec<String>,
}

impl Show {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let response: Box<RawValue> = client.get(&format!("/v1/views/{}", escaped(&self.view))).await?;
        if self.format.json {
            return print(response.get());
        }
        let Shown { summary, tables } = decode(&response, "a view")?;
        let state = match summary.reason {
            Some(reason) => format!("{}: {reason}", summary.state),
            None => summary.state,
        };
        print_properties(&[
            ("view", summary.name),
            ("kind", summary.kind),
            ("stream", summary.stream),
            ("state", state),
            ("position", number(summary.position)),
            ("lag", number(summary.lag)),
            ("tables", tables.join(", ")),
        ])
    }
}
