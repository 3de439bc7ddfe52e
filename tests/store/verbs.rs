//! The verbs of a plan, which say how its rows change existing rows. Simple models compute the expected results.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millrace::store::{
    Cell, ColumnKind, MEMBER_BYTES, MemberKey, NewDelivery, NotificationChange, NotificationChanges,
    NotificationTables, Plan, QueuedNotification, Table, TopK, Verb, ViewTables, Visit, Visits,
};

use crate::harness::StoreKind;
use crate::opened::{Opened, amount, amount_of, claim, integer_of, plan, text, text_of};

on_each_database!(
    amounts_are_added_to_existing_ones,
    an_amount_is_added_to_a_null_amount,
    an_existing_row_is_left_unchanged,
    only_queued_notifications_are_cancelled_with_their_deliveries,
    a_count_of_zero_is_deleted_and_the_ranking_follows,
    members_over_any_days_are_counted_as_by_a_full_scan,
    a_batch_may_be_large,
);

const NAME: ColumnKind = ColumnKind::Text { chars_max: 255 };

/// Returns a generator of pseudo-random numbers that are the same in every run.
fn pseudo_random(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

fn begun(store_kind: StoreKind, tables: Vec<Table>) -> Opened {
    let opened = Opened::on(store_kind);
    opened.begin("v", ViewTables { tables, owned: true, ..ViewTables::default() }).unwrap();
    opened
}

/// Applies verbs, one plan after another.
struct Steps<'o> {
    opened: &'o Opened,
    position: u64,
}

impl Steps<'_> {
    fn apply(&mut self, table: &Arc<Table>, verb: Verb, cells: Vec<Cell>) {
        let claim = claim("v", self.position, self.position + 1);
        self.opened.apply(plan(claim, table, verb, cells)).unwrap();
        self.position += 1;
    }

    fn notify(&mut self, tables: &NotificationTables, changes: Vec<NotificationChange>) {
        let claim = claim("v", self.position, self.position + 1);
        let notifications = Some(NotificationChanges { tables: tables.clone(), changes });
        self.opened.apply(Plan { notifications, ..Plan::new(claim) }).unwrap();
        self.position += 1;
    }
}

fn tables(whole: &Arc<Table>) -> NotificationTables {
    let queued = Table { columns: whole.columns[..2].to_vec(), unique: None, ..Table::clone(whole) };
    NotificationTables { whole: Arc::clone(whole), queued: Arc::new(queued) }
}

fn queue<const N: usize>(row: [Cell; N]) -> NotificationChange {
    let id = text_of(&row[0]).to_owned();
    let delivery =
        NewDelivery { destination: "log".to_owned(), lane: "log".to_owned(), content: "{}".to_owned() };
    let deliveries = vec![delivery];
    NotificationChange::Queue(QueuedNotification { id, position: 0, row: row.into(), deliveries })
}

fn amounts_are_added_to_existing_ones(store_kind: StoreKind) {
    let columns = [("who", NAME), ("number", ColumnKind::Integer), ("sum", ColumnKind::Decimal)];
    let table = Arc::new(Table::new("t", 1, &columns));
    let opened = begun(store_kind, vec![Table::clone(&table)]);
    let mut steps = Steps { opened: &opened, position: 0 };
    let mut model: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    let mut draw = pseudo_random(1);
    for _ in 0..12 {
        let mut batch: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        for _ in 0..30 {
            let (number, sum) = (draw(2_000) as i64 - 1_000, draw(2_000_000) as i64 - 1_000_000);
            batch.insert(format!("user {}", draw(40)), (number, sum));
        }
        for (who, (number, sum)) in &batch {
            let entry = model.entry(who.clone()).or_default();
            *entry = (entry.0 + number, entry.1 + sum);
        }
        let row = |(who, (number, sum)): (&String, &(i64, i64))| {
            let sum = format!(
                "{}{}.{:04}",
                if *sum < 0 { "-" } else { "" },
                sum.abs() / 10_000,
                sum.abs() % 10_000
            );
            [text(who), Cell::Integer(*number), amount(&sum)]
        };
        steps.apply(&table, Verb::Add, batch.iter().flat_map(row).collect());
    }
    let found: BTreeMap<String, (i64, i64)> = opened
        .rows("SELECT who, number, sum FROM t")
        .iter()
        .map(|row| {
            let sum: f64 = amount_of(&row[2]).to_string().parse().unwrap();
            (text_of(&row[0]).to_owned(), (integer_of(&row[1]), (sum * 10_000.0).round() as i64))
        })
        .collect();
    assert_eq!(found, model);
}

/// A user's table may have rows without an amount.
fn an_amount_is_added_to_a_null_amount(store_kind: StoreKind) {
    let opened = Opened::on(store_kind);
    opened
        .stored
        .sql("CREATE TABLE t (who {key} PRIMARY KEY, sum {amount}); INSERT INTO t VALUES ('a', NULL)");
    let table = Arc::new(Table::new("t", 1, &[("who", NAME), ("sum", ColumnKind::Decimal)]));
    opened.begin("v", ViewTables::owned(&table)).unwrap();
    let mut steps = Steps { opened: &opened, position: 0 };
    for value in ["1.5", "2"] {
        steps.apply(&table, Verb::Add, vec![text("a"), amount(value)]);
    }
    assert_eq!(amount_of(&opened.rows("SELECT sum FROM t")[0][0]).to_string(), "3.5");
}

