//! `millrace drop-view`: forgets where a view stands that is no longer declared.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::client::{Server, escaped};
use super::exit::block_on;
use super::output::print;

#[derive(Args)]
#[command(after_help = EXPLAINED)]
pub struct DropView {
    /// Which view, such as revenue
    view: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

const EXPLAINED: &str = "\
A view that is taken out of the configuration keeps its place in the log, so that it goes on from
there when it is declared again, and so that nothing is given up that it has not applied. Dropped,
it has none any more. Its table stays as it is: declared again over it, the view would count all
that the log holds once more, so drop the table as well, or name another.";

pub fn run(command: DropView) -> ExitCode {
    block_on(async {
        let client = command.server.client()?;
        let said: Value = client.delete(&format!("/v1/views/{}", escaped(&command.view))).await?;
        if command.json {
            return print(&said.to_string());
        }
        eprintln!("view `{}` is dropped; its table is as it was", command.view);
        Ok(())
    })
}
