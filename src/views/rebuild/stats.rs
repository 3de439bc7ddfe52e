//! Statistics beside what the log makes: every row is compared, in the order of keys. What is mended is all of
//! it at once: the tables that the log was folded into take the place of the view's, boards included.

use std::collections::VecDeque;

use event::limits::REBUILD_ROWS_MAX;
use journal::failpoint;

use super::{Difference, Fresh, RebuildError, Report};
use crate::store::{Cell, StoreError, Table, quote};
use crate::views::Stats;

pub fn compare(
    fresh: &Fresh<'_>,
    view: &Stats,
    shadow: &Stats,
    mend: bool,
    report: &mut Report,
) -> Result<(), RebuildError> {
    let (has, should_have) = (view.tables(), shadow.tables());
    for (has, should_have) in has.iter().zip(&should_have) {
        compare_table(fresh, has, should_have, report)?;
    }
    failpoint::hit("rebuild.mended");
    if mend {
        fresh.runtime.block_on(fresh.store.put_in_place(&should_have, &has))?;
    }
    Ok(())
}

fn compare_table(
    fresh: &Fresh<'_>,
    view: &Table,
    shadow: &Table,
    report: &mut Report,
) -> Result<(), RebuildError> {
    let (mut has, mut should_have) = (Walk::over(view), Walk::over(shadow));
    let (mut left, mut right) = (has.next(fresh)?, should_have.next(fresh)?);
    while left.is_some() || right.is_some() {
        report.keys += 1;
        let only_left = is_before(left.as_ref(), right.as_ref(), view.key_columns);
        let only_right = is_before(right.as_ref(), left.as_ref(), view.key_columns);
        if only_left || only_right || left != right {
            let row = if only_right { &right } else { &left };
            report.note(Difference {
                key: shown(view, row.as_deref().unwrap_or_default()),
                has: left.as_ref().filter(|_| !only_right).map(|row| number(row)),
                should_have: right.as_ref().filter(|_| !only_left).map_or("0".to_owned(), |row| number(row)),
            });
        }
        if !only_right {
            left = has.next(fresh)?;
        }
        if !only_left {
            right = should_have.next(fresh)?;
        }
    }
    Ok(())
}

/// Whether a row's key comes before the other's, which may have come to its end.
fn is_before(one: Option<&Vec<Cell>>, other: Option<&Vec<Cell>>, key_columns: usize) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one[..key_columns] < other[..key_columns],
        (one, _) => one.is_some(),
    }
}

/// A key for people: the table, and what the key says.
fn shown(table: &Table, row: &[Cell]) -> String {
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
        _ => "no number".to_owned(),
    }
}

/// All rows of a table in the order of its key, page by page.
struct Walk {
    first_page: String,
    next_page: String,
    key_columns: usize,
    page: VecDeque<Vec<Cell>>,
    last: Option<Vec<Cell>>,
    ended: bool,
}

impl Walk {
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

    fn next(&mut self, fresh: &Fresh<'_>) -> Result<Option<Vec<Cell>>, RebuildError> {
        if self.page.is_empty() && !self.ended {
            fresh.go_on()?;
            let (sql, after) = match self.last.take() {
                None => (&self.first_page, Vec::new()),
                Some(after) => (&self.next_page, after),
            };
            self.page = match fresh.runtime.block_on(fresh.store.rows(sql.clone(), after)) {
                // A table that is gone has no rows.
                Err(StoreError::NoTable(_)) => VecDeque::new(),
                rows => rows?.into(),
            };
            self.ended = self.page.len() < REBUILD_ROWS_MAX;
            self.last = self.page.back().map(|row| row[..self.key_columns].to_vec());
        }
        Ok(self.page.pop_front())
    }
}
