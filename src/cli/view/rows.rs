//! `millrace view rows`: prints the rows of a view of kind table, page by page.

use clap::Args;
use event::limits::LIST_ROWS_MAX;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::cli::client::{Client, decode, escaped};
use crate::cli::exit::Failure;
use crate::cli::output::{Columns, JsonLines, Output, Side};

#[derive(Args)]
#[command(after_help = "Example:\n  millrace view rows inventory --where product_id=23 -n 10")]
pub struct Rows {
    /// The view, of kind table, such as inventory
    view: String,
    /// Only rows with this value in this column; may be repeated, and all conditions must hold
    #[arg(long = "where", value_name = "COLUMN=VALUE", value_parser = condition)]
    conditions: Vec<(String, String)>,
    /// Start after the row with this number [default: start at the first row]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    after: Option<i64>,
    /// Number of rows to print [default: all]
    #[arg(long, short = 'n', value_name = "COUNT")]
    count: Option<u64>,
    #[command(flatten)]
    format: JsonLines,
}

#[derive(Deserialize)]
struct Page {
    rows: Vec<Box<RawValue>>,
    next: Option<i64>,
}

impl Rows {
    pub async fn run(&self, client: &Client) -> Result<(), Failure> {
        let (mut after, mut left) = (self.after, self.count.unwrap_or(u64::MAX));
        let mut output = Output::stdout();
        let mut table = None;
        let mut printed = 0;
        while left > 0 {
            let page: Page = client.get(&self.path(after, left)).await?;
            printed += page.rows.len() as u64;
            left -= (page.rows.len() as u64).min(left);
            if self.format.json {
                page.rows.iter().try_for_each(|row| output.line(row.get()))?;
                output.flush()?;
            } else {
                print_rows(&mut output, &mut table, &page.rows)?;
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        if printed == 0 && !self.format.json && self.count != Some(0) {
            let which = if self.conditions.is_empty() { "no rows" } else { "no such rows" };
            eprintln!("view `{}` has {which}", self.view);
        }
        Ok(())
    }

    fn path(&self, after: Option<i64>, left: u64) -> String {
        let limit = left.min(LIST_ROWS_MAX as u64);
        let mut path = format!("/v1/views/{}/rows?limit={limit}", escaped(&self.view));
        if let Some(after) = after {
            path.push_str(&format!("&after={after}"));
        }
        for (column, value) in &self.conditions {
            path.push_str(&format!("&{}={}", escaped(column), escaped(value)));
        }
        path
    }
}

/// Prints a page. The columns are those of the first row, which all rows of a table have.
fn print_rows(
    output: &mut Output,
    table: &mut Option<(Columns, Vec<String>)>,
    rows: &[Box<RawValue>],
) -> Result<(), Failure> {
    let decoded = rows.iter().map(|row| decode(row, "a row"));
    let decoded: Vec<Vec<(String, Box<RawValue>)>> =
        decoded.map(|row| row.map(|Row(cells)| cells)).collect::<Result<_, _>>()?;
    let Some(first) = decoded.first() else { return Ok(()) };
    let (columns, names) = table.get_or_insert_with(|| {
        let names: Vec<String> = first.iter().map(|(name, _)| name.clone()).collect();
        let is_number = |raw: &RawValue| raw.get().starts_with(|c: char| c == '-' || c.is_ascii_digit());
        let side = |raw: &RawValue| if is_number(raw) { Side::Right } else { Side::Left };
        let heading = first.iter().map(|(name, raw)| (name.clone(), side(raw)));
        (Columns::new(heading), names)
    });
    let cells = decoded.iter().map(|row| {
        names.iter().map(|name| {
            row.iter().find(|(known, _)| known == name).map_or_else(String::new, |(_, raw)| cell(raw))
        })
    });
    columns.page(output, cells)
}

/// A row, with its columns in the order in which the server sends them.
struct Row(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Row {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Cells;
        impl<'de> serde::de::Visitor<'de> for Cells {
            type Value = Row;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a row")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Row, A::Error> {
                let mut cells = Vec::new();
                while let Some(cell) = map.next_entry()? {
                    cells.push(cell);
                }
                Ok(Row(cells))
            }
        }
        deserializer.deserialize_map(Cells)
    }
}

/// Returns a text without its quotes, nothing for null, and any other value as it is.
fn cell(raw: &RawValue) -> String {
    match serde_json::from_str(raw.get()) {
        Ok(Value::String(text)) => text,
        Ok(Value::Null) => String::new(),
        _ => raw.get().to_owned(),
    }
}

fn condition(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((column, value)) if !column.is_empty() => Ok((column.to_owned(), value.to_owned())),
        _ => Err("expected COLUMN=VALUE, such as product_id=23".to_owned()),
    }
}
