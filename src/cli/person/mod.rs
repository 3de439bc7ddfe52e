//! `millrace person`: exports or erases all events of one person.

mod erase;
mod erased;
mod export;
mod subject;

use clap::Subcommand;

use super::client::Client;
use super::exit::Failure;
use super::noun::NounAction;

#[derive(Subcommand)]
pub enum Action {
    /// Print all events of one person, one JSON object per line
    Export(export::Export),
    /// Erase all events of one person from the log and the views, permanently
    ///
    /// Without --yes, nothing is erased: the command only prints how many events there are.
    Erase(erase::Erase),
    /// List the erasures, and when each was completed
    Erased(erased::Erased),
}

impl NounAction for Action {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Export(export) => export.run(client).await,
            Self::Erase(erase) => erase.run(client).await,
            Self::Erased(erased) => erased.run(client).await,
        }
    }
}
