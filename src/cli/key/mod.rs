//! `millrace key`: lists, creates and revokes keys.

mod add;
mod list;
mod revoke;

use clap::Subcommand;

use super::client::Client;
use super::exit::Failure;
use super::noun::NounAction;

#[derive(Subcommand)]
pub enum Action {
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

impl NounAction for Action {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::List(list) => list.run(client).await,
            Self::Add(add) => add.run(client).await,
            Self::Revoke(revoke) => revoke.run(client).await,
        }
    }
}
