//! `millrace person`: exports or erases all events of one person.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use event::limits::TAIL_EVENTS_MAX;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::client::{Client, Server, escaped};
use super::exit::{Failure, block_on};
use super::output::{Output, print};

#[derive(Args)]
pub struct Person {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    server: Server,
}

#[derive(Subcommand)]
enum Action {
    /// Print all events of one person, one JSON object per line
    Export(Subject),
    /// Erase all events of one person from the log and the views, permanently
    Erase(Erase),
    /// List the erasures, and when each was completed
    Erased {
        /// Print JSON, one object per line
        #[arg(long)]
        json: bool,
    },
}

/// The person whose events are selected.
#[derive(Args)]
struct Subject {
    /// The stream
    stream: String,
    /// Value that identifies the person, such as a user id
    value: String,
    /// Field that contains the value [default: the key of the stream]
    #[arg(long)]
    field: Option<String>,
}

#[derive(Args)]
struct Erase {
    #[command(flatten)]
    subject: Subject,
    /// Erase the events; without this option, only print how many there are
    #[arg(long)]
    yes: bool,
}

#[derive(Deserialize)]
struct Page {
    events: Vec<Box<RawValue>>,
    next: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Erasure {
    id: String,
    stream: String,
    field: String,
    events: u64,
    asked_at: String,
    done_at: Option<String>,
}

#[derive(Deserialize)]
struct Erasures {
    erasures: Vec<Box<RawValue>>,
}

pub fn run(command: Person) -> ExitCode {
    block_on(async {
        let client = command.server.client()?;
        match command.action {
            Action::Export(subject) => {
                let mut output = Output::stdout();
                each(&client, &subject, |event| output.line(event.get())).await?;
                output.flush()
            }
            Action::Erase(erase) if erase.yes => request_erasure(&client, &erase.subject).await,
            Action::Erase(erase) => {
                let mut count = 0_u64;
                each(&client, &erase.subject, |_| {
                    count += 1;
                    Ok(())
                })
                .await?;
                print(&format!("{count} events would be erased; add --yes to erase them permanently"))
            }
            Action::Erased { json } => list(&client, json).await,
        }
    })
}

/// Calls `take` with each event of the person, in the order of the log.
async fn each(
    client: &Client,
    subject: &Subject,
    mut take: impl FnMut(&RawValue) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (stream, value) = (escaped(&subject.stream), escaped(&subject.value));
    let field = subject.field.as_deref().map(|field| format!("&field={}", escaped(field)));
    let field = field.unwrap_or_default();
    let mut at = 0;
    loop {
        let path =
            format!("/v1/streams/{stream}/events?from={at}&limit={TAIL_EVENTS_MAX}&value={value}{field}");
        let page: Page = client.get(&path).await?;
        page.events.iter().try_for_each(|event| take(event))?;
        // An empty page that ends at a later position has passed events of other people.
        if page.events.is_empty() && page.next == at {
            return Ok(());
        }
        at = page.next;
    }
}

async fn request_erasure(client: &Client, subject: &Subject) -> Result<(), Failure> {
    let body = json!({ "value": subject.value, "field": subject.field }).to_string();
    let path = format!("/v1/streams/{}/erasures", escaped(&subject.stream));
    let erasure: Erasure = client.post(&path, body).await?;
    match erasure.done_at {
        Some(_) => print(&format!("erased {} events; the record of it is {}", erasure.events, erasure.id)),
        None => print(&format!(
            "erasing {} events; `millrace person erased` shows when {} is done",
            erasure.events, erasure.id
        )),
    }
}

async fn list(client: &Client, json: bool) -> Result<(), Failure> {
    let mut output = Output::stdout();
    let response: Erasures = client.get("/v1/erasures").await?;
    for erasure in &response.erasures {
        if json {
            output.line(erasure.get())?;
            continue;
        }
        let Erasure { id, stream, field, events, asked_at, done_at } = serde_json::from_str(erasure.get())
            .map_err(|error| Failure::Failed(format!("cannot decode an erasure in the response: {error}")))?;
        let done = done_at.map_or("in progress".to_owned(), |done| format!("completed {done}"));
        output
            .line(&format!("{id}  requested {asked_at}  {done}  {events} events by {field} of {stream}"))?;
    }
    output.flush()
}
