//! The claim. A plan is applied completely and once, and only from the position that it starts from, even if others
//! try the same.

use std::sync::{Arc, Barrier};

use event::{EventId, LogId, Millis};
use millrace::store::{
    Claim, ColumnKind, CorrectedEvent, DeadLetterChange, DeadLetterFilter, DefinitionChange, DefinitionHash,
    DefinitionReason, NewDeadLetter, NewDefinition, Plan, StoreError, Table, Verb, ViewTables,
};

use crate::harness::StoreKind;
use crate::opened::{LOG, Opened, amount, amount_of, claim, plan, text};

on_each_database!(
    a_plan_is_applied_from_its_position_and_only_once,
    a_committed_plan_whose_answer_was_lost_is_not_applied_again,
    a_plan_that_fails_in_the_middle_changes_nothing,
    racing_runners_count_each_amount_once,
    each_view_and_log_has_its_own_position,
    a_missing_table_is_named_and_changes_nothing,
    a_schema_of_a_newer_millrace_is_refused_in_one_line,
    a_view_that_has_begun_does_not_recreate_its_table,
    a_claim_with_another_definition_than_the_store_has_applies_nothing,
);

fn ledger() -> Arc<Table> {
    let columns = [("who", ColumnKind::Text { chars_max: 255 }), ("sum", ColumnKind::Decimal)];
    Arc::new(Table::new("ledger", 1, &columns))
}

fn begun(store_kind: StoreKind) -> (Opened, Arc<Table>) {
    let (opened, table) = (Opened::on(store_kind), ledger());
    opened.begin("v", ViewTables::owned(&table)).unwrap();
    (opened, table)
}

fn adding(table: &Arc<Table>, from: u64, to: u64, value: &str) -> Plan {
    plan(claim("v", from, to), table, Verb::Add, vec![text("a"), amount(value)])
}

fn sum(opened: &Opened) -> String {
    let rows = opened.rows("SELECT sum FROM ledger WHERE who = 'a'");
    rows.first().map(|row| amount_of(&row[0]).to_string()).unwrap_or_default()
}

fn a_plan_is_applied_from_its_position_and_only_once(store_kind: StoreKind) {
    let (opened, table) = begun(store_kind);
    assert_eq!(opened.position("v"), Some(0));
    assert_eq!(opened.apply(adding(&table, 0, 5, "1.5")), Ok(Vec::new()));
    let claimed =
        |expected, found| Err(StoreError::Claimed { view: "v".to_owned(), expected, found: Some(found) });
    assert_eq!(opened.apply(adding(&table, 0, 5, "1.5")), claimed(0, 5));
    assert_eq!(opened.apply(adding(&table, 6, 7, "1.5")), claimed(6, 5));
    assert_eq!((opened.position("v"), sum(&opened).as_str()), (Some(5), "1.5"));
    // A view that has not begun has no position, so it cannot be claimed.
    let unknown = plan(claim("w", 0, 1), &table, Verb::Add, vec![text("a"), amount("1")]);
    let found = StoreError::Claimed { view: "w".to_owned(), expected: 0, found: None };
    assert_eq!(opened.apply(unknown), Err(found));
    // One plan moves the view and writes nothing, the other writes and does not move it.
    assert_eq!(opened.apply(Plan::new(claim("v", 5, 9))), Ok(Vec::new()));
    assert_eq!(opened.apply(adding(&table, 9, 9, "-0.5")), Ok(Vec::new()));
    assert_eq!((opened.position("v"), sum(&opened).as_str()), (Some(9), "1"));
    // Another process reads the same.
    let other = opened.again();
    assert_eq!((other.position("v"), sum(&other).as_str()), (Some(9), "1"));
}

/// Applies the same plan several times, as the runner does after a lost answer.
fn a_committed_plan_whose_answer_was_lost_is_not_applied_again(store_kind: StoreKind) {
    let (opened, table) = begun(store_kind);
    for (from, to) in [(0, 5), (5, 5), (5, 9)] {
        let plan = Arc::new(adding(&table, from, to, "1.5"));
        for _ in 0..3 {
            assert_eq!(opened.run(opened.store.apply(Arc::clone(&plan))), Ok(Vec::new()));
        }
    }
    assert_eq!((opened.position("v"), sum(&opened).as_str()), (Some(9), "4.5"));
}

