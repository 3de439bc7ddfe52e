//! `millrace stats`: prints the statistics of one group.

use std::process::ExitCode;

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::{Server, escaped};
use super::exit::{Failure, block_on};
use super::output::{Columns, Output, Side, print};

#[derive(Args)]
pub struct Stats {
    /// The view, of kind stats, such as site_stats
    view: String,
    /// The group: a value of the field that the view groups by, such as a site id
    group: String,
    /// First day (UTC) to count, such as 2025-11-01 [default: no limit]
    #[arg(long, value_name = "DAY")]
    from: Option<String>,
    /// Last day (UTC) to count [default: no limit]
    #[arg(long, value_name = "DAY")]
    to: Option<String>,
    /// Also list the most frequent values of this field
    #[arg(long, value_name = "FIELD")]
    by: Option<String>,
    /// With --by: the number of values to list, up to 100 [default: 10]
    #[arg(long, value_name = "N", requires = "by")]
    top: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

pub fn run(command: Stats) -> ExitCode {
    block_on(async {
        let client = command.server.client()?;
        let response: Box<RawValue> = client.with_names(client.get(&command.path()).await).await?;
        if command.json { print(response.get()) } else { numbers(&response)?.print() }
    })
}

impl Stats {
    fn path(&self) -> String {
        let mut path = format!("/v1/views/{}/stats?group={}", escaped(&self.view), escaped(&self.group));
        let top = self.top.map(|top| top.to_string());
        for (name, value) in [("from", &self.from), ("to", &self.to), ("by", &self.by), ("top", &top)] {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", escaped(value)));
            }
        }
        path
    }
}

#[derive(Deserialize)]
struct Numbers {
    total: i64,
    distinct: Option<i64>,
    #[serde(default)]
    top: Vec<Counted>,
}

#[derive(Deserialize)]
struct Counted {
    value: Option<String>,
    count: i64,
    distinct: Option<i64>,
}

impl Numbers {
    fn print(&self) -> Result<(), Failure> {
        let mut output = Output::stdout();
        output.line(&format!("total     {}", self.total))?;
        if let Some(distinct) = self.distinct {
            output.line(&format!("distinct  {distinct}"))?;
        }
        if !self.top.is_empty() {
            output.line("")?;
        }
        // `-` counts the events that have no value in this field.
        let value = |counted: &Counted| counted.value.clone().unwrap_or_else(|| "-".to_owned());
        let sides = [("VALUE", Side::Left), ("COUNT", Side::Right), ("DISTINCT", Side::Right)];
        if self.top.iter().any(|counted| counted.distinct.is_some()) {
            let distinct = |counted: &Counted| counted.distinct.unwrap_or_default().to_string();
            let row = |counted| [value(counted), counted.count.to_string(), distinct(counted)];
            Columns::new(sides).page(&mut output, self.top.iter().map(row))?;
        } else {
            let row = |counted: &Counted| [value(counted), counted.count.to_string()];
            Columns::new([sides[0], sides[1]]).page(&mut output, self.top.iter().map(row))?;
        }
        output.flush()
    }
}

fn numbers(text: &RawValue) -> Result<Numbers, Failure> {
    serde_json::from_str(text.get())
        .map_err(|error| Failure::Failed(format!("cannot decode the server's statistics: {error}")))
}
