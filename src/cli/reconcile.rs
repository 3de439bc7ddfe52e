//! `millrace reconcile`: compares a view with its log.

use std::process::ExitCode;

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::{Client, Server, escaped};
use super::exit::{Failure, block_on};
use super::output::{Columns, Output, Side, print};

#[derive(Args)]
#[command(after_help = EXPLAINED)]
pub struct Reconcile {
    /// The view, such as revenue
    view: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

const EXPLAINED: &str = "\
The server computes the view from the log again, and compares the result with the view's table.
It changes nothing. If they differ, the exit code is 7, and `millrace rebuild` repairs the view.";

pub fn run(command: Reconcile) -> ExitCode {
    block_on(async {
        let client = command.server.client()?;
        let (text, report) = Report::ask(&client, &command.view, "reconcile").await?;
        let printed = if command.json { print(&text) } else { report.print("HAS", "SHOULD HAVE") };
        let Report { view, difference_count, .. } = &report;
        // The exit code tells of differences even if nobody reads the whole list.
        if *difference_count > 0 {
            return Err(Failure::Different(format!(
                "view `{view}` differs in {difference_count} of {}; `millrace rebuild {view}` repairs it",
                report.extent()
            )));
        }
        printed?;
        eprintln!("view `{view}` matches its log: {}", report.extent());
        Ok(())
    })
}

/// The server's report about a comparison. A rebuild returns the same.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub view: String,
    pub position: u64,
    pub keys: u64,
    pub difference_count: u64,
    differences: Vec<Difference>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Difference {
    key: String,
    had: Option<String>,
    should_have: String,
}

impl Report {
    /// Requests `verb`, a comparison or a rebuild. Returns the report as the server's text, and decoded.
    pub async fn ask(client: &Client, view: &str, verb: &str) -> Result<(String, Self), Failure> {
        let path = format!("/v1/views/{}/{verb}", escaped(view));
        let response: Box<RawValue> = client.with_names(client.post(&path, String::new()).await).await?;
        let report = serde_json::from_str(response.get())
            .map_err(|error| Failure::Failed(format!("cannot decode the server's report: {error}")))?;
        Ok((response.get().to_owned(), report))
    }

    pub fn print(&self, has: &'static str, should_have: &'static str) -> Result<(), Failure> {
        let mut output = Output::stdout();
        let row = |difference: &Difference| {
            let had = difference.had.clone().unwrap_or_else(|| "no row".to_owned());
            [difference.key.clone(), had, difference.should_have.clone()]
        };
        Columns::new([("KEY", Side::Left), (has, Side::Right), (should_have, Side::Right)])
            .page(&mut output, self.differences.iter().map(row))?;
        let more = self.difference_count - self.differences.len() as u64;
        if more > 0 {
            eprintln!("{more} more differences are not listed");
        }
        Ok(())
    }

    pub fn extent(&self) -> String {
        format!("{} keys, up to position {}", self.keys, self.position)
    }
}