fn a_plan_that_fails_in_the_middle_changes_nothing(store_kind: StoreKind) {
    let (opened, table) = begun(store_kind);
    opened.apply(adding(&table, 0, 1, "1")).unwrap();
    let mut failing = adding(&table, 1, 2, "10");
    let gone = Table { name: "gone".to_owned(), ..Table::clone(&table) };
    failing.dead_letters.push(DeadLetterChange::New(NewDeadLetter {
        id: NewDeadLetter::id("v", LOG, 1),
        view: "v".to_owned(),
        position: 1,
        event_id: EventId::at(LOG, 1),
        stream: "s".to_owned(),
        reason: "why".to_owned(),
        event: "{}".to_owned(),
        at: Millis(0),
        delivery: None,
    }));
    failing.corrected.push(CorrectedEvent { position: 0, by: 1 });
    let mut missing = plan(claim("v", 1, 2), &Arc::new(gone), Verb::Add, vec![text("a"), amount("1")]);
    failing.writes.append(&mut missing.writes);
    let failed = opened.apply(failing.clone()).unwrap_err();
    assert!(matches!(failed, StoreError::NoTable(_)), "{failed:?}");
    let state = || {
        let dead_letters =
            opened.run(opened.store.dead_letters(&DeadLetterFilter::default(), None, 9)).unwrap().len();
        let corrected = opened.run(opened.store.corrected_by(LOG, 0)).unwrap();
        (opened.position("v"), sum(&opened), dead_letters, corrected)
    };
    assert_eq!(state(), (Some(1), "1".to_owned(), 0, None));
    failing.writes.pop();
    opened.apply(failing).unwrap();
    assert_eq!(state(), (Some(2), "11".to_owned(), 1, Some(1)));
}

