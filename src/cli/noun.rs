//! A noun of the command line, such as `millrace view`. Each of its commands asks a server.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::client::Client;
use super::client_options::ClientOptions;
use super::exit::{Failure, block_on};

#[derive(Args)]
pub struct Noun<Action: Subcommand> {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: ClientOptions,
}

/// The commands of a noun.
pub trait NounAction: Subcommand {
    fn run(self, client: &Client) -> impl Future<Output = Result<(), Failure>>;
}

impl<Action: NounAction> Noun<Action> {
    pub fn run(self) -> ExitCode {
        block_on(async {
            let client = self.server.client()?;
            let done = self.action.run(&client).await;
            client.with_names(done).await
        })
    }
}
