//! Tests of retention: what it deletes and what it keeps. Log, dedup, views and store are real; the test sets the
//! time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use event::limits::BATCHES_BYTES_MAX;
use event::{EventId, Field, Fields, Kind, Millis, Progress, Stalled, Stop};
use millrace::dedup::{Dedup, Windows};
use millrace::log::{Ages, Entry, EventLog, Header, RecordBuilder, Shape};
use millrace::store::{DEDUP_NAME, Erasure, OpenErasure, Store};
use millrace::views::{
    Amount, ByteCount, Changes, ColumnSource, Definition, KeptFor, Ledger, Retention, RetentionPolicy,
    RowTable, Rule, Runner, Running, View, ViewKind, rebuild,
};
use rusqlite::Connection;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::harness::wait_for;

const DAY: i64 = 24 * 3600 * 1000;
/// All views of a node: a ledger of sales, and a table with a row per visit.
const ALL: &[&str] = &["sales", "visits"];

fn day(day: i64) -> Millis {
    Millis(day * DAY)
}

fn days(days: u64) -> Duration {
    Duration::from_secs(days * 24 * 3600)
}

/// A log and a store in a temporary folder. Dedup and views run only when the test calls `run`.
struct Node {
    folder: tempfile::TempDir,
    log: EventLog,
    store: Store,
    runtime: Runtime,
    progress: Progress,
    /// Times, each with the end of the log at that time.
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

    /// Appends one event that was received on that day, and seals the segment.
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

