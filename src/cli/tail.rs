//! `millrace tail`: the events of a stream as the log holds them, and those that come.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use event::limits::{TAIL_EVENTS_MAX, TAIL_WAIT_DURATION_MAX};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::{Client, Server, escaped};
use super::exit::{Failure, block_on};
use super::output::{Output, harmless};

const EVENTS_DEFAULT: u64 = 20;
/// Between two tries to reach a server that was there and is gone.
const RETRY_DELAY: Duration = Duration::from_secs(1);

#[derive(Args)]
pub struct Tail {
    /// Which stream
    #[arg(default_value = "revenue")]
    stream: String,
    /// Begin at this position of the log [default: COUNT positions before its end]
    #[arg(long, value_name = "POSITION")]
    from: Option<u64>,
    /// How many events; with --from, the first ones from there on [default: 20; with --from, all]
    #[arg(long, short = 'n', value_name = "COUNT")]
    count: Option<u64>,
    /// Wait for more, until Ctrl-C; goes on where it was after a restart of the server
    #[arg(long, short)]
    follow: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

pub fn run(command: Tail) -> ExitCode {
    block_on(async {
        let client = command.server.client()?;
        let shown = tokio::select! {
            shown = follow(&client, &command) => shown,
            _ = tokio::signal::ctrl_c() => Ok(()),
        };
        match shown {
            Err(failure) => Err(client.with_names(failure).await),
            Ok(()) => Ok(()),
        }
    })
}

#[derive(Deserialize)]
struct Page {
    events: Vec<Box<RawValue>>,
    next: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    position: u64,
    received_at: String,
    address: Option<String>,
    retry_of: Option<String>,
    event: Box<RawValue>,
}

async fn follow(client: &Client, command: &Tail) -> Result<(), Failure> {
    let mut output = Output::stdout();
    let (mut at, mut left) = match (command.from, command.count) {
        (Some(from), count) => (from, count.unwrap_or(u64::MAX)),
        (None, count) => {
            let count = count.unwrap_or(EVENTS_DEFAULT);
            let begin = log_end(client).await?.saturating_sub(count);
            (begin, if command.follow { u64::MAX } else { count })
        }
    };
    let mut connected = false;
    while left > 0 {
        let page = match page(client, command, at, left).await {
            Err(Failure::Unreachable(reason)) if command.follow && connected => {
                eprintln!("millrace: {reason}; trying again");
                tokio::time::sleep(RETRY_DELAY).await;
                continue;
            }
            page => page?,
        };
        connected = true;
        page.events.iter().try_for_each(|said| output.line(&shown(said, command.json)?))?;
        output.flush()?;
        // A page without events that got further has only read its part of other streams'.
        if page.events.is_empty() && page.next == at && !command.follow {
            break;
        }
        left -= page.events.len() as u64;
        at = page.next;
    }
    Ok(())
}

/// A server that refuses events says it too.
pub async fn log_end(client: &Client) -> Result<u64, Failure> {
    let answer = client.ask(client.request(reqwest::Method::GET, "/ready")).await?;
    match answer.body["log"]["end"].as_u64() {
        Some(end) => Ok(end),
        None => answer.good().and(Err(Failure::Failed("this is no millrace server".to_owned()))),
    }
}

async fn page(client: &Client, command: &Tail, from: u64, left: u64) -> Result<Page, Failure> {
    let limit = left.min(TAIL_EVENTS_MAX as u64);
    let wait = if command.follow { TAIL_WAIT_DURATION_MAX.as_secs() } else { 0 };
    let stream = escaped(&command.stream);
    client.get(&format!("/v1/streams/{stream}/events?from={from}&limit={limit}&wait={wait}")).await
}

/// Time, position, origin, event; JSON as it was said.
fn shown(said: &RawValue, json: bool) -> Result<String, Failure> {
    if json {
        return Ok(said.get().to_owned());
    }
    let event: Event = serde_json::from_str(said.get())
        .map_err(|error| Failure::Failed(format!("the server answered an event that is none: {error}")))?;
    let address = match (event.address, event.retry_of) {
        (Some(address), _) => address,
        (None, Some(_)) => "dead letter".to_owned(),
        (None, None) => "-".to_owned(),
    };
    let text = harmless(event.event.get());
    Ok(format!("{}  {:>8}  {address:<15}  {text}", event.received_at, event.position))
}
