//! `millrace rebuild`: makes a view what its log makes.

use std::process::ExitCode;

use clap::Args;

use super::client::Server;
use super::exit::block_on;
use super::output::print;
use super::reconcile::Report;

#[derive(Args)]
#[command(after_help = EXPLAINED)]
pub struct Rebuild {
    /// Which view, such as revenue
    view: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

const EXPLAINED: &str = "\
The log is folded afresh, and every row that differs is set right. What the table held before
the view began stays in it. `millrace reconcile` shows the differences and changes nothing.";

pub fn run(command: Rebuild) -> ExitCode {
    block_on(async {
        let client = command.server.client()?;
        let (said, report) = Report::ask(&client, &command.view, "rebuild").await?;
        if command.json {
            return print(&said);
        }
        report.print("HAD", "HAS NOW")?;
        let Report { view, difference_count, .. } = &report;
        match report.difference_count {
            0 => eprintln!("view `{view}` was what its log makes: {}", report.extent()),
            _ => eprintln!("view `{view}` mended in {difference_count} of {}", report.extent()),
        }
        Ok(())
    })
}
