//! `millrace view stats`: prints the statistics of one group.

use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::client::{Client, decode, escaped};
use crate::cli::exit::Failure;
use crate::cli::output::{Columns, JsonDocument, Output, Side, print};

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
    #[command(flatten)]
    format: JsonDocument,
}

impl Stats {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let response: Box<RawValue> = client.get(&self.path()).await?;
        if self.format.json {
            return print(response.get());
        }
        let numbers: Numbers = decode(&response, "the statistics")?;
        numbers.print()
    }

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
