//! `millrace dead`: events that could not be applied, kept until somebody decides.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use event::limits::LIST_ROWS_MAX;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::{Client, Server, escaped};
use super::exit::{Failure, block_on};
use super::output::{Columns, Output, Side, harmless, print};

/// For so long a letter that was sent again is watched.
const OUTCOME_DURATION_MAX: Duration = Duration::from_secs(10);
/// The view under which repeats with a misused id are kept. Sent again, they count.
const DEDUP_NAME: &str = "dedup";
const OUTCOME_INTERVAL: Duration = Duration::from_millis(50);

#[derive(Args)]
pub struct Dead {
    #[command(subcommand)]
    action: Action,
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Subcommand)]
enum Action {
    /// List dead letters
    List {
        /// Which of them
        #[arg(long, value_enum, default_value = "open")]
        status: Status,
        /// Only those of this view
        #[arg(long, value_name = "VIEW")]
        view: Option<String>,
    },
    /// Show one: why it could not be applied, and the event
    Show {
        /// As `list` shows it
        id: String,
    },
    /// Send again what could not be applied, as it is or mended, and see whether it is applied now
    Retry(Retry),
    /// Decide that one is never applied; it stays listed with --status dropped
    Drop {
        /// As `list` shows it
        id: String,
    },
}

#[derive(Args)]
struct Retry {
    /// As `list` shows it
    #[arg(required_unless_present = "all")]
    id: Option<String>,
    /// All that are open, but those of the gate, which are repeats under a misused id
    #[arg(long, conflicts_with = "id")]
    all: bool,
    /// With --all: only those of this view
    #[arg(long, requires = "all")]
    view: Option<String>,
    /// The mended event, which takes the old one's place
    #[arg(long, value_name = "JSON", conflicts_with_all = ["all", "edit"])]
    event: Option<String>,
    /// The same, from a file; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    edit: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Status {
    /// Waiting for a decision
    Open,
    /// Sent again, and not come to yet
    Retrying,
    /// Sent again and applied
    Applied,
    /// Given up
    Dropped,
    /// Every one
    All,
}

pub fn run(command: Dead) -> ExitCode {
    block_on(async {
        let client = command.server.client()?;
        match command.action {
            Action::List { status, view } => list(&client, status, view.as_deref(), command.json).await,
            Action::Show { id } => show(&client, &id, command.json).await,
            Action::Retry(retry) => match retry.id.as_deref() {
                Some(id) => send_again(&client, id, mended(&retry)?, command.json).await,
                None => send_all_again(&client, retry.view.as_deref(), command.json).await,
            },
            Action::Drop { id } => {
                let said: Box<RawValue> =
                    client.post(&format!("/v1/dead-letters/{}/drop", escaped(&id)), String::new()).await?;
                let text = if command.json { said.get().to_owned() } else { format!("{id} dropped") };
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

/// Letters of one status, a page after the other.
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

    /// `None` after the last page.
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
        for said in page.dead_letters {
            dead_letters.push((letter(&said)?, said));
        }
        self.after = dead_letters.last().map(|(letter, _)| letter.id.clone());
        dead_letters.retain(|(letter, _)| self.view.is_none_or(|view| letter.view == view));
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
            dead_letters.iter().try_for_each(|(_, said)| output.line(said.get()))?;
            output.flush()?;
            continue;
        }
        let row = |(letter, _): (DeadLetter, _)| {
            let tries = letter.attempts.to_string();
            [letter.id, letter.view, letter.status, tries, letter.created_at, letter.reason]
        };
        let rows: Vec<[String; 6]> = dead_letters.into_iter().map(row).collect();
        columns.page(&mut output, &rows)?;
    }
    if columns.is_empty() && !json {
        eprintln!("there are no such dead letters");
    }
    Ok(())
}

async fn show(client: &Client, id: &str, json: bool) -> Result<(), Failure> {
    let said: Box<RawValue> = client.get(&format!("/v1/dead-letters/{}", escaped(id))).await?;
    if json {
        return print(said.get());
    }
    let letter = letter(&said)?;
    let lines = [
        ("id", letter.id),
        ("status", letter.status),
        ("reason", letter.reason),
        ("view", letter.view),
        ("stream", letter.stream),
        ("position", letter.position.to_string()),
        ("event id", letter.event_id),
        ("tries", letter.attempts.to_string()),
        ("since", letter.created_at),
        ("changed", letter.updated_at),
        ("event", letter.event.get().to_owned()),
    ];
    let lines: Vec<String> =
        lines.iter().map(|(name, value)| format!("{name:<8}  {}", harmless(value))).collect();
    print(&lines.join("\n"))
}

/// What takes the event's place, if anything does; nothing else stands for "as it is".
fn mended(retry: &Retry) -> Result<String, Failure> {
    let text = match (&retry.event, &retry.edit) {
        (Some(event), _) => event.clone(),
        (None, None) => return Ok(String::new()),
        (None, Some(path)) => {
            let read = match path.as_os_str() == "-" {
                true => std::io::read_to_string(std::io::stdin()),
                false => std::fs::read_to_string(path),
            };
            read.map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))?
        }
    };
    match text.trim().is_empty() {
        true => Err(Failure::Failed("the mended event is empty; nothing was sent".to_owned())),
        false => Ok(text),
    }
}

