//! Compares a table with the log. The log is folded again, batch by batch, and each row is found by the event that
//! it came from. Rows without a recorded event belong to others and stay unchanged. The view continues meanwhile.
//! It is put on hold at the end, and when a batch differs, to compare again and to repair.

use std::collections::HashMap;
use std::sync::Arc;

use event::Millis;
use event::limits::{DIFFERENCE_VALUE_CHARS_MAX, REBUILD_ROWS_MAX, ROW_NUMBERS_GAP_MAX};

use super::definitions::Definitions;
use super::replay::LogReplay;
use super::{Context, Difference, RebuildError, Report};
use crate::store::{Cell, CellRef, Plan, RowChanges, RowOrigin, Store, StoreError, quote};
use crate::views::batch::Batch;
use crate::views::definition_ranges::DefinitionRange;
use crate::views::runner::HoldGuard;
use crate::views::table::{RowTable, cell_json};
use crate::views::{View, ViewKind};

/// Compares a table with the log. With `repair`, also repairs the rows that the view made.
pub fn compare(
    context: Context<'_>,
    definitions: &Definitions,
    table: &RowTable,
    repair: bool,
) -> Result<Report, RebuildError> {
    let rebuilt = table.in_table(&format!("millrace_rebuilt_{}", context.view.view.name));
    let comparison = TableComparison { context, definitions, table, rebuilt: &rebuilt, repair };
    // Also at the beginning, because a crash may have left an incomplete table.
    comparison.drop_rebuilt()?;
    let outcome = comparison.run();
    comparison.drop_rebuilt()?;
    outcome
}

struct TableComparison<'a> {
    context: Context<'a>,
    definitions: &'a Definitions,
    table: &'a RowTable,
    /// The table under whose name a missing table is rebuilt. Under the view's own name, a crash could leave an
    /// incomplete table that the view would use.
    rebuilt: &'a RowTable,
    repair: bool,
}

impl TableComparison<'_> {
    fn run(&self) -> Result<Report, RebuildError> {
        let Context { view, store, runtime, .. } = self.context;
        let position = self.context.position()?.unwrap_or(0);
        let table = self.target()?;
        let kind = ViewKind::Table(table.clone());
        let ranges = self.definitions.ranges_for(&View { kind, ..view.view.clone() })?;
        if self.repair {
            self.definitions.expect_no_refusals(self.context, &ranges, position)?;
            self.definitions.begin_to_replace(self.context)?;
        }
        let (mut replay, mut report) = (LogReplay::new(self.context, &ranges, 0), Report::default());
        replay.each(position, |batch, rules| self.compare_batch(rules, batch, None, &mut report))?;
        let hold = self.context.hold()?;
        let position = self.context.position()?.unwrap_or(0);
        replay.each(position, |batch, rules| self.compare_batch(rules, batch, Some(&hold), &mut report))?;
        failpoint::hit("rebuild.mended");
        if self.repair && table.table().name != self.table.table().name {
            // The rename fails if somebody has restored the table meanwhile, because it also has rows of others.
            let [made, wanted] = [table, self.table].map(|rows| quote(&rows.table().name));
            let rename = format!("ALTER TABLE {made} RENAME TO {wanted}");
            runtime.block_on(store.change(rename, Vec::new()))?;
        }
        if self.repair {
            self.definitions.end_replacing(self.context)?;
        }
        report.position = position;
        Ok(report)
    }

    /// Returns the table to compare and to repair.
    fn target(&self) -> Result<&RowTable, RebuildError> {
        let Context { store, runtime, .. } = self.context;
        let look = format!("SELECT 1 FROM {} LIMIT 1", quote(&self.table.table().name));
        match runtime.block_on(store.rows(look, Vec::new())) {
            Err(StoreError::NoTable(_)) if self.repair => {
                runtime.block_on(store.make_table(self.rebuilt.table().as_ref().clone()))?;
                Ok(self.rebuilt)
            }
            Ok(_) | Err(StoreError::NoTable(_)) => Ok(self.table),
            Err(error) => Err(error.into()),
        }
    }

    fn drop_rebuilt(&self) -> Result<(), RebuildError> {
        let Context { store, runtime, .. } = self.context;
        Ok(runtime.block_on(store.drop_tables(&[self.rebuilt.table().as_ref().clone()]))?)
    }

    /// Compares a batch with its rows. If they differ, compares again during a hold, and repairs them if wanted.
    fn compare_batch(
        &self,
        rules: &DefinitionRange,
        batch: &Batch<'_>,
        hold: Option<&HoldGuard>,
        report: &mut Report,
    ) -> Result<(), RebuildError> {
        let mut compared = self.compare(rules, batch)?;
        if !compared.differences.is_empty() {
            let _hold = if hold.is_none() { Some(self.context.hold()?) } else { None };
            // An event that is being corrected may look different for a moment.
            compared = self.compare(rules, batch)?;
            self.context.fail_if_history_deleted()?;
            if self.repair && !compared.changes.is_empty() {
                self.apply_repair(compared.changes)?;
            }
        }
        report.keys += compared.rows;
        compared.differences.into_iter().for_each(|difference| report.note(difference));
        Ok(())
    }

    fn apply_repair(&self, changes: RowChanges) -> Result<(), RebuildError> {
        let Context { store, runtime, .. } = self.context;
        let position = self.context.position()?.unwrap_or(0);
        let mut plan = Plan::new(self.definitions.claim(self.context, position));
        plan.rows = Some(changes);
        runtime.block_on(store.apply(Arc::new(plan)))?;
        failpoint::hit("rebuild.page_mended");
        Ok(())
    }

    fn compare(&self, rules: &DefinitionRange, batch: &Batch<'_>) -> Result<BatchComparison, RebuildError> {
        let Context { view, log, store, runtime, .. } = self.context;
        let table = rules.view.row_table().expect("the rules of a table are a table's");
        let span = batch.span.clone();
        let folded = table.fold(&rules.fields, &batch.events);
        let undone = self.context.undone(batch)?;
        let origins = runtime.block_on(store.row_origins(&view.view.name, log.id(), span.start, span.end))?;
        let existing = self.rows(table, &origins)?;
        let mut compared =
            BatchComparison { changes: RowChanges::new(table.table()), differences: Vec::new(), rows: 0 };
        let mut expected = vec![false; origins.len()];
        if let Some(changes) = &folded.rows {
            let mut cells = changes.added.cells();
            for (position, received) in &changes.from {
                let row: Vec<CellRef<'_>> = cells.by_ref().take(table.table().columns.len()).collect();
                if undone.binary_search(position).is_ok() {
                    continue;
                }
                let index = origins.binary_search_by_key(position, |origin| origin.position).ok();
                if let Some(index) = index {
                    expected[index] = true;
                }
                let number = index.map(|index| origins[index].row);
                let has = number.and_then(|number| existing.get(&number));
                compared.row(table, store, (*position, *received), number, has, &row);
            }
        }
        let extra = origins
            .iter()
            .zip(expected)
            .filter(|(origin, expected)| !expected && existing.contains_key(&origin.row));
        extra.for_each(|(origin, _)| compared.extra(origin));
        Ok(compared)
    }

    /// Returns the existing rows of these origins, by their numbers.
    fn rows(&self, table: &RowTable, origins: &[RowOrigin]) -> Result<HashMap<i64, Vec<Cell>>, RebuildError> {
        let Context { store, runtime, .. } = self.context;
        let mut numbers: Vec<i64> = origins.iter().map(|origin| origin.row).collect();
        numbers.sort_unstable();
        let mut rows = HashMap::with_capacity(numbers.len());
        // Rows of others may lie between these numbers. They are not read if there may be many of them.
        for run in numbers.chunk_by(|one, next| next.abs_diff(*one) <= ROW_NUMBERS_GAP_MAX) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            let mut from = *first;
            loop {
                let read = runtime.block_on(table.select(store, "", &[], [from, *last], REBUILD_ROWS_MAX));
                let read = match read {
                    Err(StoreError::NoTable(_)) => return Ok(HashMap::new()),
                    read => read?,
                };
                let (full, next) =
                    (read.len() == REBUILD_ROWS_MAX, read.last().map(|(number, _)| number + 1));
                rows.extend(read.into_iter().filter(|(number, _)| run.binary_search(number).is_ok()));
                match next {
                    Some(next) if full => from = next,
                    _ => break,
                }
            }
        }
        Ok(rows)
    }
}

