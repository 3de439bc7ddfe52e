//! `millrace person`: what there is of one person, as a list to hand over, and its end.

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
    /// Print all events of one person, one JSON object a line
    Export(Whose),
    /// Erase all events of one person from views and log, for good
    Erase(Erase),
    /// List what was erased, and when
    Erased {
        /// Print JSON, one object a line
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct Whose {
    /// Which stream
    stream: String,
    /// The value that names the person
    value: String,
    /// The field that holds it [default: the stream's key]
    #[arg(long)]
    field: Option<String>,
}

#[derive(Args)]
struct Erase {
    #[command(flatten)]
    whose: Whose,
    /// Do it; without this, say how many events it would be
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
            Action::Export(whose) => {
                let mut output = Output::stdout();
                each(&client, &whose, |event| output.line(event.get())).await?;
                output.flush()
            }
            Action::Erase(erase) if erase.yes => carry_out(&client, &erase.whose).await,
            Action::Erase(erase) => {
                let mut count = 0_u64;
                each(&client, &erase.whose, |_| {
                    count += 1;
                    Ok(())
                })
                .await?;
                print(&format!("{count} events would be erased; --yes does it, and nothing brings them back"))
            }
            Action::Erased { json } => list(&client, json).await,
        }
    })
}

async fn each(
    client: &Client,
    whose: &Whose,
    mut take: impl FnMut(&RawValue) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (stream, value) = (escaped(&whose.stream), escaped(&whose.value));
    let field = whose.field.as_deref().map(|field| format!("&field={}", escaped(field))).unwrap_or_default();
    let mut at = 0;
    loop {
        let path =
            format!("/v1/streams/{stream}/events?from={at}&limit={TAIL_EVENTS_MAX}&value={value}{field}");
        let page: Page = client.get(&path).await?;
        page.events.iter().try_for_each(|event| take(event))?;
        // A page without events that got further has only read its part of other people's.
        if page.events.is_empty() && page.next == at {
            return Ok(());
        }
        at = page.next;
    }
}

async fn carry_out(client: &Client, whose: &Whose) -> Result<(), Failure> {
    let body = json!({ "value": whose.value, "field": whose.field }).to_string();
    let path = format!("/v1/streams/{}/erasures", escaped(&whose.stream));
    let erasure: Erasure = client.post(&path, body).await?;
    match erasure.done_at {
        Some(_) => print(&format!("{} events erased; the record is {}", erasure.events, erasure.id)),
        None => print(&format!(
            "{} events are being erased; `millrace person erased` shows when {} is done",
            erasure.events, erasure.id
        )),
    }
}

async fn list(client: &Client, json: bool) -> Result<(), Failure> {
    let mut output = Output::stdout();
    let said: Erasures = client.get("/v1/erasures").await?;
    for erasure in &said.erasures {
        if json {
            output.line(erasure.get())?;
            continue;
        }
        let Erasure { id, stream, field, events, asked_at, done_at } = serde_json::from_str(erasure.get())
            .map_err(|error| {
                Failure::Failed(format!("the server answered an erasure that is none: {error}"))
            })?;
        let done = done_at.map_or("under way".to_owned(), |done| format!("done {done}"));
        output.line(&format!("{id}  asked {asked_at}  {done}  {events} events by {field} of {stream}"))?;
    }
    output.flush()
}
