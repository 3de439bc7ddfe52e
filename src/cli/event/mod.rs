//! `millrace event`: shows single events, and takes them back.

mod show;
mod take_back;

use clap::Subcommand;

use super::client::Client;
use super::exit::Failure;
use super::noun::NounAction;

#[derive(Subcommand)]
pub enum Action {
    /// Show the receipt of an event: where it is now, and what each view did with it
    Show(show::Show),
    /// Take an event back: send a correction that undoes it
    ///
    /// Every view that applied the event undoes it: the amount leaves the balance, statistics no longer count the
    /// event, a table deletes the row, and a notification that is still queued is deleted. The event stays in the
    /// log. The key needs the scope `send`, and `read` unless --stream is given.
    TakeBack(take_back::TakeBack),
}

impl NounAction for Action {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::Show(show) => show.run(client).await,
            Self::TakeBack(take_back) => take_back.run(client).await,
        }
    }
}
