//! Queries of a table: pages of rows in the order of their numbers, oldest first, as JSON that keeps every digit.

use std::fmt::Write;

use event::limits::{PAGE_BYTES_MAX, ROWS_SCANNED_MAX, WIDE_ROWS_READ_MAX};
use event::{Decimal, Millis, Value};
use serde_json::value::RawValue;

use super::RowTable;
use crate::store::{Cell, Column, ColumnKind, Store, StoreError, quote};

/// A page of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowsPage {
    /// One JSON object for each row.
    pub rows: Vec<String>,
    /// The row number to continue after; `None` if there are no more rows.
    pub next: Option<i64>,
}

/// A filter that does not fit the table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    #[error("column `{0}` does not exist")]
    NoColumn(String),
    #[error("column `{0}` contains JSON, so rows cannot be selected by its value")]
    Json(String),
    #[error("column `{column}` contains {kind}, but the given value is not one")]
    Kind { column: String, kind: &'static str },
}

/// Conditions on columns, all of which a row must meet.
pub struct Filter {
    conditions: String,
    values: Vec<Cell>,
}

impl RowTable {
    pub fn filter(&self, store: &Store, wanted: &[(String, String)]) -> Result<Filter, FilterError> {
        let mut filter = Filter { conditions: String::new(), values: Vec::new() };
        for (name, text) in wanted {
            let column = self.table.columns.iter().find(|column| column.name == *name);
            let column = column.ok_or_else(|| FilterError::NoColumn(name.clone()))?;
            let value = filter_value(column, text)?;
            filter.conditions.push_str(&format!(" AND {} = ?", quote(name)));
            filter.values.push(store.stored(&value));
        }
        Ok(filter)
    }

    /// Returns up to `limit` rows after row number `after`. A page has fewer rows if they are large, or if few of the
    /// rows that one request searches match the filter.
    pub async fn page(
        &self,
        store: &Store,
        filter: &Filter,
        after: Option<i64>,
        limit: usize,
    ) -> Result<RowsPage, StoreError> {
        let after = after.unwrap_or(i64::MIN);
        let (until, more_beyond) =
            if filter.values.is_empty() { (i64::MAX, false) } else { self.scan_end(store, after).await? };
        let mut page = RowsPage::default();
        let (mut at, mut bytes) = (after, 0);
        loop {
            let wanted = WIDE_ROWS_READ_MAX.min(limit - page.rows.len());
            let from = at.saturating_add(i64::from(at > i64::MIN));
            let read = self.select(store, &filter.conditions, &filter.values, [from, until], wanted).await?;
            let last = read.len() < wanted;
            for (number, cells) in read {
                let row = self.object(number, &cells);
                bytes += row.len();
                if bytes > PAGE_BYTES_MAX && !page.rows.is_empty() {
                    page.next = Some(at);
                    return Ok(page);
                }
                at = number;
                page.rows.push(row);
            }
            if last {
                page.next = more_beyond.then_some(until);
                return Ok(page);
            }
            if page.rows.len() == limit {
                page.next = Some(at);
                return Ok(page);
            }
        }
    }

    /// Returns the last row number that one request with a filter searches, and true if there are rows after it.
    async fn scan_end(&self, store: &Store, after: i64) -> Result<(i64, bool), StoreError> {
        let (table, id) = (quote(&self.table.name), quote(self.id()));
        let sql = format!("SELECT min({id}) FROM {table} WHERE {id} > ?");
        let first = store.rows(sql, vec![Cell::Integer(after)]).await?;
        let sql = format!("SELECT max({id}) FROM {table}");
        let last = store.rows(sql, Vec::new()).await?;
        match (first.first().map(Vec::as_slice), last.first().map(Vec::as_slice)) {
            (Some([Cell::Integer(first)]), Some([Cell::Integer(last)])) => {
                let until = first.saturating_add(ROWS_SCANNED_MAX);
                Ok((until, until < *last))
            }
            _ => Ok((i64::MAX, false)),
        }
    }

    /// Returns up to `limit` rows with the numbers in `span`, in order.
    pub async fn select(
        &self,
        store: &Store,
        conditions: &str,
        values: &[Cell],
        span: [i64; 2],
        limit: usize,
    ) -> Result<Vec<(i64, Vec<Cell>)>, StoreError> {
        let id = quote(self.id());
        let names: Vec<String> = self.table.columns.iter().map(|column| quote(&column.name)).collect();
        let sql = format!(
            "SELECT {id}, {} FROM {} WHERE {id} >= ? AND {id} <= ?{conditions} ORDER BY {id} LIMIT {limit}",
            names.join(", "),
            quote(&self.table.name),
        );
        let mut parameters = span.map(Cell::Integer).to_vec();
        parameters.extend(values.iter().cloned());
        let rows = store.rows(sql, parameters).await?;
        rows.into_iter().map(|row| self.numbered(row)).collect()
    }