async fn send_again(client: &Client, id: &str, body: String, json: bool) -> Result<(), Failure> {
    let path = format!("/v1/dead-letters/{}", escaped(id));
    let mut said: Box<RawValue> = client.post(&format!("{path}/retry"), body).await?;
    let deadline = Instant::now() + OUTCOME_DURATION_MAX;
    while letter(&said)?.status == "retrying" && Instant::now() < deadline {
        tokio::time::sleep(OUTCOME_INTERVAL).await;
        said = client.get(&path).await?;
    }
    let letter = letter(&said)?;
    if json {
        print(said.get())?;
    }
    match letter.status.as_str() {
        "open" => Err(Failure::Refused(format!("{id} could not be applied again: {}", letter.reason))),
        _ if json => Ok(()),
        "retrying" => print(&format!("{id} sent again; its view has not come to it yet")),
        status => print(&format!("{id} {status}")),
    }
}

async fn send_all_again(client: &Client, view: Option<&str>, json: bool) -> Result<(), Failure> {
    let (mut sent, mut refused) = (0_u64, 0_u64);
    let mut output = Output::stdout();
    let mut pages = Pages::new(client, Status::Open, view);
    let mut left_out = 0_u64;
    while let Some(dead_letters) = pages.next().await? {
        for (letter, _) in dead_letters {
            if letter.view == DEDUP_NAME && view != Some(DEDUP_NAME) {
                left_out += 1;
                continue;
            }
            let path = format!("/v1/dead-letters/{}/retry", escaped(&letter.id));
            match client.post::<Box<RawValue>>(&path, String::new()).await {
                Ok(said) if json => output.line(said.get())?,
                Ok(_) => output.line(&format!("{} sent again", letter.id))?,
                Err(Failure::Failed(reason)) => {
                    eprintln!("millrace: {} not sent: {reason}", letter.id);
                    refused += 1;
                    continue;
                }
                Err(failure) => return Err(failure),
            }
            sent += 1;
        }
        output.flush()?;
    }
    eprintln!("{sent} sent again; `millrace dead list` shows which could not be applied this time either");
    if left_out > 0 {
        eprintln!(
            "{left_out} of view `{DEDUP_NAME}` left out: each has the id of another event, which was counted; look at them, and say `--view {DEDUP_NAME}` if they are to count as well"
        );
    }
    match refused {
        0 => Ok(()),
        _ => Err(Failure::Refused(format!("{refused} could not be sent again"))),
    }
}

fn letter(said: &RawValue) -> Result<DeadLetter, Failure> {
    serde_json::from_str(said.get())
        .map_err(|error| Failure::Failed(format!("the server answered a dead letter that is none: {error}")))
}