fn an_existing_row_is_left_unchanged(store_kind: StoreKind) {
    let columns = [("who", NAME), ("other", NAME), ("more?", ColumnKind::LongText)];
    let table = Arc::new(Table { unique: Some(1), ..Table::new("t", 1, &columns) });
    let opened = begun(store_kind, vec![Table::clone(&table)]);
    let mut steps = Steps { opened: &opened, position: 0 };
    let row = |key: &str, other: &str, more: &str| {
        let more = if more.is_empty() { Cell::Null } else { text(more) };
        [text(key), text(other), more]
    };
    let tables = tables(&table);
    steps.notify(&tables, [row("a", "1", "first"), row("b", "2", "")].map(queue).into());
    // One row exists by its key, one by its unique column, one not at all.
    let again = [row("a", "9", "second"), row("c", "2", "second"), row("A", "3", "new")];
    steps.notify(&tables, again.map(queue).into());
    let found = opened.stored.sql("SELECT who, other, more FROM t ORDER BY other");
    assert_eq!(found, "a\t1\tfirst\nb\t2\tNULL\nA\t3\tnew");
}

fn only_queued_notifications_are_cancelled_with_their_deliveries(store_kind: StoreKind) {
    let columns = [("who", NAME), ("status", NAME), ("sum", ColumnKind::Decimal)];
    let table = Arc::new(Table::new("t", 1, &columns));
    let opened = begun(store_kind, vec![Table::clone(&table)]);
    let mut steps = Steps { opened: &opened, position: 0 };
    let tables = tables(&table);
    let row = |(key, status): (&str, &str)| queue([text(key), text(status), amount("1.5")]);
    let rows = [("a", "QUEUED"), ("b", "SENT"), ("c", "queued"), ("A", "QUEUED"), ("a ", "QUEUED")];
    steps.notify(&tables, rows.map(row).into());
    let cancel = |id: &str| NotificationChange::Cancel { id: id.to_owned() };
    steps.notify(&tables, ["a", "b", "nobody", "c"].map(cancel).into());
    let ids = |sql: &str| -> BTreeSet<String> {
        opened.rows(sql).iter().map(|row| text_of(&row[0]).to_owned()).collect()
    };
    let left = BTreeSet::from(["A", "a ", "b", "c"].map(str::to_owned));
    assert_eq!(ids("SELECT who FROM t"), left);
    assert_eq!(ids("SELECT notification FROM millrace_deliveries"), left);
    assert_eq!(ids("SELECT notification FROM millrace_delivery_contents"), left);
}

fn counts() -> Table {
    let ranking = TopK { top_table: "top".to_owned(), floor_table: "top_floor".to_owned(), limit_max: 10 };
    let columns = [("grp", NAME), ("day", ColumnKind::Integer), ("value", NAME), ("n", ColumnKind::Integer)];
    Table { ranking: Some(ranking), ..Table::new("counts", 3, &columns) }
}

/// Values that collations sort differently from bytes.
const VALUES: [&str; 12] = ["", "a", "A", "b", "B", "é", "e", "a ", "z", "😀", "_", "10"];

fn a_count_of_zero_is_deleted_and_the_ranking_follows(store_kind: StoreKind) {
    let table = Arc::new(counts());
    let opened = begun(store_kind, vec![Table::clone(&table)]);
    let mut steps = Steps { opened: &opened, position: 0 };
    let mut model: BTreeMap<(String, i64, String), i64> = BTreeMap::new();
    let mut draw = pseudo_random(2);
    for _ in 0..25 {
        let mut batch: BTreeMap<(String, i64, String), i64> = BTreeMap::new();
        for _ in 0..20 {
            let value = match draw(3) {
                0 => format!("value {}", draw(60)),
                _ => VALUES[draw(VALUES.len() as u64) as usize].to_owned(),
            };
            let key = (["g", "G"][draw(2) as usize].to_owned(), draw(2) as i64, value);
            let entry = model.entry(key.clone()).or_default();
            // Only what was counted can be subtracted.
            let change = if draw(5) < 2 { -(draw(4) as i64).min(*entry) } else { 1 + draw(3) as i64 };
            *entry += change;
            *batch.entry(key).or_default() += change;
        }
        let row = |((group, day, value), n): (&(String, i64, String), &i64)| {
            [text(group), Cell::Integer(*day), text(value), Cell::Integer(*n)]
        };
        steps.apply(&table, Verb::Tally, batch.iter().filter(|(_, n)| **n != 0).flat_map(row).collect());
        model.retain(|_, n| *n != 0);
        assert_eq!(opened.rows("SELECT n FROM counts").len(), model.len(), "a count of 0 is deleted");
        for (group, day) in [("g", 0), ("g", 1), ("G", 0), ("G", 1)] {
            let ranking = table.ranking.as_ref().unwrap();
            let select = opened.store.top(&table, ranking, vec![text(group), Cell::Integer(day)], 5);
            let top = opened.run(opened.store.rows(select.sql, select.parameters)).unwrap();
            let top: Vec<(&str, i64)> =
                top.iter().map(|row| (text_of(&row[0]), integer_of(&row[1]))).collect();
            let of_group = model.iter().filter(|((of, on, _), _)| (of.as_str(), *on) == (group, day));
            let mut scanned: Vec<(&str, i64)> =
                of_group.map(|((_, _, value), n)| (value.as_str(), *n)).collect();
            scanned.sort_by_key(|(value, n)| (-n, value.is_empty(), value.as_bytes()));
            scanned.truncate(5);
            assert_eq!(top, scanned);
        }
    }
}

