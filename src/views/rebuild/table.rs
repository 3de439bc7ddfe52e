//! A table beside what its log makes: the log is folded afresh, batch by batch, and each row looked up by
//! where it came from. Rows that nobody noted are somebody else's and stay as they are. The view goes on
//! meanwhile: it is held where a batch differs, to look again and to mend, and at the end.

use std::collections::HashMap;
use std::sync::Arc;

use event::limits::{REBUILD_ROWS_MAX, ROW_NUMBERS_GAP_MAX, SHOWN_CHARS_MAX};
use event::{Millis, Value};
use journal::failpoint;

use super::replay::Walk;
use super::{Asked, Difference, RebuildError, Report};
use crate::store::{Cell, Claim, Plan, RowChanges, RowOrigin, Store, StoreError, quote};
use crate::views::batch::Batch;
use crate::views::runner::Held;
use crate::views::table::{RowTable, shown};

/// Compares, and with `mend` makes of each row that millrace made what the log makes of its event.
pub fn compare(asked: Asked<'_>, table: &RowTable, mend: bool) -> Result<Report, RebuildError> {
    let anew = table.in_table(&format!("millrace_rebuilt_{}", asked.view.view.name));
    let comparison = Comparison { asked, table, anew: &anew, mend };
    // At the beginning too: a crash may have left half a table.
    comparison.drop_half_made()?;
    let outcome = comparison.run();
    comparison.drop_half_made()?;
    outcome
}

struct Comparison<'a> {
    asked: Asked<'a>,
    table: &'a RowTable,
    /// A table that is gone is made under another name: one that is there and not whole yet would be taken
    /// for the view's own after a crash.
    anew: &'a RowTable,
    mend: bool,
}

