//! `millrace alert`: lists alerts, and tests their destination.

mod list;
mod test;

use clap::Subcommand;

use super::client::Client;
use super::exit::Failure;
use super::noun::NounAction;

#[derive(Subcommand)]
pub enum Action {
    /// List the alerts that are raised: new dead letters, paused views, views that are behind, the database, the disk
    List(list::List),
    /// Send a test to the destination of alerts
    Test(test::Test),
}

impl NounAction for Action {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::List(list) => list.run(client).await,
            Self::Test(test) => test.run(client).await,
        }
    }
}
