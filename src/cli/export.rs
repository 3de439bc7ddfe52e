//! `millrace export`: prints the events of a stream, one JSON object per line. Each line has an envelope and the
//! original text of the event. `import` reads these lines.

use std::process::ExitCode;

use clap::Args;
use event::limits::TAIL_EVENTS_MAX;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::client::{Client, escaped};
use super::client_options::ClientOptions;
use super::exit::{Failure, block_on};
use super::output::{AlwaysJsonLines, Output};
use super::tail::log_end;

#[derive(Args)]
pub struct Export {
    /// The stream
    stream: String,
    /// Start at this position of the log [default: its beginning]
    #[arg(long, value_name = "POSITION", default_value_t = 0, hide_default_value = true)]
    from: u64,
    /// Stop before this position of the log [default: its present end]
    #[arg(long, value_name = "POSITION")]
    until: Option<u64>,
    #[command(flatten)]
    _format: AlwaysJsonLines,
    #[command(flatten)]
    server: ClientOptions,
}

pub fn run(command: Export) -> ExitCode {
    block_on(async {
        let client = command.server.client()?;
        client.with_names(export(&client, &command).await).await
    })
}

#[derive(Deserialize)]
struct Page {
    events: Vec<Line>,
    next: u64,
}

/// A printed line. Fields without a value are omitted.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    id: String,
    stream: String,
    position: u64,
    received_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    only_for: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    takes_back: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<String>,
    event: Box<RawValue>,
}

async fn export(client: &Client, command: &Export) -> Result<(), Failure> {
    let end = log_end(client).await?;
    let until = command.until.map_or(end, |until| until.min(end));
    let (mut output, mut at) = (Output::stdout(), command.from);
    loop {
        let page = page(client, &command.stream, at).await.map_err(|failure| match failure {
            Failure::Unreachable(reason) if at > command.from => {
                Failure::Unreachable(format!("{reason}; continue with `--from {at}`"))
            }
            failure => failure,
        })?;
        for line in page.events.iter().take_while(|line| line.position < until) {
            let text = serde_json::to_string(line).map_err(|error| Failure::Failed(error.to_string()))?;
            output.line(&text)?;
        }
        output.flush()?;
        // A page that does not advance has reached the end of the log.
        if page.next >= until || page.next == at {
            return Ok(());
        }
        at = page.next;
    }
}

async fn page(client: &Client, stream: &str, from: u64) -> Result<Page, Failure> {
    let stream = escaped(stream);
    client.get(&format!("/v1/streams/{stream}/events?from={from}&limit={TAIL_EVENTS_MAX}&settled=true")).await
}
