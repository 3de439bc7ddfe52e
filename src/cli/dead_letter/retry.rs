//! `millrace dead-letter retry`: sends the events of dead letters again.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::value::RawValue;

use super::pages::{DeadLetter, Pages, Status};
use crate::cli::client::{Client, decode, escaped};
use crate::cli::exit::Failure;
use crate::cli::output::{JsonLines, Output, counted, print};

/// How long the command waits for the outcome of a retry.
const OUTCOME_DURATION_MAX: Duration = Duration::from_secs(10);
const OUTCOME_INTERVAL: Duration = Duration::from_millis(50);
/// The view name of events whose id was used before for another event. If they are retried, they count in addition.
const DEDUP_NAME: &str = "dedup";

#[derive(Args)]
pub struct Retry {
    /// Id of the dead letter, as `list` shows it
    #[arg(required_unless_present = "all")]
    id: Option<String>,
    /// Retry all open dead letters, except those of view dedup, whose ids were used for other events
    #[arg(long, conflicts_with = "id")]
    all: bool,
    /// With --all: retry only dead letters of this view, which may be dedup
    #[arg(long, requires = "all")]
    view: Option<String>,
    /// With --all: retry only notifications to this destination
    #[arg(long, requires = "all", value_name = "NAME")]
    destination: Option<String>,
    /// Corrected event, which replaces the original one
    #[arg(long, value_name = "JSON", conflicts_with_all = ["all", "edit"])]
    event: Option<String>,
    /// File with the corrected event; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with = "all")]
    edit: Option<PathBuf>,
    /// Only show what would happen
    #[arg(long, conflicts_with = "all")]
    dry_run: bool,
    #[command(flatten)]
    format: JsonLines,
}

impl Retry {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        match self.id.as_deref() {
            Some(id) if self.dry_run => {
                let path = format!("/v1/dead-letters/{}/retry?dryRun=true", escaped(id));
                let response: Box<RawValue> = client.post(&path, corrected_event(self)?).await?;
                print(response.get())
            }
            Some(id) => send_again(client, id, corrected_event(self)?, self.format.json).await,
            None => {
                send_all_again(client, self.view.as_deref(), self.destination.as_deref(), self.format.json)
                    .await
            }
        }
    }
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
    while read(&response)?.status == "retrying" && Instant::now() < deadline {
        tokio::time::sleep(OUTCOME_INTERVAL).await;
        response = client.get(&path).await?;
    }
    let dead_letter = read(&response)?;
    if json {
        print(response.get())?;
    }
    match dead_letter.status.as_str() {
        "open" => Err(Failure::Refused(format!("{id} could not be handled: {}", dead_letter.reason))),
        _ if json => Ok(()),
        "retrying" if dead_letter.notification.is_some() => print(&format!(
            "{id} waits for its destination; `millrace dead-letter show {id}` shows each attempt"
        )),
        "dropped" => print(&format!("{id} was {}", dead_letter.note.unwrap_or_else(|| "dropped".to_owned()))),
        "retrying" => print(&format!("{id} was sent again; its view has not applied it yet")),
        _ if dead_letter.view == DEDUP_NAME => {
            print(&format!("{id} was sent again, as an event of its own for all views of its stream"))
        }
        status => print(&format!("{id} {status}")),
    }
}

async fn send_all_again(
    client: &Client,
    view: Option<&str>,
    destination: Option<&str>,
    json: bool,
) -> Result<(), Failure> {
    let (mut sent, mut refused) = (0_u64, 0_u64);
    let mut output = Output::stdout();
    let mut pages = Pages::new(client, Status::Open, view, destination);
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
    eprintln!(
        "sent {} again; `millrace dead-letter list` shows those that could not be applied",
        counted(sent, "dead letter")
    );
    if skipped > 0 {
        eprintln!(
            "skipped {} of view `{DEDUP_NAME}`, with the id of another event, which was counted; to count them as \
             well, use `--view {DEDUP_NAME}`",
            counted(skipped, "dead letter")
        );
    }
    match refused {
        0 => Ok(()),
        _ => Err(Failure::Refused(format!("{} could not be sent again", counted(refused, "dead letter")))),
    }
}

fn read(text: &RawValue) -> Result<DeadLetter, Failure> {
    decode(text, "a dead letter")
}
