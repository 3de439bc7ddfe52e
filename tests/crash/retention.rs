//! What is given up and what is not: log, gate, views and store as they are, with a clock of the test's own.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use event::limits::BATCHES_BYTES_MAX;
use event::{EventId, Field, Fields, Kind, Millis, Progress, Stalled, Stop};
use millrace::dedup::{Dedup, STORED_NAME};
use millrace::log::{Ages, Entry, EventLog, Header, RecordBuilder, Shape};
use millrace::store::{Erasure, OpenErasure, RowsOf, Store};
use millrace::views::{
    Amount, ColumnSource, Ledger, Retention, RetentionPolicy, RowTable, Rule, Runner, Running, View,
    ViewKind, rebuild,
};
use rusqlite::Connection;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::harness::wait_for;

const DAY: i64 = 24 * 3600 * 1000;
/// All that a node declares: a ledger of sales, and a row a visit.
const ALL: &[&str] = &["sales", "visits"];

fn day(day: i64) -> Millis {
    Millis(day * DAY)
}

fn days(days: u64) -> Duration {
    Duration::from_secs(days * 24 * 3600)
}

/// Where events are in a folder of the test's, with a gate and views that are run when the test says so.
struct Node {
    folder: tempfile::TempDir,
    log: EventLog,
    store: Store,
    runtime: Runtime,
    progress: Progress,
    /// Where the log ended on which day.
    ends: RefCell<Vec<(Millis, u64)>>,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (log, _) = EventLog::open("journal:", folder.path()).unwrap();
        let runtime = Runtime::new().unwrap();
        let store = runtime.block_on(Store::open("sqlite:", None, folder.path())).unwrap();
        let (progress, ends) = (Progress::default(), RefCell::default());
        Self { folder, log, store, runtime, progress, ends }
    }

    /// Appends one event, received on that day, as the end of a part of the log.
    fn add(&self, stream: &str, received: i64, text: &str) -> u64 {
        let position = self.append(stream, received, &Entry { text, ..Entry::default() });
        self.log.seal().unwrap();
        position
    }

    fn append(&self, stream: &str, received: i64, entry: &Entry<'_>) -> u64 {
        let shape = Shape { corrections: entry.corrects.is_some(), ..Shape::default() };
        let mut record = RecordBuilder::new(&Header::of(stream, day(received)), shape, 0);
        record.push(entry);
        let position = self.runtime.block_on(self.log.append(&record)).unwrap();
        self.ends.borrow_mut().push((day(received), self.log.end()));
        position
    }

    fn sale(&self, received: i64) -> u64 {
        self.add("sales", received, r#"{"who":"ann","value":1.5}"#)
    }

    fn visit(&self, received: i64) -> u64 {
        self.add("visits", received, &format!(r#"{{"who":"visitor {received}"}}"#))
    }

    /// Runs the gate and these views while `meanwhile` does its work; they store where they are at their end.
    fn run(&self, views: &[&str], meanwhile: impl FnOnce(&Live<'_>)) {
        let stop = Stop::default();
        let handle = self.runtime.handle().clone();
        let dedup_progress = self.progress.register_dedup(STORED_NAME);
        let (dedup, gate_thread) =
            Dedup::start(&self.log, &self.store, days(7), dedup_progress, &stop, handle.clone()).unwrap();
        let mut threads = vec![gate_thread];
        let mut running = BTreeMap::new();
        for name in views {
            let (view, fields) = view(name);
            let runner = Runner {
                progress: self.progress.register(&view.name, &view.stream),
                view,
                fields: Arc::new(fields),
                log: self.log.clone(),
                store: self.store.clone(),
                dedup: dedup.clone(),
                budget: Arc::new(Semaphore::new(BATCHES_BYTES_MAX)),
                stop: stop.clone(),
                runtime: handle.clone(),
            };
            let (view, thread) = runner.start().unwrap();
            running.insert((*name).to_owned(), view);
            threads.push(thread);
        }
        meanwhile(&Live { node: self, running });
        stop.ask();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    /// Runs them until they are through.
    fn settle(&self, views: &[&str]) {
        self.run(views, |live| {
            live.settle();
        });
    }

    fn retention(&self, policy: RetentionPolicy, now: Millis) -> Retention {
        Retention {
            policy,
            ages: Ages::noted(now, &self.ends.borrow()),
            log: self.log.clone(),
            store: self.store.clone(),
            progress: self.progress.clone(),
            runtime: self.runtime.handle().clone(),
            stop: Stop::default(),
        }
    }

    /// One pass on that day, and where the log begins then.
    fn pass(&self, keep: &RetentionPolicy, today: i64) -> u64 {
        self.retention(keep.clone(), day(today)).pass().unwrap();
        self.log.begin()
    }

    fn database(&self) -> Connection {
        let connection = Connection::open(self.folder.path().join("millrace.db")).unwrap();
        connection.busy_timeout(Duration::from_secs(20)).unwrap();
        connection
    }

    fn text(&self, sql: &str) -> String {
        self.database().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    /// The positions whose texts are gone, and whether all others are there.
    fn blank(&self) -> Vec<u64> {
        let (mut reader, mut at, mut blank) = (self.log.reader(), self.log.begin(), Vec::new());
        while at < self.log.end() {
            for record in reader.read(at, 1 << 20).unwrap().iter() {
                let record = record.unwrap();
                at = record.end();
                for entry in record.entries() {
                    let (position, entry) = entry.unwrap();
                    if entry.erased() {
                        blank.push(position);
                    }
                }
            }
        }
        blank
    }
}

/// A node that runs.
struct Live<'a> {
    node: &'a Node,
    running: BTreeMap<String, Running>,
}

impl Live<'_> {
    fn settle(&self) {
        let end = self.node.log.end();
        let through = |name: &str| self.node.progress.all()[name].position == end;
        wait_for("gate and views to come through", || {
            through(STORED_NAME) && self.running.keys().all(|name| through(name))
        });
    }

    fn rebuild(&self, view: &str) -> Result<u64, String> {
        let Node { log, store, runtime, .. } = self.node;
        let report = rebuild(&self.running[view], log, store, runtime.handle(), &Stop::default());
        report.map(|report| report.difference_count).map_err(|error| error.to_string())
    }
}

fn view(name: &str) -> (View, Fields) {
    let field = |name: &str, kind| Field { name: name.to_owned(), kind, required: true, one_of: Vec::new() };
    let who = field("who", Kind::text(20));
    let (fields, kind) = match name {
        "sales" => {
            let rule = Rule::Always(Amount { field: 1, negative: false });
            let ledger = Ledger::new("balances", ["who", "value"], 0, rule);
            (Fields::new(vec![who, field("value", Kind::AMOUNT)], 0), ViewKind::Ledger(ledger))
        }
        _ => (Fields::new(vec![who], 0), ViewKind::Table(visits())),
    };
    (View { name: name.to_owned(), stream: name.to_owned(), kind }, fields)
}

fn visits() -> RowTable {
    let kind = Kind::text(20);
    let who = Field { name: "who".to_owned(), kind, required: true, one_of: Vec::new() };
    let columns = [("who".to_owned(), ColumnSource::Field { field: 0, default: None })];
    RowTable::new("visitors", "id", &columns, &Fields::new(vec![who], 0))
}

fn keep_log(keep: u64) -> RetentionPolicy {
    RetentionPolicy { log: Some(days(keep)), ..RetentionPolicy::default() }
}

#[test]
fn the_log_is_given_up_by_age_and_no_younger_than_that() {
    let node = Node::new();
    for received in [10, 20, 30] {
        node.sale(received);
    }
    node.settle(ALL);
    assert_eq!(node.pass(&keep_log(30), 40), 0, "just as old as what is kept");
    let a_moment_later = Millis(40 * DAY + 1);
    node.retention(keep_log(30), a_moment_later).pass().unwrap();
    assert_eq!(node.log.begin(), 1);
    assert_eq!(node.pass(&keep_log(30), 60), 2);
    assert_eq!(node.pass(&RetentionPolicy::default(), 1000), 2, "nothing is given up by itself");
    assert_eq!(node.text("SELECT value FROM balances"), "4.5", "what was counted stays counted");
}

#[test]
fn the_log_is_given_up_by_size_but_never_the_last_seven_days() {
    let node = Node::new();
    for received in [10, 50, 93, 95] {
        node.sale(received);
    }
    node.settle(ALL);
    let bytes = node.log.bytes();
    let most = |log_bytes| RetentionPolicy { log_bytes: Some(log_bytes), ..RetentionPolicy::default() };
    assert_eq!(node.pass(&most(bytes), 100), 0, "it is no more than that");
    assert_eq!(node.pass(&most(bytes - 1), 100), 1, "one part less is enough");
    assert_eq!(node.pass(&most(1), 100), 2, "from day 93 on it is young");
}

#[test]
fn times_of_a_wrong_clock_make_no_event_old_and_keep_none() {
    let node = Node::new();
    for stamped in [1, 5_000, 95] {
        let received = Header::of("sales", day(stamped));
        let mut record = RecordBuilder::new(&received, Shape::default(), 0);
        record.push(&Entry { text: r#"{"who":"ann","value":1.5}"#, ..Entry::default() });
        node.runtime.block_on(node.log.append(&record)).unwrap();
        node.log.seal().unwrap();
        // All of them came on the same day.
        node.ends.borrow_mut().push((day(95), node.log.end()));
    }
    node.settle(ALL);
    assert_eq!(node.pass(&keep_log(10), 100), 0);
    assert_eq!(node.pass(&keep_log(10), 106), 3);
}

#[test]
fn what_fills_slowly_is_ended_in_time() {
    let node = Node::new();
    node.append("sales", 1, &Entry { text: r#"{"who":"ann","value":1.5}"#, ..Entry::default() });
    node.settle(ALL);
    assert_eq!(node.pass(&keep_log(80), 11), 0);
    assert_eq!(node.log.segments().len(), 1, "an eighth of the time is not over yet");
    node.pass(&keep_log(80), 12);
    assert_eq!(node.log.segments().len(), 2);
    assert_eq!(node.pass(&keep_log(80), 82), 1);
}

#[test]
fn what_a_view_has_not_applied_is_kept() {
    let node = Node::new();
    node.sale(1);
    node.visit(1);
    node.settle(ALL);
    node.sale(2);
    node.visit(2);
    // Declared or not: it stands where it stood.
    node.settle(&["visits"]);
    assert_eq!(node.pass(&keep_log(7), 100), 2);
    node.settle(ALL);
    assert_eq!(node.pass(&keep_log(7), 100), 4);
    assert_eq!(node.text("SELECT value FROM balances"), "3");
    node.runtime.block_on(node.store.drop_view("sales")).unwrap();
    node.sale(3);
    let fresh = Node { progress: Progress::default(), ..node };
    fresh.settle(&["visits"]);
    assert_eq!(fresh.pass(&keep_log(7), 100), 5, "dropped, it holds nothing");
}

#[test]
fn what_a_view_could_not_even_begin_with_is_kept() {
    let node = Node::new();
    node.visit(1);
    node.sale(2);
    let wrong = "CREATE TABLE balances (who TEXT PRIMARY KEY, value INTEGER)";
    node.database().execute_batch(wrong).unwrap();
    node.run(ALL, |live| {
        let stalled = || node.progress.all()["sales"].stalled.clone();
        wait_for("the view to stand still", || matches!(stalled(), Some(Stalled::Paused(_))));
        wait_for("the other to come through", || node.progress.all()["visits"].position == 2);
        assert_eq!(node.pass(&keep_log(7), 100), 0);
        node.database().execute_batch("DROP TABLE balances").unwrap();
        live.settle();
    });
    assert_eq!(node.pass(&keep_log(7), 100), 2);
    assert_eq!(node.text("SELECT value FROM balances"), "1.5");
}

#[test]
fn a_view_that_begins_late_begins_where_the_log_does() {
    let node = Node::new();
    node.visit(1);
    node.run(ALL, |live| {
        live.settle();
        // The ledger has not begun, and is through with what it does not want.
        node.visit(2);
        live.settle();
    });
    assert_eq!(node.pass(&keep_log(7), 100), 2);
    node.run(ALL, |live| {
        node.sale(100);
        live.settle();
    });
    let position = node.runtime.block_on(node.store.position("sales", node.log.id())).unwrap();
    assert_eq!((position, node.text("SELECT value FROM balances").as_str()), (Some(3), "1.5"));
}

#[test]
fn what_a_correction_takes_back_is_kept_until_every_view_has_done_so() {
    let node = Node::new();
    node.sale(1);
    node.sale(1);
    node.settle(ALL);
    let correction = r#"{"takesBack":"..."}"#;
    node.append("sales", 1, &Entry { text: correction, corrects: Some(0), ..Entry::default() });
    node.log.seal().unwrap();
    assert_eq!(node.pass(&keep_log(7), 100), 0, "the gate has not seen it");
    node.settle(&["visits"]);
    assert_eq!(node.pass(&keep_log(7), 100), 0, "the ledger has not undone it");
    node.settle(ALL);
    assert_eq!(node.text("SELECT value FROM balances"), "1.5");
    assert_eq!(node.pass(&keep_log(7), 100), 3);
}

#[test]
fn what_is_to_be_erased_is_kept_until_it_is() {
    let node = Node::new();
    node.visit(1);
    node.visit(1);
    node.settle(ALL);
    let id = EventId::derived("erasure", "visits", "visitor 1");
    let erasure = Erasure {
        id,
        stream: "visits".to_owned(),
        field: "who".to_owned(),
        value_hash: String::new(),
        asked_by: "somebody".to_owned(),
        log: node.log.id(),
        events: 1,
        asked: day(1),
        done: None,
    };
    let open = OpenErasure { erasure, value: String::new(), positions: vec![1], undone: vec![1] };
    node.runtime.block_on(node.store.note_erasure(&open)).unwrap();
    assert_eq!(node.pass(&keep_log(7), 100), 0, "nothing goes while somebody is being erased");
    node.runtime.block_on(node.store.forget_erased(id)).unwrap();
    node.runtime.block_on(node.store.erasure_done(id, day(2))).unwrap();
    assert_eq!(node.pass(&keep_log(7), 100), 2);
}

#[test]
fn whoever_needs_the_past_has_it_to_the_end() {
    let node = Node::new();
    node.sale(1);
    node.visit(1);
    node.settle(ALL);
    let everything = keep_all_of(&node, 7, Some(7));
    let held = node.runtime.block_on(node.log.history_lock().hold());
    assert_eq!(node.pass(&everything, 100), 0);
    assert_eq!((node.blank(), node.text("SELECT count(*) || '' FROM visitors")), (vec![], "1".to_owned()));
    drop(held);
    assert_eq!(node.pass(&everything, 100), 2);
    assert_eq!(node.text("SELECT count(*) || '' FROM visitors"), "0");
}

/// Visits and their rows, and the log where it is said.
fn keep_all_of(node: &Node, visits_days: u64, log: Option<u64>) -> RetentionPolicy {
    let rows = RowsOf { view: "visits".to_owned(), log: node.log.id(), table: Arc::clone(visits().table()) };
    RetentionPolicy {
        log: log.map(days),
        streams: BTreeMap::from([("visits".to_owned(), days(visits_days))]),
        rows: vec![(rows, days(visits_days))],
        ..RetentionPolicy::default()
    }
}

#[test]
fn one_stream_is_given_up_among_others_and_its_rows_with_it() {
    let node = Node::new();
    for received in [1, 80, 95] {
        node.visit(received);
        node.sale(received);
    }
    node.settle(ALL);
    node.database().execute_batch("INSERT INTO visitors (who) VALUES ('one of my own')").unwrap();
    let keep = keep_all_of(&node, 20, None);
    let visitors = || node.text("SELECT group_concat(who) FROM (SELECT who FROM visitors ORDER BY id)");
    let none = RetentionPolicy {
        streams: BTreeMap::from([("nobody".to_owned(), days(7))]),
        ..RetentionPolicy::default()
    };
    node.pass(&none, 100);
    node.run(ALL, |live| assert_eq!(live.rebuild("visits"), Ok(0), "what is not there is not given up"));

    assert_eq!(node.pass(&keep, 100), 0, "the log begins where it began");
    assert_eq!((node.log.end(), node.blank()), (6, vec![0]), "of day 80, all is just as old as what is kept");
    assert_eq!(visitors(), "visitor 80,visitor 95,one of my own");
    node.retention(keep, Millis(100 * DAY + 1)).pass().unwrap();
    assert_eq!((node.log.end(), node.blank()), (6, vec![0, 2]));
    assert_eq!(visitors(), "visitor 95,one of my own");

    node.run(ALL, |live| {
        live.settle();
        let refused = live.rebuild("visits").unwrap_err();
        assert!(refused.starts_with("retention has deleted events below position"), "{refused}");
        assert_eq!(live.rebuild("sales"), Ok(0), "all of its events are there");
    });
    assert_eq!(
        (visitors().as_str(), node.text("SELECT value FROM balances").as_str()),
        ("visitor 95,one of my own", "4.5")
    );
}

#[test]
fn rows_that_were_given_up_are_not_put_back_by_a_rebuild() {
    let node = Node::new();
    node.visit(1);
    node.visit(95);
    node.settle(ALL);
    let keep = RetentionPolicy { streams: BTreeMap::new(), ..keep_all_of(&node, 20, None) };
    node.pass(&keep, 100);
    node.run(ALL, |live| {
        let refused = live.rebuild("visits").unwrap_err();
        assert!(refused.starts_with("retention has deleted old rows of view `visits`"), "{refused}");
    });
    assert_eq!(node.text("SELECT group_concat(who) FROM visitors"), "visitor 95");
}
