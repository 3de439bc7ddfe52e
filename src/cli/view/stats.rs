//! `millrace view stats`: prints the statistics of one group, and follows them with `--watch`.

use std::io::Write;

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::client::{Client, decode, escaped};
use crate::cli::exit::Failure;
use crate::cli::output::{Columns, JsonDocument, Output, Side, print};
use crate::cli::redraw::Layout;
use crate::cli::watch::Watch;

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
    /// Also show each change, until Ctrl-C; with --by, only for one day or for all time. With --json, each is one line
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    format: JsonDocument,
}

impl Stats {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let response: Box<RawValue> = client.get(&self.path("stats")).await?;
        if self.watch {
            let (path, json) = (self.path("live"), self.format.json);
            return Watch { client, path, layout: Layout::Blocks, json }.run(formatted).await;
        }
        print(&if self.format.json { response.get().to_owned() } else { formatted(&response)? })
    }

    /// Returns the path of the statistics below their view: `stats`, or `live` for a subscription.
    fn path(&self, below: &str) -> String {
        let (view, group) = (escaped(&self.view), escaped(&self.group));
        let mut path = format!("/v1/views/{view}/{below}?group={group}");
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

fn formatted(response: &RawValue) -> Result<String, Failure> {
    let numbers: Numbers = decode(response, "the statistics")?;
    Output::text(|output| numbers.write(output))
}

impl Numbers {
    fn write(&self, output: &mut Output<impl Write>) -> Result<(), Failure> {
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
            Columns::new(sides).page(output, self.top.iter().map(row))?;
        } else {
            let row = |counted: &Counted| [value(counted), counted.count.to_string()];
            Columns::new([sides[0], sides[1]]).page(output, self.top.iter().map(row))?;
        }
        Ok(())
    }
}
