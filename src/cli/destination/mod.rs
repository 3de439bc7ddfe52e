//! `millrace destination`: lists destinations, and pauses, resumes or drains one.

mod control;
mod list;

use clap::Subcommand;
use serde::Deserialize;

use super::client::Client;
use super::exit::Failure;
use super::noun::NounAction;

#[derive(Subcommand)]
pub enum Action {
    /// List destinations, with what waits and how the last attempts went
    List(list::List),
    /// Pause a destination: no attempt begins until it is resumed, and nothing is lost
    Pause(control::Pause),
    /// Resume a paused destination
    Resume(control::Resume),
    /// Send everything now that waits for a retry, and wait until nothing waits any more
    ///
    /// Use it after a receiver has been repaired, or before you remove a destination from the configuration. Attempts that
    /// fail again are counted as usual.
    Drain(control::Drain),
}

impl NounAction for Action {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::List(list) => list.run(client).await,
            Self::Pause(pause) => pause.run(client).await,
            Self::Resume(resume) => resume.run(client).await,
            Self::Drain(drain) => drain.run(client).await,
        }
    }
}

/// A destination, as the server returns it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Destination {
    name: String,
    kind: String,
    to: String,
    state: String,
    reason: Option<String>,
    waiting: u64,
    last_sent_at: Option<String>,
    last_error: Option<String>,
    failures_in_a_row: u64,
}