fn member_key(member: &str, group: &str) -> MemberKey {
    let mut key = MemberKey::default();
    let name = format!("{member}/{group}");
    key[..name.len()].copy_from_slice(name.as_bytes());
    key
}

fn members_over_any_days_are_counted_as_by_a_full_scan(store_kind: StoreKind) {
    let number = ColumnKind::Integer;
    let gaps = [("grp", NAME), ("day", number), ("before", number), ("n", number)];
    let gaps = Arc::new(Table::new("gaps", 3, &gaps));
    let columns =
        [("member", ColumnKind::Bytes { bytes_max: MEMBER_BYTES as u32 }), ("day", number), ("n", number)];
    let members = Arc::new(Table::new("visits", 2, &columns));
    let opened = begun(store_kind, vec![Table::clone(&members), Table::clone(&gaps)]);
    let mut model: BTreeMap<(&str, &str, i64), i64> = BTreeMap::new();
    let mut draw = pseudo_random(3);
    for position in 0..20 {
        // In the order of members and days. A member's key contains its group.
        let mut batch: BTreeMap<(MemberKey, i64, &str), i64> = BTreeMap::new();
        for _ in 0..10 {
            let group = ["g", "G", "g "][draw(3) as usize];
            let (member, day) = (VALUES[draw(5) as usize], 1 + draw(8) as i64);
            let entry = model.entry((group, member, day)).or_default();
            let change = if *entry == 0 || draw(5) < 3 { 1 } else { -1 };
            *entry += change;
            *batch.entry((member_key(member, group), day, group)).or_default() += change;
        }
        let visit = |((member, day, group), added): ((MemberKey, i64, &str), i64)| Visit {
            member,
            day,
            added,
            group: [text(group)].into(),
        };
        let changes = batch.into_iter().filter(|(_, added)| *added != 0).map(visit).collect();
        let mut plan = Plan::new(claim("v", position, position + 1));
        plan.visits = Some(Visits::new(&members, &gaps, changes));
        opened.apply(plan).unwrap();
        model.retain(|_, n| *n != 0);
    }
    let gaps: Vec<(String, i64, i64, i64)> = opened
        .rows("SELECT grp, day, \"before\", n FROM gaps")
        .iter()
        .map(|row| {
            (text_of(&row[0]).to_owned(), integer_of(&row[1]), integer_of(&row[2]), integer_of(&row[3]))
        })
        .collect();
    assert!(gaps.iter().all(|(.., n)| *n > 0), "{gaps:?}");
    for group in ["g", "G", "g "] {
        for (from, to) in (1..=8).flat_map(|from| (from..=8).map(move |to| (from, to))) {
            let visits = model.keys().filter(|(of, _, day)| *of == group && (from..=to).contains(day));
            let members = visits.map(|(_, member, _)| *member).collect::<BTreeSet<&str>>().len() as i64;
            let first_in = |(of, day, before, _): &&(String, i64, i64, i64)| {
                of == group && (from..=to).contains(day) && *before < from
            };
            let counted: i64 = gaps.iter().filter(first_in).map(|(.., n)| n).sum();
            assert_eq!(counted, members, "{group}: days {from} to {to}");
        }
    }
    assert_eq!(opened.rows("SELECT n FROM visits").len(), model.len());
}

/// More parameters than a statement can have, and more bytes than a small packet.
fn a_batch_may_be_large(store_kind: StoreKind) {
    let columns = [("who", NAME), ("sum", ColumnKind::Decimal)];
    let table = Arc::new(Table::new("t", 1, &columns));
    let opened = begun(store_kind, vec![Table::clone(&table)]);
    let mut steps = Steps { opened: &opened, position: 0 };
    let cells = |value: &str| -> Vec<Cell> {
        let row = |number: i32| [text(&format!("{number:05}{}", "x".repeat(200))), amount(value)];
        (0..40_000).flat_map(row).collect()
    };
    steps.apply(&table, Verb::Add, cells("1.25"));
    steps.apply(&table, Verb::Add, cells("0.25"));
    assert_eq!(opened.stored.sql("SELECT count(*) FROM t"), "40000");
    let last = opened.rows("SELECT sum FROM t WHERE who LIKE '39999%'");
    assert_eq!(amount_of(&last[0][0]).to_string(), "1.5");
}