    /// Runs dedup and these views during `meanwhile`, then stops them. They store their positions when they stop.
    fn run(&self, views: &[&str], meanwhile: impl FnOnce(&Live<'_>)) {
        let stop = Stop::default();
        let handle = self.runtime.handle().clone();
        let dedup_progress = self.progress.register_dedup(DEDUP_NAME);
        let windows = Windows { default: days(7), all: vec![days(7)] };
        let (dedup, dedup_thread) =
            Dedup::start(&self.log, &self.store, windows, dedup_progress, &stop, handle.clone()).unwrap();
        let mut threads = vec![dedup_thread];
        let mut running = BTreeMap::new();
        for name in views {
            let (view, fields) = view(name);
            let runner = Runner {
                progress: self.progress.register(&view.name, &view.stream),
                definition: Arc::new(Definition::of(&view, &fields)),
                view,
                fields: Arc::new(fields),
                log: self.log.clone(),
                store: self.store.clone(),
                dedup: dedup.clone(),
                changes: Changes::default(),
                queued: tokio::sync::watch::Sender::new(()),
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

    /// Runs dedup and these views until they have applied the whole log.
    fn settle(&self, views: &[&str]) {
        self.run(views, |live| {
            live.settle();
        });
    }

    fn retention(&self, policy: RetentionPolicy, now: Millis) -> Retention {
        Retention {
            policy,
            views: BTreeMap::from([("visits".to_owned(), view("visits").0)]),
            ages: Ages::noted(now, &self.ends.borrow()),
            log: self.log.clone(),
            store: self.store.clone(),
            progress: self.progress.clone(),
            runtime: self.runtime.handle().clone(),
            stop: Stop::default(),
        }
    }

    /// Runs retention once, as if on that day. Returns the beginning of the log after it.
    fn pass(&self, policy: &RetentionPolicy, today: i64) -> u64 {
        self.retention(policy.clone(), day(today)).pass().unwrap();
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

    /// Returns the positions of the erased events. Panics if another event cannot be read.
    fn erased(&self) -> Vec<u64> {
        let (mut reader, mut at, mut erased) = (self.log.reader(), self.log.begin(), Vec::new());
        while at < self.log.end() {
            for record in reader.read(at, 1 << 20).unwrap().iter() {
                let record = record.unwrap();
                at = record.end();
                for entry in record.entries() {
                    let (position, entry) = entry.unwrap();
                    if entry.erased() {
                        erased.push(position);
                    }
                }
            }
        }
        erased
    }
}

/// A node whose dedup and views run.
struct Live<'a> {
    node: &'a Node,
    running: BTreeMap<String, Running>,
}

impl Live<'_> {
    fn settle(&self) {
        let end = self.node.log.end();
        let caught_up = |name: &str| self.node.progress.all()[name].position == end;
        wait_for("dedup and views to catch up", || {
            caught_up(DEDUP_NAME) && self.running.keys().all(|name| caught_up(name))
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
    (View { name: name.to_owned(), stream: name.to_owned(), kind, batch: None }, fields)
}

fn visits() -> RowTable {
    let kind = Kind::text(20);
    let who = Field { name: "who".to_owned(), kind, required: true, one_of: Vec::new() };
    let columns = [("who".to_owned(), ColumnSource::Field { field: 0, default: None })];
    RowTable::new("visitors", "id", &columns, &Fields::new(vec![who], 0))
}

fn keep_log(keep: u64) -> RetentionPolicy {
    RetentionPolicy { log: Some(KeptFor(days(keep))), ..RetentionPolicy::default() }
}

#[test]
fn the_log_is_deleted_by_age_and_only_beyond_that_age() {
    let node = Node::new();
    for received in [10, 20, 30] {
        node.sale(received);
    }
    node.settle(ALL);
    assert_eq!(node.pass(&keep_log(30), 40), 0, "exactly at the limit");
    let a_moment_later = Millis(40 * DAY + 1);
    node.retention(keep_log(30), a_moment_later).pass().unwrap();
    assert_eq!(node.log.begin(), 1);
    assert_eq!(node.pass(&keep_log(30), 60), 2);
    assert_eq!(node.pass(&RetentionPolicy::default(), 1000), 2, "nothing is deleted without a limit");
    assert_eq!(node.text("SELECT value FROM balances"), "4.5", "a deleted event stays counted");
}

#[test]
fn the_log_is_deleted_by_size_but_never_the_last_seven_days() {
    let node = Node::new();
    for received in [10, 50, 93, 95] {
        node.sale(received);
    }
    node.settle(ALL);
    let bytes = node.log.bytes();
    let most =
        |log_bytes| RetentionPolicy { log_bytes: Some(ByteCount(log_bytes)), ..RetentionPolicy::default() };
    assert_eq!(node.pass(&most(bytes), 100), 0, "the log is not larger than the limit");
    assert_eq!(node.pass(&most(bytes - 1), 100), 1, "deleting one segment is enough");
    assert_eq!(node.pass(&most(1), 100), 2, "events from day 93 on are too new");
}

#[test]
fn receive_times_of_a_wrong_clock_do_not_change_when_an_event_is_deleted() {
    let node = Node::new();
    for stamped in [1, 5_000, 95] {
        let received = Header::of("sales", day(stamped));
        let mut record = RecordBuilder::new(&received, Shape::default(), 0);
        record.push(&Entry { text: r#"{"who":"ann","value":1.5}"#, ..Entry::default() });
        node.runtime.block_on(node.log.append(&record)).unwrap();
        node.log.seal().unwrap();
        // All events arrived on the same day.
        node.ends.borrow_mut().push((day(95), node.log.end()));
    }
    node.settle(ALL);
    assert_eq!(node.pass(&keep_log(10), 100), 0);
    assert_eq!(node.pass(&keep_log(10), 106), 3);
}

#[test]
fn a_slowly_filling_segment_is_sealed_in_time_for_retention() {
    let node = Node::new();
    node.append("sales", 1, &Entry { text: r#"{"who":"ann","value":1.5}"#, ..Entry::default() });
    node.settle(ALL);
    assert_eq!(node.pass(&keep_log(80), 11), 0);
    assert_eq!(node.log.segments().len(), 1, "less than an eighth of the retention time has passed");
    node.pass(&keep_log(80), 12);
    assert_eq!(node.log.segments().len(), 2);
    assert_eq!(node.pass(&keep_log(80), 82), 1);
}

#[test]
fn events_that_a_view_has_not_applied_are_kept() {
    let node = Node::new();
    node.sale(1);
    node.visit(1);
    node.settle(ALL);
    node.sale(2);
    node.visit(2);
    // A view that does not run keeps its position, configured or not.
    node.settle(&["visits"]);
    assert_eq!(node.pass(&keep_log(7), 100), 2);
    node.settle(ALL);
    assert_eq!(node.pass(&keep_log(7), 100), 4);
    assert_eq!(node.text("SELECT value FROM balances"), "3");
    node.runtime.block_on(node.store.drop_view("sales")).unwrap();
    node.sale(3);
    let fresh = Node { progress: Progress::default(), ..node };
    fresh.settle(&["visits"]);
    assert_eq!(fresh.pass(&keep_log(7), 100), 5, "a dropped view keeps no events");
}

#[test]
fn events_are_kept_for_a_view_that_could_not_begin() {
    let node = Node::new();
    node.visit(1);
    node.sale(2);
    let wrong_type = "CREATE TABLE balances (who TEXT PRIMARY KEY, value INTEGER)";
    node.database().execute_batch(wrong_type).unwrap();
    // Dedup and the other view have stored positions behind the sale, so only the paused view keeps events.
    node.settle(&["visits"]);
    node.run(ALL, |live| {
        let stalled = || node.progress.all()["sales"].stalled.clone();
        wait_for("the view to be paused", || matches!(stalled(), Some(Stalled::Paused(_))));
        wait_for("the other view to catch up", || node.progress.all()["visits"].position == 2);
        assert_eq!(node.pass(&keep_log(7), 100), 0);
        node.database().execute_batch("DROP TABLE balances").unwrap();
        live.settle();
    });
    assert_eq!(node.pass(&keep_log(7), 100), 2);
    assert_eq!(node.text("SELECT value FROM balances"), "1.5");
}

#[test]
fn a_view_that_begins_late_begins_where_the_log_begins() {
    let node = Node::new();
    node.visit(1);
    node.run(ALL, |live| {
        live.settle();
        // The ledger has not begun: so far there are only events of the other stream.
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
fn a_corrected_event_is_kept_until_every_view_has_undone_it() {
    let node = Node::new();
    node.sale(1);
    node.sale(1);
    node.settle(ALL);
    let correction = r#"{"takesBack":"..."}"#;
    node.append("sales", 1, &Entry { text: correction, corrects: Some(0), ..Entry::default() });
    node.log.seal().unwrap();
    assert_eq!(node.pass(&keep_log(7), 100), 0, "dedup has not read the correction");
    node.settle(&["visits"]);
    assert_eq!(node.pass(&keep_log(7), 100), 0, "the ledger has not undone it");
    node.settle(ALL);
    assert_eq!(node.text("SELECT value FROM balances"), "1.5");
    assert_eq!(node.pass(&keep_log(7), 100), 3);
}

#[test]
fn an_event_to_be_erased_is_kept_until_the_erasure_is_done() {
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
    assert_eq!(node.pass(&keep_log(7), 100), 0, "nothing is deleted while an erasure is open");
    node.runtime.block_on(node.store.forget_erased(id)).unwrap();
    node.runtime.block_on(node.store.erasure_done(id, day(2))).unwrap();
    assert_eq!(node.pass(&keep_log(7), 100), 2);
}

#[test]
fn retention_deletes_nothing_while_the_history_lock_is_held() {
    let node = Node::new();
    node.sale(1);
    node.visit(1);
    node.settle(ALL);
    let everything = keep_visits(7, Some(7));
    let lock = node.runtime.block_on(node.log.history_lock().hold());
    assert_eq!(node.pass(&everything, 100), 0);
    assert_eq!((node.erased(), node.text("SELECT count(*) || '' FROM visitors")), (vec![], "1".to_owned()));
    drop(lock);
    assert_eq!(node.pass(&everything, 100), 2);
    assert_eq!(node.text("SELECT count(*) || '' FROM visitors"), "0");
}

/// Returns a policy that limits the age of visits and their rows, and optionally of the whole log.
fn keep_visits(visits_days: u64, log: Option<u64>) -> RetentionPolicy {
    let visits = BTreeMap::from([("visits".to_owned(), KeptFor(days(visits_days)))]);
    RetentionPolicy {
        log: log.map(days).map(KeptFor),
        streams: visits.clone(),
        rows: visits,
        ..RetentionPolicy::default()
    }
}

#[test]
fn old_events_and_rows_of_one_stream_are_deleted_among_others() {
    let node = Node::new();
    for received in [1, 80, 95] {
        node.visit(received);
        node.sale(received);
    }
    node.settle(ALL);
    node.database().execute_batch("INSERT INTO visitors (who) VALUES ('one of my own')").unwrap();
    let keep = keep_visits(20, None);
    let visitors = || node.text("SELECT group_concat(who) FROM (SELECT who FROM visitors ORDER BY id)");
    let none = RetentionPolicy {
        streams: BTreeMap::from([("nobody".to_owned(), KeptFor(days(7)))]),
        ..RetentionPolicy::default()
    };
    node.pass(&none, 100);
    node.run(ALL, |live| {
        assert_eq!(live.rebuild("visits"), Ok(0), "a limit for an unknown stream deletes nothing");
    });

    assert_eq!(node.pass(&keep, 100), 0, "the log begins where it began before");
    assert_eq!((node.log.end(), node.erased()), (6, vec![0]), "events of day 80 are exactly at the limit");
    assert_eq!(visitors(), "visitor 80,visitor 95,one of my own");
    node.retention(keep, Millis(100 * DAY + 1)).pass().unwrap();
    assert_eq!((node.log.end(), node.erased()), (6, vec![0, 2]));
    assert_eq!(visitors(), "visitor 95,one of my own");

    node.run(ALL, |live| {
        live.settle();
        let refused = live.rebuild("visits").unwrap_err();
        assert!(refused.starts_with("retention has deleted events below position"), "{refused}");
        assert_eq!(live.rebuild("sales"), Ok(0), "the log has all of its events");
    });
    assert_eq!(
        (visitors().as_str(), node.text("SELECT value FROM balances").as_str()),
        ("visitor 95,one of my own", "4.5")
    );
}

#[test]
fn a_rebuild_does_not_restore_rows_that_retention_deleted() {
    let node = Node::new();
    node.visit(1);
    node.visit(95);
    node.settle(ALL);
    let keep = RetentionPolicy { streams: BTreeMap::new(), ..keep_visits(20, None) };
    node.pass(&keep, 100);
    node.run(ALL, |live| {
        let refused = live.rebuild("visits").unwrap_err();
        assert!(refused.starts_with("retention has deleted old rows of view `visits`"), "{refused}");
    });
    assert_eq!(node.text("SELECT group_concat(who) FROM visitors"), "visitor 95");
}