    /// Returns those of the rows with these numbers that exist, as JSON.
    pub async fn rows_by_number(
        &self,
        store: &Store,
        numbers: &[i64],
    ) -> Result<Vec<(i64, String)>, StoreError> {
        let (Some(first), Some(last)) = (numbers.iter().min(), numbers.iter().max()) else {
            return Ok(Vec::new());
        };
        let marks = vec!["?"; numbers.len()].join(", ");
        let condition = format!(" AND {} IN ({marks})", quote(self.id()));
        let values: Vec<Cell> = numbers.iter().copied().map(Cell::Integer).collect();
        let rows = self.select(store, &condition, &values, [*first, *last], numbers.len()).await?;
        Ok(rows.into_iter().map(|(number, cells)| (number, self.object(number, &cells))).collect())
    }

    fn numbered(&self, row: Vec<Cell>) -> Result<(i64, Vec<Cell>), StoreError> {
        let mut cells = row.into_iter();
        match cells.next() {
            Some(Cell::Integer(number)) => Ok((number, cells.collect())),
            _ => Err(StoreError::Blocked(format!(
                "table `{}` contains a row without a number in column `{}`",
                self.table.name,
                self.id()
            ))),
        }
    }

    fn object(&self, number: i64, cells: &[Cell]) -> String {
        let mut object = format!("{{{}:{number}", serde_json::json!(self.id()));
        for (column, cell) in self.table.columns.iter().zip(cells) {
            // Writing to a `String` does not fail.
            let _ = write!(object, ",{}:{}", serde_json::json!(column.name), cell_json(column.kind, cell));
        }
        object.push('}');
        object
    }
}

/// Reads the text of a filter as a value of the column.
fn filter_value<'a>(column: &Column, text: &'a str) -> Result<Value<'a>, FilterError> {
    let wrong = |kind| FilterError::Kind { column: column.name.clone(), kind };
    match column.kind {
        ColumnKind::Text { .. } | ColumnKind::LongText => Ok(Value::Text(text.into())),
        ColumnKind::Integer => text.parse().map(Value::Integer).map_err(|_| wrong("integers")),
        ColumnKind::Decimal => text.parse().map(Value::Decimal).map_err(|_| wrong("numbers")),
        ColumnKind::Time => text.parse().map(Value::Time).map_err(|_| wrong("times")),
        ColumnKind::Boolean => text.parse().map(Value::Boolean).map_err(|_| wrong("booleans")),
        ColumnKind::Json | ColumnKind::Bytes { .. } | ColumnKind::LongBytes => {
            Err(FilterError::Json(column.name.clone()))
        }
    }
}

/// Returns a cell as JSON. Text that does not fit the column's kind, because somebody else wrote it, becomes a
/// string.
pub fn cell_json(kind: ColumnKind, cell: &Cell) -> String {
    let text = |text: &str| serde_json::json!(text).to_string();
    match (kind, cell) {
        (_, Cell::Null) => "null".to_owned(),
        (ColumnKind::Boolean, Cell::Integer(value @ (0 | 1))) => (*value == 1).to_string(),
        (_, Cell::Integer(value)) => value.to_string(),
        (_, Cell::Decimal(value)) => value.to_string(),
        (_, Cell::Time(value)) => text(&value.to_text()),
        (ColumnKind::Decimal, Cell::Text(value)) => {
            value.parse::<Decimal>().map_or_else(|_| text(value), |number| number.to_string())
        }
        (ColumnKind::Time, Cell::Text(value)) => {
            value.parse::<Millis>().map_or_else(|_| text(value), |time| text(&time.to_text()))
        }
        (ColumnKind::Json, Cell::Text(value)) => {
            serde_json::from_str::<&RawValue>(value).map_or_else(|_| text(value), |raw| raw.get().to_owned())
        }
        (_, Cell::Text(value)) => text(value),
        (_, Cell::Bytes(bytes)) => text(&String::from_utf8_lossy(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_keep_every_digit_and_unexpected_text_becomes_a_string() {
        let text = |text: &str| Cell::Text(text.to_owned());
        for (kind, cell, json) in [
            (ColumnKind::Decimal, text("999999999999999.9999"), "999999999999999.9999"),
            (ColumnKind::Decimal, text("NaN"), "\"NaN\""),
            (ColumnKind::Decimal, Cell::Integer(5), "5"),
            (ColumnKind::Time, text("2025-11-01 10:00:00"), "\"2025-11-01T10:00:00.000Z\""),
            (ColumnKind::Time, text("soon"), "\"soon\""),
            (ColumnKind::Boolean, Cell::Integer(1), "true"),
            (ColumnKind::Boolean, Cell::Integer(7), "7"),
            (ColumnKind::Json, text(r#"{"a":1e400}"#), r#"{"a":1e400}"#),
            (ColumnKind::Json, text("{"), "\"{\""),
            (ColumnKind::LongText, text("a\"\n"), r#""a\"\n""#),
            (ColumnKind::Integer, Cell::Null, "null"),
        ] {
            assert_eq!(cell_json(kind, &cell), json, "{kind:?} {cell:?}");
        }
    }
}
