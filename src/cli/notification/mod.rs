//! `millrace notification`: lists notifications, shows single ones, and shows what would be sent.

mod list;
mod render;
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
    /// Show one notification: the message, the recipient, and every attempt
    Show(show::Show),
    /// Show what a view would send for an event, without sending it
    ///
    /// The running server renders the templates of its configuration. The key needs the scope `read`.
    Render(render::Render),
}

impl NounAction for Action {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        match self {
            Self::List(list) => list.run(client).await,
            Self::Show(show) => show.run(client).await,
            Self::Render(render) => render.run(client).await,
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
    #[serde(default)]
    deliveries: Vec<Delivery>,
}

/// The way of a notification to one destination.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    destination: String,
    state: String,
    next_attempt_at: Option<String>,
    #[serde(default)]
    running: bool,
    made: Vec<Attempt>,
}

#[derive(Deserialize)]
struct Attempt {
    attempt: u64,
    at: String,
    millis: u64,
    outcome: String,
    status: Option<u64>,
    error: Option<String>,
}

impl Delivery {
    /// Returns a line for the state, and one for each attempt.
    pub fn lines(self) -> Vec<(&'static str, String)> {
        let state = match (self.running, self.next_attempt_at) {
            (true, _) => format!("{}: an attempt is being made", self.destination),
            (false, Some(next)) => format!("{}: {}, next attempt at {next}", self.destination, self.state),
            (false, None) => format!("{}: {}", self.destination, self.state),
        };
        let mut lines = vec![("delivery", state)];
        for Attempt { attempt, at, millis, outcome, status, error } in self.made {
            let status = status.map(|status| format!(" {status}")).unwrap_or_default();
            let error = error.map(|error| format!(": {error}")).unwrap_or_default();
            lines.push(("attempt", format!("{attempt} at {at}, {millis} ms, {outcome}{status}{error}")));
        }
        lines
    }
}
