//! `millrace tail`: prints the latest events of a stream, and follows new ones.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use event::limits::{TAIL_EVENTS_MAX, TAIL_WAIT_DURATION_MAX};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::{Client, decode, escaped};
use super::client_options::ClientOptions;
use super::exit::{Failure, block_on};
use super::output::{JsonLines, Output};
use super::printable::printable;

const EVENTS_DEFAULT: u64 = 20;
/// How long a page waits for the marks of its events.
const MARKS_DURATION_MAX: Duration = Duration::from_secs(2);
/// Pause between two attempts to reach a server that went away.
const RETRY_DELAY: Duration = Duration::from_secs(1);

#[derive(Args)]
pub struct Tail {
    /// The stream
    stream: String,
    /// Start at this position of the log [default: COUNT positions before its end]
    #[arg(long, value_name = "POSITION")]
    from: Option<u64>,
    /// Number of events to print; with --from, the first ones from there [default: 20; with --from, all]
    #[arg(long, short = 'n', value_name = "COUNT")]
    count: Option<u64>,
    /// Also print new events, until Ctrl-C; continues after a restart of the server
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    format: JsonLines,
    #[command(flatten)]
    server: ClientOptions,
}

pub fn run(command: Tail) -> ExitCode {
    block_on(async {
        let client = command.server.client()?;
        let shown = tokio::select! {
            shown = follow(&client, &command) => shown,
            _ = tokio::signal::ctrl_c() => Ok(()),
        };
        client.with_names(shown).await
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
    left_out: Option<String>,
    event: Option<Box<RawValue>>,
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
    let (mut connected, mut marked) = (false, true);
    while left > 0 {
        let page = match page(client, command, at, left, &mut marked).await {
            Err(Failure::Unreachable(reason)) if command.follow && connected => {
                eprintln!("millrace: {reason}; retrying");
                tokio::time::sleep(RETRY_DELAY).await;
                continue;
            }
            page => page?,
        };
        connected = true;
        page.events.iter().try_for_each(|event| output.line(&format_event(event, command.format.json)?))?;
        output.flush()?;
        // An empty page that ends at a later position has passed events of other streams.
        if page.events.is_empty() && page.next == at && !command.follow {
            break;
        }
        left -= page.events.len() as u64;
        at = page.next;
    }
    Ok(())
}

/// Returns the end position of the log. A server that refuses events reports it, too.
pub async fn log_end(client: &Client) -> Result<u64, Failure> {
    let answer = client.ask(client.request(reqwest::Method::GET, "/ready")).await?;
    match answer.body["log"]["end"].as_u64() {
        Some(end) => Ok(end),
        None => {
            let reason = "`/ready` reports no end of the log; check that `--url` names a millrace server";
            answer.good().and(Err(Failure::Failed(reason.to_owned())))
        }
    }
}

/// Reads a page of events, and waits for the first one with `--follow`. Then asks which of its events no view counts. The
/// server knows that once the deduplicator has read them, so without a database it does not: the page stays unmarked.
async fn page(
    client: &Client,
    command: &Tail,
    from: u64,
    left: u64,
    marked: &mut bool,
) -> Result<Page, Failure> {
    let limit = left.min(TAIL_EVENTS_MAX as u64);
    let wait = if command.follow { TAIL_WAIT_DURATION_MAX.as_secs() } else { 0 };
    let path = format!("/v1/streams/{}/events?from={from}&limit={limit}", escaped(&command.stream));
    let page: Page = client.get(&format!("{path}&wait={wait}")).await?;
    if page.events.is_empty() {
        return Ok(page);
    }
    let settled = format!("{path}&settled=true");
    match tokio::time::timeout(MARKS_DURATION_MAX, client.get(&settled)).await {
        Ok(Ok(settled)) => {
            *marked = true;
            Ok(settled)
        }
        _ => {
            if std::mem::replace(marked, false) {
                eprintln!(
                    "millrace: the server has not checked these events for repeats yet; they are not marked"
                );
            }
            Ok(page)
        }
    }
}

/// Formats an event as time, position, address of the sender, mark and text; with `json`, returns it as the server
/// sent it.
fn format_event(text: &RawValue, json: bool) -> Result<String, Failure> {
    if json {
        return Ok(text.get().to_owned());
    }
    let event: Event = decode(text, "an event")?;
    let address = match (event.address, event.retry_of) {
        (Some(address), _) => address,
        (None, Some(_)) => "dead letter".to_owned(),
        (None, None) => "-".to_owned(),
    };
    let mark = event.left_out.map(|why| format!("[{}] ", why.replace('-', " "))).unwrap_or_default();
    let text = event.event.map(|event| printable(event.get())).unwrap_or_default();
    let line = format!("{}  {:>8}  {address:<15}  {mark}{text}", event.received_at, event.position);
    Ok(line.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(more: &str, event: &str) -> String {
        let json = format!(
            r#"{{"position":7,"receivedAt":"2025-11-01T10:00:00.000Z","address":"127.0.0.1","retryOf":null{more},"event":{event}}}"#
        );
        let raw = RawValue::from_string(json).expect("JSON");
        let line = format_event(&raw, false).expect("an event");
        line.split_once("127.0.0.1").expect("the address").1.trim_start().to_owned()
    }

    #[test]
    fn events_that_no_view_counts_are_marked() {
        assert_eq!(formatted("", r#"{"a":1.10}"#), r#"{"a":1.10}"#);
        assert_eq!(formatted(r#","leftOut":"repeat""#, r#"{"a":1}"#), r#"[repeat] {"a":1}"#);
        assert_eq!(formatted(r#","leftOut":"taken-back""#, r#"{"a":1}"#), r#"[taken back] {"a":1}"#);
        assert_eq!(formatted(r#","leftOut":"erased""#, "null"), "[erased]");
    }
}
