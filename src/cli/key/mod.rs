//! `millrace key`: lists, creates and revokes keys.

mod add;
mod list;
mod revoke;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::client_options::ClientOptions;
use super::exit::block_on;

#[derive(Args)]
pub struct Key {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: ClientOptions,
}

#[derive(Subcommand)]
enum Action {
    /// List the keys, without their secret text, which the server does not store
    List(list::List),
    /// Create a key and print it on stdout; it cannot be shown again
    ///
    /// The ids of events belong to the name of the key that sent them, unless --id-scope is given. To replace a key, add
    /// a new one with the name of the old key as --id-scope, then revoke the old one.
    Add(add::Add),
    /// Revoke a key; requests with it are refused at once
    Revoke(revoke::Revoke),
}

pub fn run(command: Key) -> ExitCode {
    block_on(async {
        let client = command.server.client()?;
        match command.action {
            Action::List(list) => list.run(&client).await,
            Action::Add(add) => add.run(&client).await,
            Action::Revoke(revoke) => revoke.run(&client).await,
        }
    })
}
