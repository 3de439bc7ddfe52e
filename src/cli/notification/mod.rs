//! `millrace notification`: lists notifications, and shows single ones.

mod list;
mod show;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::client_options::ClientOptions;
use super::exit::block_on;

#[derive(Args)]
pub struct Notification {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: ClientOptions,
}

#[derive(Subcommand)]
enum Action {
    /// List notifications
    List(list::List),
    /// Show one notification: the message, the recipient, and the attempts
    Show(show::Show),
}

pub fn run(command: Notification) -> ExitCode {
    block_on(async {
        let client = command.server.client()?;
        let done = match command.action {
            Action::List(list) => list.run(&client).await,
            Action::Show(show) => show.run(&client).await,
        };
        client.with_names(done).await
    })
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
