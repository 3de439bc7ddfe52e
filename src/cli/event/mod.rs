//! `millrace event`: shows single events, and takes them back.

mod show;
mod take_back;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::client_options::ClientOptions;
use super::exit::block_on;

#[derive(Args)]
pub struct Event {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: ClientOptions,
}

#[derive(Subcommand)]
enum Action {
    /// Show the receipt of an event: where it is now, and what each view did with it
    Show(show::Show),
    /// Take an event back: send a correction that undoes it
    ///
    /// Every view that applied the event undoes it: the amount leaves the balance, statistics no longer count the
    /// event, a table deletes the row, and a notification that is still queued is deleted. The event stays in the
    /// log. The key needs the scope `send`, and `read` unless --stream is given.
    TakeBack(take_back::TakeBack),
}

pub fn run(command: Event) -> ExitCode {
    block_on(async {
        let client = command.server.client()?;
        let done = match command.action {
            Action::Show(show) => show.run(&client).await,
            Action::TakeBack(take_back) => take_back.run(&client).await,
        };
        client.with_names(done).await
    })
}
