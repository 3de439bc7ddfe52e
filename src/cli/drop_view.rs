//! `millrace drop-view`: deletes the position of a view that was removed from the configuration.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::client::{Server, escaped};
use super::exit::block_on;
use super::output::print;

#[derive(Args)]
#[command(after_help = EXPLAINED)]
pub struct DropView {
    /// The view, such as revenue
    view: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

const EXPLAINED: &str = "\
A view that was removed from the configuration keeps its position in the log. If it is declared
again, it continues from there. Until then, retention keeps every event that the view has not
applied. This command deletes the position, so that retention no longer waits for the view.

The table of the view stays. If the view is declared again over that table, it counts the whole
log once more; so drop the table as well, or name another one.";

pub fn run(command: DropView) -> ExitCode {
    block_on(async {
        let client = command.server.client()?;
        let response: Value = client.delete(&format!("/v1/views/{}", escaped(&command.view))).await?;
        if command.json {
            return print(&response.to_string());
        }
        eprintln!("dropped view `{}`; its table is unchanged", command.view);
        Ok(())
    })
}
