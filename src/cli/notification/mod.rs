//! `millrace notification`: lists notifications, and shows single ones.

mod list;
mod show;

use clap::Subcommand;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::Client;
use super::exit::Failure;
use super::noun::NounAction;

#[derive(Subcommand)]
pub enum Action {
    /// List notifications
    ///
    /// With --watch, a terminal shows the newest list in place of the last one. Elsewhere, the lists follow each other
    /// with an empty line between them; with --json, each list is one line. The command continues after a restart of
    /// the server.
    List(list::List),
    /// Show one notification: the message, the recipient, and the attempts
    Show(show::Show),
}

impl NounAction for Action {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::List(list) => list.run(client).await,
            Self::Show(show) => show.run(client).await,
        }
    }
}

/// A notification, as the server returns it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    id: String,
    event_id: String,
    event_type: String,
    status: String,
    channel: String,
    recipient: String,
    message: String,
    attempts: i64,
    last_attempt_at: Option<String>,
    next_attempt_at: Option<String>,
    created_at: String,
    payload: Box<RawValue>,
}