/// The result of comparing one batch with its rows.
struct BatchComparison {
    changes: RowChanges,
    differences: Vec<Difference>,
    rows: u64,
}

impl BatchComparison {
    /// Compares a row of the log with the existing row (`has`) under its recorded number.
    fn row(
        &mut self,
        table: &RowTable,
        store: &Store,
        from: (u64, Millis),
        number: Option<i64>,
        has: Option<&Vec<Cell>>,
        row: &[CellRef<'_>],
    ) {
        self.rows += 1;
        let cells: Vec<Cell> = row.iter().map(|cell| store.stored(*cell)).collect();
        if has.is_some_and(|has| differing_columns(table, has, &cells).is_empty()) {
            return;
        }
        match number {
            Some(number) => {
                self.changes.numbers.push(number);
                row.iter().for_each(|cell| self.changes.restored.push(*cell));
            }
            None => {
                self.changes.from.push(from);
                row.iter().for_each(|cell| self.changes.added.push(*cell));
            }
        }
        let key = row_key(from.0, number);
        self.differences.push(match has {
            None => Difference { key, has: None, should_have: "a row".to_owned() },
            Some(has) => {
                let (had, should_have) =
                    (differing_columns(table, has, &cells), differing_columns(table, &cells, has));
                Difference { key, has: Some(had), should_have }
            }
        });
    }

    /// Notes an existing row that the log does not produce any more.
    fn extra(&mut self, origin: &RowOrigin) {
        self.rows += 1;
        self.changes.removed.push(origin.position);
        let key = row_key(origin.position, Some(origin.row));
        let has = Some("a row".to_owned());
        self.differences.push(Difference { key, has, should_have: "no row".to_owned() });
    }
}

fn row_key(position: u64, number: Option<i64>) -> String {
    match number {
        Some(number) => format!("position {position}, row {number}"),
        None => format!("position {position}"),
    }
}

/// Returns the columns in which `cells` differs from `other`, with the beginnings of their values.
fn differing_columns(table: &RowTable, cells: &[Cell], other: &[Cell]) -> String {
    let columns = table.table().columns.iter().zip(cells.iter().zip(other));
    let texts = columns
        .filter(|(column, (cell, other))| !column.kind.keeps(cell, other) && !column.kind.keeps(other, cell))
        .map(|(column, (cell, _))| {
            let text = cell_json(column.kind, cell);
            let short = match text.char_indices().nth(DIFFERENCE_VALUE_CHARS_MAX) {
                Some((end, _)) => format!("{}...", &text[..end]),
                None => text,
            };
            format!("{} {short}", column.name)
        });
    texts.collect::<Vec<_>>().join(", ")
}
