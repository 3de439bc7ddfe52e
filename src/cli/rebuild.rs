//! `millrace rebuild`: repairs a view from its log.

use std::process::ExitCode;

use clap::Args;

use super::client::Server;
use super::exit::block_on;
use super::output::print;
use super::reconcile::Report;

#[derive(Args)]
#[command(after_help = EXPLAINED)]
pub struct Rebuild {
    /// The view, such as revenue
    view: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

const EXPLAINED: &str = "\
The server computes the view from the log again, and corrects every row that differs. Values that
the table held before the view began are kept. `millrace reconcile` shows the differences, and
changes nothing.";

pub fn run(command: Rebuild) -> ExitCode {
    block_on(async {
        let client = command.server.client()?;
        let (text, report) = Report::ask(&client, &command.view, "rebuild").await?;
        if command.json {
            return print(&text);
        }
        report.print("HAD", "HAS NOW")?;
        let Report { view, difference_count, .. } = &report;
        match report.difference_count {
            0 => eprintln!("view `{view}` already matched its log: {}", report.extent()),
            _ => eprintln!("view `{view}`: repaired {difference_count} of {}", report.extent()),
        }
        Ok(())
    })
}