impl Comparison<'_> {
    fn run(&self) -> Result<Report, RebuildError> {
        let Asked { store, runtime, .. } = self.asked;
        let Some(position) = self.asked.position()? else {
            // A view that has not begun has made no row.
            return Ok(Report::default());
        };
        let table = self.target()?;
        let (mut walk, mut report) = (Walk::new(self.asked, 0), Report::default());
        walk.each(position, |batch| self.look_after(table, batch, None, &mut report))?;
        let held = self.asked.hold()?;
        let position = self.asked.position()?.unwrap_or(0);
        walk.each(position, |batch| self.look_after(table, batch, Some(&held), &mut report))?;
        failpoint::hit("rebuild.mended");
        if self.mend && table.table().name != self.table.table().name {
            // Refused where somebody has put the table back meanwhile: it holds others' rows too.
            let [made, wanted] = [table, self.table].map(|rows| quote(&rows.table().name));
            let rename = format!("ALTER TABLE {made} RENAME TO {wanted}");
            runtime.block_on(store.change(rename, Vec::new()))?;
        }
        report.position = position;
        Ok(report)
    }

    /// The table that rows are compared with, and mended in.
    fn target(&self) -> Result<&RowTable, RebuildError> {
        let Asked { store, runtime, .. } = self.asked;
        let look = format!("SELECT 1 FROM {} LIMIT 1", quote(&self.table.table().name));
        match runtime.block_on(store.rows(look, Vec::new())) {
            Err(StoreError::NoTable(_)) if self.mend => {
                runtime.block_on(store.make_table(self.anew.table().as_ref().clone()))?;
                Ok(self.anew)
            }
            Ok(_) | Err(StoreError::NoTable(_)) => Ok(self.table),
            Err(error) => Err(error.into()),
        }
    }

    fn drop_half_made(&self) -> Result<(), RebuildError> {
        let Asked { store, runtime, .. } = self.asked;
        Ok(runtime.block_on(store.drop_tables(&[self.anew.table().as_ref().clone()]))?)
    }

    fn look_after(
        &self,
        table: &RowTable,
        batch: &Batch<'_>,
        held: Option<&Held>,
        report: &mut Report,
    ) -> Result<(), RebuildError> {
        let mut compared = self.compare(table, batch)?;
        if !compared.differences.is_empty() {
            let _held = if held.is_none() { Some(self.asked.hold()?) } else { None };
            // What is taken back just now may have looked wrong.
            compared = self.compare(table, batch)?;
            self.asked.history_is_whole()?;
            if self.mend && !compared.changes.is_empty() {
                self.put_right(compared.changes)?;
            }
        }
        report.keys += compared.rows;
        compared.differences.into_iter().for_each(|difference| report.note(difference));
        Ok(())
    }

    fn put_right(&self, changes: RowChanges) -> Result<(), RebuildError> {
        let Asked { view, log, store, runtime, .. } = self.asked;
        let position = self.asked.position()?.unwrap_or(0);
        let claim = Claim { view: view.view.name.clone(), log: log.id(), from: position, to: position };
        let mut plan = Plan::new(claim);
        plan.rows = Some(changes);
        runtime.block_on(store.apply(Arc::new(plan)))?;
        failpoint::hit("rebuild.page_mended");
        Ok(())
    }

    fn compare(&self, table: &RowTable, batch: &Batch<'_>) -> Result<Compared, RebuildError> {
        let Asked { view, log, store, runtime, .. } = self.asked;
        let span = batch.span.clone();
        let folded = table.fold(&view.fields, &batch.events);
        let gone = self.asked.corrected(span.start, span.end)?;
        let places = runtime.block_on(store.row_places(&view.view.name, log.id(), span.start, span.end))?;
        let there = self.rows(table, &places)?;
        let mut compared =
            Compared { changes: RowChanges::new(table.table()), differences: Vec::new(), rows: 0 };
        let mut meant = vec![false; places.len()];
        if let Some(made) = &folded.rows {
            let mut values = made.added.values();
            for (position, received) in &made.from {
                let row: Vec<Value<'_>> = values.by_ref().take(table.table().columns.len()).collect();
                if gone.binary_search(position).is_ok() {
                    continue;
                }
                let place = places.binary_search_by_key(position, |place| place.position).ok();
                if let Some(place) = place {
                    meant[place] = true;
                }
                let number = place.map(|place| places[place].row);
                let has = number.and_then(|number| there.get(&number));
                compared.row(table, store, (*position, *received), number, has, &row);
            }
        }
        let strange =
            places.iter().zip(meant).filter(|(place, meant)| !meant && there.contains_key(&place.row));
        strange.for_each(|(place, _)| compared.extra(place));
        Ok(compared)
    }

    /// The rows of these places by their numbers, as far as they are there.
    fn rows(&self, table: &RowTable, places: &[RowOrigin]) -> Result<HashMap<i64, Vec<Cell>>, RebuildError> {
        let Asked { store, runtime, .. } = self.asked;
        let mut numbers: Vec<i64> = places.iter().map(|place| place.row).collect();
        numbers.sort_unstable();
        let mut rows = HashMap::with_capacity(numbers.len());
        // Between them may be others' rows; where those may be many, they are not read.
        for run in numbers.chunk_by(|one, next| next.abs_diff(*one) <= ROW_NUMBERS_GAP_MAX) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            let mut from = *first;
            loop {
                let read = runtime.block_on(table.cells(store, from, *last, REBUILD_ROWS_MAX));
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

/// One batch beside its rows.
struct Compared {
    changes: RowChanges,
    differences: Vec<Difference>,
    rows: u64,
}

impl Compared {
    /// A row that the log makes, under the number that is noted for it, and what is there.
    fn row(
        &mut self,
        table: &RowTable,
        store: &Store,
        from: (u64, Millis),
        number: Option<i64>,
        has: Option<&Vec<Cell>>,
        row: &[Value<'_>],
    ) {
        self.rows += 1;
        let cells: Vec<Cell> = row.iter().map(|value| store.stored_value(value)).collect();
        if has.is_some_and(|has| differing(table, has, &cells).is_empty()) {
            return;
        }
        match number {
            Some(number) => {
                self.changes.numbers.push(number);
                row.iter().for_each(|value| self.changes.restored.push(value));
            }
            None => {
                self.changes.from.push(from);
                row.iter().for_each(|value| self.changes.added.push(value));
            }
        }
        let key = named(from.0, number);
        self.differences.push(match has {
            None => Difference { key, has: None, should_have: "a row".to_owned() },
            Some(has) => {
                let (had, should_have) = (differing(table, has, &cells), differing(table, &cells, has));
                Difference { key, has: Some(had), should_have }
            }
        });
    }

    /// A row that the log does not make any more.
    fn extra(&mut self, place: &RowOrigin) {
        self.rows += 1;
        self.changes.removed.push(place.position);
        let key = named(place.position, Some(place.row));
        let has = Some("a row".to_owned());
        self.differences.push(Difference { key, has, should_have: "no row".to_owned() });
    }
}

fn named(position: u64, number: Option<i64>) -> String {
    match number {
        Some(number) => format!("position {position}, row {number}"),
        None => format!("position {position}"),
    }
}

/// The columns in which `cells` is not like `other`, with their beginnings.
fn differing(table: &RowTable, cells: &[Cell], other: &[Cell]) -> String {
    let columns = table.table().columns.iter().zip(cells.iter().zip(other));
    let shown = columns
        .filter(|(column, (cell, other))| !column.kind.keeps(cell, other) && !column.kind.keeps(other, cell))
        .map(|(column, (cell, _))| {
            let text = shown(column.kind, cell);
            let short = match text.char_indices().nth(SHOWN_CHARS_MAX) {
                Some((end, _)) => format!("{}...", &text[..end]),
                None => text,
            };
            format!("{} {short}", column.name)
        });
    shown.collect::<Vec<_>>().join(", ")
}
