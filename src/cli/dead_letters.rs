//! `millrace dead-letters`: lists, shows, retries and drops dead letters, which are events that could not be applied.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use event::limits::LIST_ROWS_MAX;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::{Client, Server, escaped};
use super::exit::{Failure, block_on};
use super::output::{Columns, Output, Side, print, printable};

/// How long the command waits for the outcome of a retry.
const OUTCOME_DURATION_MAX: Duration = Duration::from_secs(10);
/// The view name of events whose id was used before for another event. If they are retried, they count in addition.
const DEDUP_NAME: &str = "dedup";
const OUTCOME_INTERVAL: Duration = Duration::from_millis(50);

#[derive(Args)]
pub struct DeadLetters {
    #[command(subcommand)]
    action: Action,
    /// Print JSON, one object per line
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Subcommand)]
enum Action {
    /// List dead letters
    List {
        /// List only dead letters with this status
        #[arg(long, value_enum, default_value = "open")]
        status: Status,
        /// List only dead letters of this view [default: all views]
        #[arg(long, value_name = "VIEW")]
        view: Option<String>,
    },
    /// Show one dead letter: the reason, and the event
    Show {
        /// Id of the dead letter, as `list` shows it
        id: String,
    },
    /// Retry one dead letter, unchanged or with a corrected event, or all open ones
    Retry(Retry),
    /// Drop a dead letter: its event is never applied; `list --status dropped` still shows it
    Drop {
        /// Id of the dead letter, as `list` shows it
        id: String,
    },
}

#[derive(Args)]
struct Retry {
    /// Id of the dead letter, as `list` shows it
    #[arg(required_unless_present = "all")]
    id: Option<String>,
    /// Retry all open dead letters, except those of view dedup, whose ids were used for other events
    #[arg(long, conflicts_with = "id")]
    all: bool,
    /// With --all: retry only dead letters of this view, which may be dedup
    #[arg(long, requires = "all")]
    view: Option<String>,
    /// Corrected event, which replaces the original one
    #[arg(long, value_name = "JSON", conflicts_with_all = ["all", "edit"])]
    event: Option<String>,
    /// File with the corrected event; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    edit: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Status {
    /// Waiting for a decision
    Open,
    /// Sent again, but not applied yet
    Retrying,
    /// Sent again and applied
    Applied,
    /// Dropped: never applied
    Dropped,
    /// All dead letters
    All,
}

