//! Compares statistics with the log, row by row in key order. A repair replaces all of the view's tables at once by
//! those that the log was folded into, with their top lists.

use std::collections::VecDeque;

use event::limits::REBUILD_ROWS_MAX;

use super::{Difference, RebuildError, Report, ShadowFold};
use crate::store::{Cell, StoreError, Table, quote};
use crate::views::Stats;

pub fn compare(
    fold: &ShadowFold<'_>,
    view: &Stats,
    shadow: &Stats,
    repair: bool,
    report: &mut Report,
) -> Result<(), RebuildError> {
    let (has, should_have) = (view.tables(), shadow.tables());
    for (has, should_have) in has.iter().zip(&should_have) {
        compare_table(fold, has, should_have, report)?;
    }
    failpoint::hit("rebuild.mended");
    if repair {
        fold.context.runtime.block_on(fold.context.store.replace_tables(&should_have, &has))?;
    }
    Ok(())
}

fn compare_table(
    fold: &ShadowFold<'_>,
    view: &Table,
    shadow: &Table,
    report: &mut Report,
) -> Result<(), RebuildError> {
    let (mut has, mut should_have) = (TableScan::over(view), TableScan::over(shadow));
    let (mut left, mut right) = (has.next(fold)?, should_have.next(fold)?);
    while left.is_some() || right.is_some() {
        report.keys += 1;
        let only_left = is_before(left.as_ref(), right.as_ref(), view.key_columns);
        let only_right = is_before(right.as_ref(), left.as_ref(), view.key_columns);
        if only_left || only_right || left != right {
            let row = if only_right { &right } else { &left };
            report.note(Difference {
                key: row_key(view, row.as_deref().unwrap_or_default()),
                has: left.as_ref().filter(|_| !only_right).map(|row| number(row)),
                should_have: right.as_ref().filter(|_| !only_left).map_or("0".to_owned(), |row| number(row)),
            });
        }
        if !only_right {
            left = has.next(fold)?;
        }
        if !only_left {
            right = should_have.next(fold)?;
        }
    }
    Ok(())
}

/// Returns true if the key of `one` comes before that of `other`. `None` is the end of a table, after all keys.
fn is_before(one: Option<&Vec<Cell>>, other: Option<&Vec<Cell>>, key_columns: usize) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one[..key_columns] < other[..key_columns],
        (one, _) => one.is_some(),
    }
}

/// Returns the table and the key of a row as readable text.
fn row_key(table: &Table, row: &[Cell]) -> String {
    let cells = row.iter().take(table.key_columns).map(|cell| match cell {
        Cell::Text(text) if text.is_empty() => "-".to_owned(),
        Cell::Text(text) => text.clone(),
        Cell::Integer(number) => number.to_string(),
        Cell::Bytes(bytes) => event::hex(bytes),
        other => format!("{other:?}"),
    });
    std::iter::once(table.name.clone()).chain(cells).collect::<Vec<_>>().join(" ")
}

fn number(row: &[Cell]) -> String {
    match row.last() {
        Some(Cell::Integer(number)) => number.to_string(),
        _ => "not a number".to_owned(),
    }
}

/// Reads all rows of a table in key order, page by page.
struct TableScan {
    first_page: String,
    next_page: String,
    key_columns: usize,
    page: VecDeque<Vec<Cell>>,
    last: Option<Vec<Cell>>,
    ended: bool,
}

impl TableScan {
    fn over(table: &Table) -> Self {
        let names: Vec<String> = table.columns.iter().map(|column| quote(&column.name)).collect();
        let key = names[..table.key_columns].join(", ");
        let select = format!("SELECT {} FROM {}", names.join(", "), quote(&table.name));
        let marks = vec!["?"; table.key_columns].join(", ");
        let order = format!("ORDER BY {key} LIMIT {REBUILD_ROWS_MAX}");
        Self {
            first_page: format!("{select} {order}"),
            next_page: format!("{select} WHERE ({key}) > ({marks}) {order}"),
            key_columns: table.key_columns,
            page: VecDeque::new(),
            last: None,
            ended: false,
        }
    }

    fn next(&mut self, fold: &ShadowFold<'_>) -> Result<Option<Vec<Cell>>, RebuildError> {
        if self.page.is_empty() && !self.ended {
            fold.context.fail_if_stopped()?;
            let (sql, after) = match self.last.take() {
                None => (&self.first_page, Vec::new()),
                Some(after) => (&self.next_page, after),
            };
            self.page = match fold.context.runtime.block_on(fold.context.store.rows(sql.clone(), after)) {
                // A missing table has no rows.
                Err(StoreError::NoTable(_)) => VecDeque::new(),
                rows => rows?.into(),
            };
            self.ended = self.page.len() < REBUILD_ROWS_MAX;
            self.last = self.page.back().map(|row| row[..self.key_columns].to_vec());
        }
        Ok(self.page.pop_front())
    }
}
