//! `millrace stream`: shows the streams of a server.

mod list;

use clap::Subcommand;

use super::client::Client;
use super::exit::Failure;
use super::noun::NounAction;

#[derive(Subcommand)]
pub enum Action {
    /// List the streams: key, fields, sources and views
    ///
    /// Required fields are marked with `*`. With --json, each field has its type and bounds. A key that is limited to
    /// some streams sees only these.
    List(list::List),
}

impl NounAction for Action {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::List(list) => list.run(client).await,
        }
    }
}
