//! `millrace view list`: lists the views with their states.

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::client::{Client, decode};
use crate::cli::exit::Failure;
use crate::cli::output::{Columns, JsonLines, Output, Side};
use crate::cli::printable::printable_lines;

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    format: JsonLines,
}

#[derive(Deserialize)]
pub struct Listed {
    pub views: Vec<Box<RawValue>>,
}

/// A view, as lists and `millrace status` show it.
#[derive(Deserialize)]
pub struct Summary {
    pub name: String,
    pub kind: String,
    pub stream: String,
    pub state: String,
    pub reason: Option<String>,
    pub position: Option<u64>,
    pub lag: Option<u64>,
}

impl List {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let listed: Listed = client.get("/v1/views").await?;
        let mut output = Output::stdout();
        if self.format.json {
            listed.views.iter().try_for_each(|view| output.line(view.get()))?;
            return output.flush();
        }
        if listed.views.is_empty() {
            eprintln!("the configuration declares no views");
        }
        let views = listed.views.iter().map(|view| decode(view, "a view"));
        print_summaries(&mut output, &views.collect::<Result<Vec<Summary>, _>>()?)
    }
}

/// Prints a row for each view, and below them the reasons of those that do not run.
pub fn print_summaries(output: &mut Output, views: &[Summary]) -> Result<(), Failure> {
    let mut columns = Columns::new([
        ("VIEW", Side::Left),
        ("KIND", Side::Left),
        ("STREAM", Side::Left),
        ("STATE", Side::Left),
        ("POSITION", Side::Right),
        ("LAG", Side::Right),
    ]);
    let row = |view: &Summary| {
        let [name, kind, stream, state] =
            [&view.name, &view.kind, &view.stream, &view.state].map(String::clone);
        [name, kind, stream, state, number(view.position), number(view.lag)]
    };
    columns.page(output, views.iter().map(row))?;
    for view in views {
        if let Some(reason) = &view.reason {
            // The reason may contain text from the database.
            let reason = printable_lines(reason);
            output.line(&format!("\nview `{}` is {}: {reason}", view.name, view.state))?;
        }
    }
    output.flush()
}

/// Returns a number, or `-` for a view that has not begun.
pub fn number(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}