fn racing_runners_count_each_amount_once(store_kind: StoreKind) {
    const STEPS: u64 = 20;
    let (opened, table) = begun(store_kind);
    let racers: Vec<Opened> = (0..3).map(|_| opened.again()).collect();
    let start = Barrier::new(racers.len());
    let won: Vec<u64> = std::thread::scope(|scope| {
        let race = |racer: &Opened| {
            let (mut position, mut won) = (0, 0);
            start.wait();
            while position < STEPS {
                match racer.apply(adding(&table, position, position + 1, "0.0001")) {
                    Ok(_) => (position, won) = (position + 1, won + 1),
                    Err(StoreError::Claimed { found: Some(found), .. }) => {
                        assert!(found > position, "{found} of {position}");
                        position = found;
                    }
                    Err(StoreError::Transient(_)) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
            won
        };
        let threads: Vec<_> = racers.iter().map(|racer| scope.spawn(move || race(racer))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(won.iter().sum::<u64>(), STEPS, "{won:?}");
    assert_eq!((opened.position("v"), sum(&opened).as_str()), (Some(STEPS), "0.002"));
}

fn each_view_and_log_has_its_own_position(store_kind: StoreKind) {
    let opened = Opened::on(store_kind);
    let other_log = LogId([0xff; 16]);
    // A case-insensitive or padding collation would treat these names as one.
    for (view, log, from) in [("v", LOG, 3), ("V", LOG, 4), ("v ", LOG, 5), ("v", other_log, u64::MAX >> 1)] {
        let begin = Claim { view: view.to_owned(), log, from, to: from, definition: None };
        opened.run(opened.store.begin_view(begin, ViewTables::default())).unwrap();
    }
    let position = |view, log| opened.run(opened.store.position(view, log)).unwrap();
    opened.apply(Plan::new(claim("v", 3, 30))).unwrap();
    assert_eq!(
        [position("v", LOG), position("V", LOG), position("v ", LOG), position("v", other_log)],
        [Some(30), Some(4), Some(5), Some(u64::MAX >> 1)]
    );
    assert_eq!(opened.run(opened.store.positions()).unwrap().len(), 4);
    // A second `begin_view` changes nothing.
    opened.run(opened.store.begin_view(claim("v", 3, 3), ViewTables::default())).unwrap();
    assert_eq!(position("v", LOG), Some(30));
}

fn a_missing_table_is_named_and_changes_nothing(store_kind: StoreKind) {
    let (opened, table) = begun(store_kind);
    opened.apply(adding(&table, 0, 1, "1")).unwrap();
    opened.stored.sql("ALTER TABLE ledger RENAME TO away");
    let missing = StoreError::NoTable("ledger".to_owned());
    assert_eq!(opened.apply(adding(&table, 1, 2, "1")), Err(missing.clone()));
    let read = opened.run(opened.store.rows("SELECT sum FROM ledger".to_owned(), Vec::new()));
    assert_eq!(read, Err(missing));
    assert_eq!(opened.position("v"), Some(1));
    opened.stored.sql("ALTER TABLE away RENAME TO ledger");
    opened.apply(adding(&table, 1, 2, "1")).unwrap();
    assert_eq!(sum(&opened), "2");
}

fn a_view_that_has_begun_does_not_recreate_its_table(store_kind: StoreKind) {
    let (opened, table) = begun(store_kind);
    opened.apply(adding(&table, 0, 1, "1")).unwrap();
    opened.begin("v", ViewTables::owned(&table)).unwrap();
    opened.stored.sql("DROP TABLE ledger");
    let missing = StoreError::NoTable("ledger".to_owned());
    assert_eq!(opened.begin("v", ViewTables::owned(&table)), Err(missing));
}

fn a_schema_of_a_newer_millrace_is_refused_in_one_line(store_kind: StoreKind) {
    let opened = Opened::on(store_kind);
    let version = store_kind.pick(["1000", "'1000'", "'1000'"]);
    opened.stored.sql(&format!("UPDATE millrace_meta SET value = {version} WHERE name = 'schema'"));
    let refused = opened.try_again().map(drop).unwrap_err();
    assert!(refused.contains("1000") && refused.contains("newer"), "{refused}");
    assert!(!refused.contains('\n') && !refused.contains("secret"), "{refused}");
}

fn defined(number: u8) -> NewDefinition {
    NewDefinition { hash: DefinitionHash([number; 32]), text: format!("definition {number}") }
}

fn a_claim_with_another_definition_than_the_store_has_applies_nothing(store_kind: StoreKind) {
    let (opened, table) = (Opened::on(store_kind), ledger());
    let under =
        |number: u8, from, to| Claim { definition: Some(defined(number).hash), ..claim("v", from, to) };
    let adding = |claim| plan(claim, &table, Verb::Add, vec![text("a"), amount("1.5")]);
    let redefined = || Err(StoreError::Redefined("v".to_owned()));
    let tables = ViewTables { definition: Some(defined(1)), ..ViewTables::owned(&table) };
    opened.begin("v", tables).unwrap();
    assert_eq!(opened.apply(adding(under(1, 0, 5))), Ok(Vec::new()));
    assert_eq!(opened.apply(adding(under(2, 5, 7))), redefined());
    assert_eq!(opened.apply(adding(claim("v", 5, 7))), redefined(), "no definition at all");
    let definitions = || {
        let stored = opened.run(opened.store.definitions("v", LOG)).unwrap();
        stored.into_iter().map(|stored| (stored.from, stored.text)).collect::<Vec<_>>()
    };
    assert_eq!(definitions(), [(0, defined(1).text)]);

    // The server repeats the plan if the answer to its commit is lost.
    let change = |reason| DefinitionChange { from: 5, definition: defined(2), reason };
    let accept = Plan { definition: Some(change(DefinitionReason::Accepted)), ..Plan::new(under(1, 5, 5)) };
    for _ in 0..2 {
        assert_eq!(opened.apply(accept.clone()), Ok(Vec::new()));
        assert_eq!(definitions(), [(0, defined(1).text), (5, defined(2).text)]);
    }
    assert_eq!(opened.apply(adding(under(1, 5, 7))), redefined());
    assert_eq!(opened.apply(adding(under(2, 5, 7))), Ok(Vec::new()));
    assert_eq!((opened.position("v"), sum(&opened).as_str()), (Some(7), "3"));

    // While a rebuild replaces rows, no definition is in force.
    let begins = Plan {
        definition: Some(DefinitionChange { from: 0, ..change(DefinitionReason::RebuildBegins) }),
        ..Plan::new(under(2, 7, 7))
    };
    assert_eq!(opened.apply(begins), Ok(Vec::new()));
    assert_eq!(definitions(), [(0, defined(2).text)]);
    assert_eq!(opened.apply(adding(under(2, 7, 9))), redefined());
    let rebuilding = Claim { definition: Some(DefinitionHash::REBUILDING), ..claim("v", 7, 7) };
    let ends = Plan {
        definition: Some(DefinitionChange { from: 0, ..change(DefinitionReason::RebuildEnds) }),
        ..Plan::new(rebuilding)
    };
    assert_eq!(opened.apply(ends), Ok(Vec::new()));
    assert_eq!(opened.apply(adding(under(2, 7, 9))), Ok(Vec::new()));
}
