//! `millrace tail`: prints the latest events of a stream, and follows new ones.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use event::limits::TAIL_EVENTS_MAX;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::error::Elapsed;

use super::client::{Client, decode, escaped};
use super::client_options::ClientOptions;
use super::exit::{Failure, block_on, until_interrupted};
use super::live::{Live, Update};
use super::output::{JsonLines, Output};
use super::printable::printable;

const EVENTS_DEFAULT: u64 = 20;
/// Events with their marks, by their positions.
type Marks = Result<Result<BTreeMap<u64, Box<RawValue>>, Failure>, Elapsed>;

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
        let shown = until_interrupted(Printer::new(&client, &command).run()).await;
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

/// Only the position of an event.
#[derive(Deserialize)]
struct Positioned {
    position: u64,
}

/// Prints events in the order of the log.
struct Printer<'a> {
    client: &'a Client,
    command: &'a Tail,
    output: Output,
    /// The position of the next event, and the number of events that are still to be printed.
    at: u64,
    left: u64,
    /// The marks of the last events were known.
    marked: bool,
}

impl<'a> Printer<'a> {
    fn new(client: &'a Client, command: &'a Tail) -> Self {
        Self { client, command, output: Output::stdout(), at: 0, left: 0, marked: true }
    }

    async fn run(mut self) -> Result<(), Failure> {
        let follow = self.command.follow;
        match (self.command.from, self.command.count) {
            (Some(from), count) => (self.at, self.left) = (from, count.unwrap_or(u64::MAX)),
            (None, count) => {
                let count = count.unwrap_or(EVENTS_DEFAULT);
                self.at = log_end(self.client).await?.saturating_sub(count);
                self.left = if follow { u64::MAX } else { count };
            }
        }
        self.print_existing().await?;
        if follow { self.print_new().await } else { Ok(()) }
    }

    /// Prints events up to the end of the log.
    async fn print_existing(&mut self) -> Result<(), Failure> {
        let mut connected = false;
        while self.left > 0 {
            let page = match self.page().await {
                Err(Failure::Unreachable(reason)) if self.command.follow && connected => {
                    eprintln!("millrace: {reason}; retrying");
                    tokio::time::sleep(RETRY_DELAY).await;
                    continue;
                }
                page => page?,
            };
            connected = true;
            self.print(&page.events)?;
            // An empty page that ends at a later position has passed events of other streams.
            if page.events.is_empty() && page.next == self.at {
                break;
            }
            self.left -= page.events.len() as u64;
            self.at = page.next;
        }
        Ok(())
    }

    /// Prints events as they arrive.
    async fn print_new(&mut self) -> Result<(), Failure> {
        let mut live = Live::new(self.client, self.live_path(self.at));
        while self.left > 0 {
            let mut events = match live.next().await? {
                Update::Change(event) => vec![event],
                Update::Lost(reason) => {
                    eprintln!("millrace: {reason}; retrying");
                    continue;
                }
                Update::Reset(reason) => {
                    self.reset(&mut live, &reason);
                    continue;
                }
            };
            while events.len() < TAIL_EVENTS_MAX
                && let Some(event) = live.arrived_change()?
            {
                events.push(event);
            }
            self.print_arrived(events).await?;
        }
        Ok(())
    }

    /// Prints events that have arrived together.
    async fn print_arrived(&mut self, events: Vec<Box<RawValue>>) -> Result<(), Failure> {
        let mut new = Vec::with_capacity(events.len());
        for event in events {
            let position = position(&event)?;
            if position >= self.at && (new.len() as u64) < self.left {
                self.at = position + 1;
                new.push((position, event));
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let marks = self.marks(&new).await;
        let mut marks = self.known_marks(marks).unwrap_or_default();
        let marked = |(position, event)| marks.remove(&position).unwrap_or(event);
        let events: Vec<Box<RawValue>> = new.into_iter().map(marked).collect();
        self.left -= events.len() as u64;
        self.print(&events)
    }

    /// Says why the server cannot continue after the last event, and continues where it can.
    fn reset(&mut self, live: &mut Live<'_>, reason: &str) {
        let stream = &self.command.stream;
        match reason {
            "deleted" => {
                eprintln!(
                    "millrace: retention has deleted events of stream `{stream}` that were not printed yet; \
                     continuing with the oldest that exists"
                );
                // The server begins with it if there is no event at this position any more.
                live.start_again(self.live_path(self.at));
            }
            "other-log" => {
                eprintln!("millrace: the server has another log than before; continuing with its new events");
                self.at = 0;
            }
            _ => eprintln!(
                "millrace: the server cannot continue after the last event ({}); continuing with new events",
                printable(reason)
            ),
        }
    }

    fn print(&mut self, events: &[Box<RawValue>]) -> Result<(), Failure> {
        let json = self.command.format.json;
        events.iter().try_for_each(|event| self.output.line(&format_event(event, json)?))?;
        self.output.flush()
    }

    fn live_path(&self, from: u64) -> String {
        format!("/v1/streams/{}/live?from={from}", escaped(&self.command.stream))
    }

    fn page_path(&self, from: u64, limit: u64) -> String {
        format!("/v1/streams/{}/events?from={from}&limit={limit}", escaped(&self.command.stream))
    }

    /// Reads a page of events, and then the same page with the marks of those that no view counts.
    async fn page(&mut self) -> Result<Page, Failure> {
        let path = self.page_path(self.at, self.left.min(TAIL_EVENTS_MAX as u64));
        let page: Page = self.client.get(&path).await?;
        if page.events.is_empty() {
            return Ok(page);
        }
        let settled = format!("{path}&settled=true");
        let settled = tokio::time::timeout(MARKS_DURATION_MAX, self.client.get(&settled)).await;
        Ok(self.known_marks(settled).unwrap_or(page))
    }

    /// Reads events again, with the marks of those that no view counts. Returns them by their positions.
    async fn marks(&self, events: &[(u64, Box<RawValue>)]) -> Marks {
        let read = async {
            let mut marked = BTreeMap::new();
            let (Some((first, _)), Some((last, _))) = (events.first(), events.last()) else {
                return Ok(marked);
            };
            let mut from = *first;
            while from <= *last && marked.len() < events.len() {
                let path = self.page_path(from, (events.len() - marked.len()) as u64);
                let page: Page = self.client.get(&format!("{path}&settled=true")).await?;
                if page.next <= from {
                    break;
                }
                for event in page.events {
                    marked.insert(position(&event)?, event);
                }
                from = page.next;
            }
            Ok(marked)
        };
        tokio::time::timeout(MARKS_DURATION_MAX, read).await
    }

    /// Returns what a request for marks returned. The server knows the marks once the deduplicator has read the events,
    /// so without a database it does not: these events are not marked.
    fn known_marks<T>(&mut self, asked: Result<Result<T, Failure>, Elapsed>) -> Option<T> {
        let known = asked.ok().and_then(Result::ok);
        if std::mem::replace(&mut self.marked, known.is_some()) && known.is_none() {
            eprintln!(
                "millrace: the server has not checked these events for repeats yet; they are not marked"
            );
        }
        known
    }
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

fn position(event: &RawValue) -> Result<u64, Failure> {
    decode::<Positioned>(event, "an event").map(|event| event.position)
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
