//! `millrace dead-letter`: lists, shows, retries and drops dead letters, which are events that could not be applied, and
//! notifications that could not be sent.

mod drop;
mod list;
mod pages;
mod retry;
mod show;

use clap::Subcommand;

use super::client::Client;
use super::exit::Failure;
use super::noun::NounAction;

#[derive(Subcommand)]
pub enum Action {
    /// List dead letters
    List(list::List),
    /// Show one dead letter: the reason, the event, and every attempt to send it
    Show(show::Show),
    /// Retry one dead letter, unchanged or with a corrected event, or all open ones
    ///
    /// The server sends the event again, and only the view of the dead letter applies it. A notification is sent again to
    /// its destination. With a corrected event, the notification is made again and gets a new id that names the old one.
    /// The command waits up to 10 s for the outcome of a single retry. If the event cannot be applied again, the exit code
    /// is 6.
    Retry(retry::Retry),
    /// Drop a dead letter: its event is never applied, or its notification never sent
    ///
    /// `millrace dead-letter list --status dropped` still shows it.
    Drop(drop::Drop),
}

impl NounAction for Action {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::List(list) => list.run(client).await,
            Self::Show(show) => show.run(client).await,
            Self::Retry(retry) => retry.run(client).await,
            Self::Drop(drop) => drop.run(client).await,
        }
    }
}
