//! `millrace destination list`: lists the destinations of a server.

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Destination;
use crate::cli::client::{Client, decode};
use crate::cli::exit::Failure;
use crate::cli::output::{Columns, JsonLines, Output, Side, counted};

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    format: JsonLines,
}

#[derive(Deserialize)]
pub struct Listed {
    pub destinations: Vec<Box<RawValue>>,
}

impl List {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let listed: Listed = client.get("/v1/destinations").await?;
        let mut output = Output::stdout();
        if self.format.json {
            listed.destinations.iter().try_for_each(|destination| output.line(destination.get()))?;
            return output.flush();
        }
        let (mut rows, mut troubles) = (Vec::new(), Vec::new());
        for destination in &listed.destinations {
            let one: Destination = decode(destination, "a destination")?;
            match (&one.reason, &one.last_error) {
                (Some(reason), _) => troubles.push(format!("{} is paused: {reason}", one.name)),
                (None, Some(error)) if one.failures_in_a_row > 0 => troubles.push(format!(
                    "{} has failed {} in a row: {error}",
                    one.name,
                    counted(one.failures_in_a_row, "time")
                )),
                _ => {}
            }
            let last_sent = one.last_sent_at.unwrap_or_else(|| "-".to_owned());
            rows.push([one.name, one.kind, one.to, one.state, one.waiting.to_string(), last_sent]);
        }
        let left = |name| (name, Side::Left);
        let mut columns = Columns::new([
            left("DESTINATION"),
            left("KIND"),
            left("TO"),
            left("STATE"),
            ("WAITING", Side::Right),
            left("LAST SENT"),
        ]);
        columns.page(&mut output, rows)?;
        troubles.iter().try_for_each(|trouble| output.line(&crate::cli::printable::printable(trouble)))?;
        output.flush()
    }
}
