//! `millrace person`: exports or erases all events of one person.

mod erase;
mod erased;
mod export;
mod subject;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::client_options::ClientOptions;
use super::exit::block_on;

#[derive(Args)]
pub struct Person {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: ClientOptions,
}

#[derive(Subcommand)]
enum Action {
    /// Print all events of one person, one JSON object per line
    Export(export::Export),
    /// Erase all events of one person from the log and the views, permanently
    ///
    /// Without --yes, nothing is erased: the command only prints how many events there are.
    Erase(erase::Erase),
    /// List the erasures, and when each was completed
    Erased(erased::Erased),
}

pub fn run(command: Person) -> ExitCode {
    block_on(async {
        let client = command.server.client()?;
        let done = match command.action {
            Action::Export(export) => export.run(&client).await,
            Action::Erase(erase) => erase.run(&client).await,
            Action::Erased(erased) => erased.run(&client).await,
        };
        client.with_names(done).await
    })
}
