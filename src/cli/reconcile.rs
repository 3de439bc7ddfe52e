//! `millrace reconcile`: is a view what its log makes?

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
    /// Which view, such as revenue
    view: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

const EXPLAINED: &str = "\
The log is folded afresh and compared with the view's table; nothing is changed. Exit code 7
says that they differ.";

pub fn run(command: Reconcile) -> ExitCode {
    block_on(async {
        let client = command.server.client()?;
        let (said, report) = Report::ask(&client, &command.view, "reconcile").await?;
        if command.json {
            print(&said)?;
        } else {
            report.print("HAS", "SHOULD HAVE")?;
        }
        let Report { view, difference_count, .. } = &report;
        match report.difference_count {
            0 => {
                eprintln!("view `{view}` is what its log makes: {}", report.extent());
                Ok(())
            }
            _ => Err(Failure::Different(format!(
                "view `{view}` differs in {difference_count} of {}; `millrace rebuild {view}` mends it",
                report.extent()
            ))),
        }
    })
}

/// What comparing a view with its log found; `rebuild` answers the same.
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
    /// The report, and its text as it was said.
    pub async fn ask(client: &Client, view: &str, verb: &str) -> Result<(String, Self), Failure> {
        let path = format!("/v1/views/{}/{verb}", escaped(view));
        let said = match client.post::<Box<RawValue>>(&path, String::new()).await {
            Ok(said) => said,
            Err(failure) => return Err(client.with_names(failure).await),
        };
        let report = serde_json::from_str(said.get()).map_err(|error| {
            Failure::Failed(format!("the server answered a report that is none: {error}"))
        })?;
        Ok((said.get().to_owned(), report))
    }

    pub fn print(&self, has: &'static str, should_have: &'static str) -> Result<(), Failure> {
        let mut output = Output::stdout();
        let row = |difference: &Difference| {
            let had = difference.had.clone().unwrap_or_else(|| "no row".to_owned());
            [difference.key.clone(), had, difference.should_have.clone()]
        };
        let rows: Vec<[String; 3]> = self.differences.iter().map(row).collect();
        Columns::new([("KEY", Side::Left), (has, Side::Right), (should_have, Side::Right)])
            .page(&mut output, &rows)?;
        let more = self.difference_count - rows.len() as u64;
        if more > 0 {
            eprintln!("and {more} more");
        }
        Ok(())
    }

    pub fn extent(&self) -> String {
        format!("{} keys, up to position {}", self.keys, self.position)
    }
}
