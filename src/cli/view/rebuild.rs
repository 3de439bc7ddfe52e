//! `millrace view rebuild`: repairs a view from its log.

use clap::Args;

use super::report::Report;
use crate::cli::client::Client;
use crate::cli::exit::Failure;
use crate::cli::output::{JsonDocument, print};

#[derive(Args)]
pub struct Rebuild {
    /// The view, such as revenue
    view: String,
    #[command(flatten)]
    format: JsonDocument,
}

impl Rebuild {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let (text, report) = Report::ask(client, &self.view, "rebuild").await?;
        if self.format.json {
            return print(&text);
        }
        report.print("HAD", "HAS NOW")?;
        let Report { view, difference_count, .. } = &report;
        match report.difference_count {
            0 => eprintln!("view `{view}` already matched its log: {}", report.extent()),
            _ => eprintln!("view `{view}`: repaired {difference_count} of {}", report.extent()),
        }
        Ok(())
    }
}
