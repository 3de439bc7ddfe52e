//! `millrace status`: shows one page about a running server.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::{Client, decode};
use super::client_options::ClientOptions;
use super::exit::{Failure, block_on};
use super::output::{Columns, JsonDocument, Output, bytes_text, counted, duration_text, print, properties};
use super::view::list::{Summary, print_summaries};

#[derive(Args)]
pub struct Status {
    #[command(flatten)]
    format: JsonDocument,
    #[command(flatten)]
    server: ClientOptions,
}

pub fn run(command: Status) -> ExitCode {
    block_on(async {
        let client = command.server.client()?;
        let response: Box<RawValue> = client.get("/v1/status").await?;
        if command.format.json {
            return print(response.get());
        }
        let shown: Shown = decode(&response, "the status")?;
        shown.print(&client)
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    version: String,
    uptime_seconds: u64,
    refusing: Option<String>,
    log: Log,
    database: Database,
    disk: Option<Disk>,
    presets: Vec<String>,
    sources: Vec<Source>,
    dedup: Dedup,
    views: Vec<Summary>,
    open_dead_letters: Option<u64>,
}

#[derive(Deserialize)]
struct Log {
    begin: u64,
    end: u64,
    bytes: u64,
}

#[derive(Deserialize)]
struct Database {
    name: String,
    state: String,
    reason: Option<String>,
    since: Option<String>,
    damage: Option<String>,
}

impl Database {
    fn text(self) -> String {
        let since = self.since.map(|since| format!(" since {since}")).unwrap_or_default();
        let reason = self.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        let damage = self.damage.map(|damage| format!("; damaged: {damage}")).unwrap_or_default();
        format!("{}, {}{since}{reason}{damage}", self.name, self.state)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Disk {
    free_bytes: u64,
    total_bytes: u64,
}

#[derive(Deserialize)]
struct Source {
    name: String,
    kind: String,
    path: Option<String>,
    stream: String,
    access: Option<String>,
}

#[derive(Deserialize)]
struct Dedup {
    state: String,
    reason: Option<String>,
    lag: Option<u64>,
}

impl Shown {
    fn print(self, client: &Client) -> Result<(), Failure> {
        let mut output = Output::stdout();
        let Log { begin, end, bytes } = self.log;
        let events =
            self.refusing.map_or_else(|| "accepted".to_owned(), |reason| format!("refused: {reason}"));
        let uptime = duration_text(Duration::from_secs(self.uptime_seconds));
        let presets = if self.presets.is_empty() { "none".to_owned() } else { self.presets.join(", ") };
        let unknown = || "unknown".to_owned();
        let open = |open: u64| match open {
            0 => "none open".to_owned(),
            _ => format!("{open} open; `millrace dead-letter list` shows them"),
        };
        let disk = self.disk.map_or_else(unknown, |Disk { free_bytes, total_bytes }| {
            format!("{} free of {}", bytes_text(free_bytes), bytes_text(total_bytes))
        });
        let log = format!(
            "{}, from position {begin} to {end}, {}",
            counted(end - begin, "event"),
            bytes_text(bytes)
        );
        properties(
            &mut output,
            &[
                ("server", format!("millrace {} at {}, up for {uptime}", self.version, client.url())),
                ("events", events),
                ("log", log),
                ("database", self.database.text()),
                ("disk", disk),
                ("presets", presets),
                ("dedup", self.dedup.text()),
                ("dead letters", self.open_dead_letters.map_or_else(unknown, open)),
            ],
        )?;
        if !self.sources.is_empty() {
            output.line("")?;
            let row = |source: Source| {
                let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
                [source.name, source.kind, or_none(source.path), source.stream, or_none(source.access)]
            };
            Columns::left(["SOURCE", "KIND", "PATH", "STREAM", "ACCESS"])
                .page(&mut output, self.sources.into_iter().map(row))?;
        }
        if !self.views.is_empty() {
            output.line("")?;
        }
        print_summaries(&mut output, &self.views)
    }
}

impl Dedup {
    fn text(self) -> String {
        let behind = match self.lag {
            Some(0) | None => String::new(),
            Some(lag) => format!(", {} behind", counted(lag, "position")),
        };
        let reason = self.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("{}{behind}{reason}", self.state)
    }
}