pub fn run(command: DeadLetters) -> ExitCode {
    block_on(async {
        let client = command.server.client()?;
        match command.action {
            Action::List { status, view } => list(&client, status, view.as_deref(), command.json).await,
            Action::Show { id } => show(&client, &id, command.json).await,
            Action::Retry(retry) => match retry.id.as_deref() {
                Some(id) => send_again(&client, id, corrected_event(&retry)?, command.json).await,
                None => send_all_again(&client, retry.view.as_deref(), command.json).await,
            },
            Action::Drop { id } => {
                let response: Box<RawValue> =
                    client.post(&format!("/v1/dead-letters/{}/drop", escaped(&id)), String::new()).await?;
                let text = if command.json { response.get().to_owned() } else { format!("{id} dropped") };
                print(&text)
            }
        }
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    dead_letters: Vec<Box<RawValue>>,
    more: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeadLetter {
    id: String,
    view: String,
    stream: String,
    position: u64,
    event_id: String,
    reason: String,
    status: String,
    attempts: i64,
    created_at: String,
    updated_at: String,
    event: Box<RawValue>,
}

/// The dead letters of one status, read page by page.
struct Pages<'a> {
    client: &'a Client,
    status: Status,
    view: Option<&'a str>,
    after: Option<String>,
    ended: bool,
}

impl<'a> Pages<'a> {
    fn new(client: &'a Client, status: Status, view: Option<&'a str>) -> Self {
        Self { client, status, view, after: None, ended: false }
    }

    /// Returns the next page, or `None` after the last one.
    async fn next(&mut self) -> Result<Option<Vec<(DeadLetter, Box<RawValue>)>>, Failure> {
        if self.ended {
            return Ok(None);
        }
        let mut path = format!("/v1/dead-letters?limit={LIST_ROWS_MAX}");
        if let (false, Some(status)) = (self.status == Status::All, self.status.to_possible_value()) {
            path.push_str(&format!("&status={}", status.get_name()));
        }
        if let Some(after) = &self.after {
            path.push_str(&format!("&after={after}"));
        }
        let page: Page = self.client.get(&path).await?;
        self.ended = !page.more;
        let mut dead_letters = Vec::with_capacity(page.dead_letters.len());
        for text in page.dead_letters {
            dead_letters.push((decode(&text)?, text));
        }
        self.after = dead_letters.last().map(|(dead_letter, _)| dead_letter.id.clone());
        dead_letters.retain(|(dead_letter, _)| self.view.is_none_or(|view| dead_letter.view == view));
        Ok(Some(dead_letters))
    }
}

async fn list(client: &Client, status: Status, view: Option<&str>, json: bool) -> Result<(), Failure> {
    let mut output = Output::stdout();
    let mut columns = Columns::new([
        ("ID", Side::Left),
        ("VIEW", Side::Left),
        ("STATUS", Side::Left),
        ("TRIES", Side::Right),
        ("SINCE", Side::Left),
        ("REASON", Side::Left),
    ]);
    let mut pages = Pages::new(client, status, view);
    while let Some(dead_letters) = pages.next().await? {
        if json {
            dead_letters.iter().try_for_each(|(_, text)| output.line(text.get()))?;
            output.flush()?;
            continue;
        }
        let row = |(one, _): (DeadLetter, _)| {
            [one.id, one.view, one.status, one.attempts.to_string(), one.created_at, one.reason]
        };
        columns.page(&mut output, dead_letters.into_iter().map(row))?;
    }
    if columns.is_empty() && !json {
        eprintln!("no dead letters found");
    }
    Ok(())
}

async fn show(client: &Client, id: &str, json: bool) -> Result<(), Failure> {
    let response: Box<RawValue> = client.get(&format!("/v1/dead-letters/{}", escaped(id))).await?;
    if json {
        return print(response.get());
    }
    let one = decode(&response)?;
    let lines = [
        ("id", one.id),
        ("status", one.status),
        ("reason", one.reason),
        ("view", one.view),
        ("stream", one.stream),
        ("position", one.position.to_string()),
        ("event id", one.event_id),
        ("tries", one.attempts.to_string()),
        ("since", one.created_at),
        ("changed", one.updated_at),
        ("event", one.event.get().to_owned()),
    ];
    let lines: Vec<String> =
        lines.iter().map(|(name, value)| format!("{name:<8}  {}", printable(value))).collect();
    print(&lines.join("\n"))
}

/// Returns the corrected event, or an empty text to retry the original event.
fn corrected_event(retry: &Retry) -> Result<String, Failure> {
    let text = match (&retry.event, &retry.edit) {
        (Some(event), _) => event.clone(),
        (None, None) => return Ok(String::new()),
        (None, Some(path)) => {
            let read = if path.as_os_str() == "-" {
                std::io::read_to_string(std::io::stdin())
            } else {
                std::fs::read_to_string(path)
            };
            read.map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?
        }
    };
    if text.trim().is_empty() {
        Err(Failure::Failed("the corrected event is empty; nothing was sent".to_owned()))
    } else {
        Ok(text)
    }
}

async fn send_again(client: &Client, id: &str, body: String, json: bool) -> Result<(), Failure> {
    let path = format!("/v1/dead-letters/{}", escaped(id));
    let mut response: Box<RawValue> = client.post(&format!("{path}/retry"), body).await?;
    let deadline = Instant::now() + OUTCOME_DURATION_MAX;
    while decode(&response)?.status == "retrying" && Instant::now() < deadline {
        tokio::time::sleep(OUTCOME_INTERVAL).await;
        response = client.get(&path).await?;
    }
    let dead_letter = decode(&response)?;
    if json {
        print(response.get())?;
    }
    match dead_letter.status.as_str() {
        "open" => Err(Failure::Refused(format!("{id} could not be applied: {}", dead_letter.reason))),
        _ if json => Ok(()),
        "retrying" => print(&format!("{id} was sent again; its view has not applied it yet")),
        status => print(&format!("{id} {status}")),
    }
}

async fn send_all_again(client: &Client, view: Option<&str>, json: bool) -> Result<(), Failure> {
    let (mut sent, mut refused) = (0_u64, 0_u64);
    let mut output = Output::stdout();
    let mut pages = Pages::new(client, Status::Open, view);
    let mut skipped = 0_u64;
    while let Some(dead_letters) = pages.next().await? {
        for (dead_letter, _) in dead_letters {
            if dead_letter.view == DEDUP_NAME && view != Some(DEDUP_NAME) {
                skipped += 1;
                continue;
            }
            let path = format!("/v1/dead-letters/{}/retry", escaped(&dead_letter.id));
            match client.post::<Box<RawValue>>(&path, String::new()).await {
                Ok(response) if json => output.line(response.get())?,
                Ok(_) => output.line(&format!("{} sent again", dead_letter.id))?,
                Err(Failure::Failed(reason)) => {
                    eprintln!("millrace: {} was not sent again: {reason}", dead_letter.id);
                    refused += 1;
                    continue;
                }
                Err(failure) => return Err(failure),
            }
            sent += 1;
        }
        output.flush()?;
    }
    eprintln!("sent {sent} again; `millrace dead-letters list` shows those that could not be applied");
    if skipped > 0 {
        eprintln!(
            "skipped {skipped} of view `{DEDUP_NAME}`: each has the id of another event, which was counted; \
             to count them as well, use `--view {DEDUP_NAME}`"
        );
    }
    match refused {
        0 => Ok(()),
        _ => Err(Failure::Refused(format!("{refused} could not be sent again"))),
    }
}

fn decode(text: &RawValue) -> Result<DeadLetter, Failure> {
    serde_json::from_str(text.get()).map_err(|error| {
        Failure::Failed(format!("cannot decode a dead letter in the server's response: {error}"))
    })
}
