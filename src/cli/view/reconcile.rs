//! `millrace view reconcile`: compares a view with its log, or all views.

use clap::Args;

use super::list::{Listed, Summary};
use super::report::Report;
use crate::cli::client::{Client, decode};
use crate::cli::exit::Failure;
use crate::cli::output::{JsonLines, counted, print};

#[derive(Args)]
pub struct Reconcile {
    /// The view, such as revenue
    #[arg(required_unless_present = "all")]
    view: Option<String>,
    /// Compare all views, one after the other
    #[arg(long, conflicts_with = "view")]
    all: bool,
    #[command(flatten)]
    format: JsonLines,
}

impl Reconcile {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        match &self.view {
            Some(view) => self.one(client, view).await,
            None => self.every(client).await,
        }
    }

    async fn one(&self, client: &Client, view: &str) -> Result<(), Failure> {
        let (text, report) = Report::ask(client, view, "reconcile").await?;
        let printed = if self.format.json { print(&text) } else { report.print("HAS", "SHOULD HAVE") };
        let Report { difference_count, .. } = &report;
        // The exit code tells of differences even if nobody reads the whole list.
        if *difference_count > 0 {
            return Err(Failure::Different(format!(
                "view `{view}` differs in {difference_count} of {}; `millrace view rebuild {view}` repairs it",
                report.extent()
            )));
        }
        printed?;
        eprintln!("view `{view}` matches its log: {}", report.extent());
        Ok(())
    }

    /// Compares all views, also after one that differs or cannot be compared. Differences determine the exit code.
    async fn every(&self, client: &Client) -> Result<(), Failure> {
        let listed: Listed = client.get("/v1/views").await?;
        let (mut different, mut failures) = (0, Vec::new());
        for view in &listed.views {
            let view: Summary = decode(view, "a view")?;
            match self.one(client, &view.name).await {
                Ok(()) => {}
                Err(Failure::Different(reason)) => {
                    eprintln!("{reason}");
                    different += 1;
                }
                Err(Failure::Failed(reason)) => {
                    eprintln!("view `{}` cannot be compared: {reason}", view.name);
                    failures.push(view.name);
                }
                Err(failure) => return Err(failure),
            }
        }
        let count = counted(listed.views.len() as u64, "view");
        if different > 0 {
            return Err(Failure::Different(format!("the log differs from {different} of {count}")));
        }
        if !failures.is_empty() {
            let names = failures.join("`, `");
            return Err(Failure::Failed(format!(
                "{} of {count} could not be compared: `{names}`",
                failures.len()
            )));
        }
        Ok(())
    }
}
