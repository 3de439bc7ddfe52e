//! Tables with one row per event and no key. Their rows are numbered, found by the position of their event, repaired
//! and deleted, among rows that other programs inserted.

use std::sync::Arc;

use event::{Millis, Value};
use millrace::store::{Column, ColumnKind, Plan, RowChanges, RowsOf, Table, ViewTables};

use crate::harness::StoreKind;
use crate::opened::{LOG, Opened, claim, integer_of, text_of};

on_each_database!(
    rows_are_numbered_in_event_order_and_found_by_their_events,
    foreign_rows_are_left_alone,
    old_rows_are_deleted_a_few_at_a_time,
    the_number_of_a_deleted_row_is_not_used_again,
    rows_are_repaired_under_their_numbers,
);

fn table() -> Arc<Table> {
    let what = Column { name: "what".to_owned(), kind: ColumnKind::LongText, null: true };
    Arc::new(Table::numbered("t", "id", vec![what]))
}

struct View {
    opened: Opened,
    position: u64,
}

impl View {
    fn on(store_kind: StoreKind) -> Self {
        let opened = Opened::on(store_kind);
        opened.begin("v", ViewTables::owned(&table())).unwrap();
        Self { opened, position: 0 }
    }

    fn change(&mut self, changes: RowChanges) {
        let mut plan = Plan::new(claim("v", self.position, self.position + 1));
        plan.rows = Some(changes);
        self.opened.apply(plan).unwrap();
        self.position += 1;
    }

    /// Adds a row for each event. The receive time of an event is its position in seconds.
    fn add(&mut self, positions: &[u64]) {
        let mut changes = RowChanges::new(&table());
        for position in positions {
            changes.added.push(&Value::Text(format!("event {position}").into()));
            changes.from.push((*position, Millis(*position as i64 * 1_000)));
        }
        self.change(changes);
    }

    fn remove(&mut self, positions: &[u64]) {
        self.change(RowChanges { removed: positions.to_vec(), ..RowChanges::new(&table()) });
    }

    fn of(&self) -> RowsOf {
        RowsOf { view: "v".to_owned(), log: LOG, table: table() }
    }

    fn rows(&self) -> Vec<(i64, String)> {
        let rows = self.opened.rows("SELECT id, what FROM t ORDER BY id");
        rows.iter().map(|row| (integer_of(&row[0]), text_of(&row[1]).to_owned())).collect()
    }

    fn what(&self) -> Vec<String> {
        self.rows().into_iter().map(|(_, what)| what).collect()
    }

    /// Checks that the store knows the origin of each of the view's `count` rows.
    fn check_row_origins(&self, count: usize) {
        let origins = self.opened.run(self.opened.store.row_origins("v", LOG, 0, u64::MAX >> 1)).unwrap();
        assert_eq!(origins.len(), count);
        assert!(origins.windows(2).all(|pair| pair[0].position < pair[1].position));
        let rows = self.rows();
        for origin in origins {
            let found = rows.iter().find(|(id, _)| *id == origin.row).map(|(_, what)| what.as_str());
            assert_eq!(found, Some(format!("event {}", origin.position).as_str()));
            assert_eq!(origin.received, Millis(origin.position as i64 * 1_000));
        }
    }
}

fn rows_are_numbered_in_event_order_and_found_by_their_events(store_kind: StoreKind) {
    let mut view = View::on(store_kind);
    view.add(&[0, 2, 3]);
    view.add(&Vec::from_iter(10..3_000));
    view.add(&[3_000]);
    let rows = view.rows();
    assert_eq!(rows.len(), 2_994);
    let expected: Vec<String> =
        [0, 2, 3].into_iter().chain(10..=3_000).map(|n| format!("event {n}")).collect();
    assert_eq!(view.what(), expected, "in the order of events");
    view.check_row_origins(2_994);
    view.remove(&[2, 11, 2_999, 5_000]);
    assert_eq!(view.rows().len(), 2_991);
    assert!(!view.what().contains(&"event 2".to_owned()));
    view.check_row_origins(2_991);
    // An event may be undone in the plan that adds it.
    let mut changes = RowChanges::new(&table());
    for position in [4_000, 4_001] {
        changes.added.push(&Value::Text(format!("event {position}").into()));
        changes.from.push((position, Millis(position as i64 * 1_000)));
    }
    changes.removed = vec![4_000, 10];
    view.change(changes);
    assert_eq!(view.what().last().map(String::as_str), Some("event 4001"));
    view.check_row_origins(2_991);
    let all = Vec::from_iter(0..6_000);
    assert_eq!(view.opened.run(view.opened.store.delete_rows(view.of(), all)), Ok(2_991));
    assert_eq!(view.rows(), []);
    view.check_row_origins(0);
}

fn foreign_rows_are_left_alone(store_kind: StoreKind) {
    let mut view = View::on(store_kind);
    view.add(&[0, 1]);
    view.opened.stored.sql("INSERT INTO t (what) VALUES ('mine')");
    view.add(&[2, 3]);
    view.opened.stored.sql("INSERT INTO t (what) VALUES ('mine too')");
    assert_eq!(view.what(), ["event 0", "event 1", "mine", "event 2", "event 3", "mine too"]);
    view.check_row_origins(4);
    view.remove(&[1, 2]);
    assert_eq!(view.what(), ["event 0", "mine", "event 3", "mine too"]);
    let all = Vec::from_iter(0..10);
    assert_eq!(view.opened.run(view.opened.store.delete_rows(view.of(), all)), Ok(2));
    assert_eq!(view.what(), ["mine", "mine too"]);
}

fn old_rows_are_deleted_a_few_at_a_time(store_kind: StoreKind) {
    let mut view = View::on(store_kind);
    view.add(&Vec::from_iter(0..20));
    view.add(&Vec::from_iter(20..40));
    let delete = |view: &View| {
        let work = view.opened.store.delete_rows_below(view.of(), 25, 10);
        view.opened.run(work).unwrap()
    };
    let mut deleted = 0;
    while let count @ 1.. = delete(&view) {
        assert!(count <= 10);
        deleted += count;
        view.check_row_origins(40 - deleted);
    }
    assert_eq!(deleted, 25);
    assert_eq!(view.what()[0], "event 25");
}

fn the_number_of_a_deleted_row_is_not_used_again(store_kind: StoreKind) {
    let mut view = View::on(store_kind);
    view.add(&[0, 1, 2]);
    let last = view.rows()[2].0;
    view.opened.stored.sql("DELETE FROM t WHERE what <> 'event 0'");
    view.add(&[3]);
    assert!(view.rows()[1].0 > last, "{:?}", view.rows());
    // Another process, with another database session, sees the same.
    let again = view.opened.again();
    let rows = again.rows("SELECT max(id) FROM t");
    assert_eq!(integer_of(&rows[0][0]), view.rows()[1].0);
}

fn rows_are_repaired_under_their_numbers(store_kind: StoreKind) {
    let mut view = View::on(store_kind);
    view.add(&[0, 1, 2, 3]);
    let whole = view.rows();
    view.opened
        .stored
        .sql("UPDATE t SET what = NULL WHERE what = 'event 1'; DELETE FROM t WHERE what = 'event 3'");
    let mut changes = RowChanges::new(&table());
    for (number, what) in [&whole[1], &whole[3]] {
        changes.restored.push(&Value::Text(what.as_str().into()));
        changes.numbers.push(*number);
    }
    view.change(changes);
    assert_eq!(view.rows(), whole);
    view.add(&[4]);
    assert_eq!(view.what()[4], "event 4");
    view.check_row_origins(5);
}
