//! `millrace dead-letter list`: lists dead letters.

use clap::Args;

use super::pages::{DeadLetter, Pages, Status};
use crate::cli::client::Client;
use crate::cli::exit::Failure;
use crate::cli::output::{Columns, JsonLines, Output, Side};

#[derive(Args)]
pub struct List {
    /// List only dead letters with this status
    #[arg(long, value_enum, default_value = "open")]
    status: Status,
    /// List only dead letters of this view [default: all views]
    #[arg(long, value_name = "VIEW")]
    view: Option<String>,
    /// List only notifications that this destination did not take
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,
    #[command(flatten)]
    format: JsonLines,
}

impl List {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let mut output = Output::stdout();
        let mut columns = Columns::new([
            ("ID", Side::Left),
            ("VIEW", Side::Left),
            ("DESTINATION", Side::Left),
            ("STATUS", Side::Left),
            ("TRIES", Side::Right),
            ("SINCE", Side::Left),
            ("REASON", Side::Left),
        ]);
        let mut pages = Pages::new(client, self.status, self.view.as_deref(), self.destination.as_deref());
        while let Some(dead_letters) = pages.next().await? {
            if self.format.json {
                dead_letters.iter().try_for_each(|(_, text)| output.line(text.get()))?;
                output.flush()?;
                continue;
            }
            let row = |(one, _): (DeadLetter, _)| {
                [
                    one.id,
                    one.view,
                    one.destination.unwrap_or_else(|| "-".to_owned()),
                    one.status,
                    one.attempts.to_string(),
                    one.created_at,
                    one.reason,
                ]
            };
            columns.page(&mut output, dead_letters.into_iter().map(row))?;
        }
        if columns.is_empty() && !self.format.json {
            eprintln!("no dead letters found");
        }
        Ok(())
    }
}
