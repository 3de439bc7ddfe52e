//! `millrace stream`: shows the streams of a server.

mod list;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::client_options::ClientOptions;
use super::exit::block_on;

#[derive(Args)]
pub struct Stream {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: ClientOptions,
}

#[derive(Subcommand)]
enum Action {
    /// List the streams: key, fields, sources and views
    ///
    /// Required fields are marked with `*`. With --json, each field has its type and bounds. A key that is limited to
    /// some streams sees only these.
    List(list::List),
}

pub fn run(command: Stream) -> ExitCode {
    block_on(async {
        let client = command.server.client()?;
        match command.action {
            Action::List(list) => list.run(&client).await,
        }
    })
}
