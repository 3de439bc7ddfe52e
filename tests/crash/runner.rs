//! The runner of a view, without a server. The tests need a moment that a test from outside would hardly meet.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use event::limits::BATCHES_BYTES_MAX;
use event::{Field, Fields, Kind, Millis, Progress, Stalled, Stop};
use millrace::dedup::{Dedup, Windows};
use millrace::log::{Entry, EventLog, Header, RecordBuilder, Shape};
use millrace::store::{DEDUP_NAME, Store};
use millrace::views::{Amount, Changes, Definition, Ledger, Rule, Runner, View, ViewKind};
use rusqlite::Connection;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::harness::wait_for;

const HOUR: Duration = Duration::from_secs(3600);
const EVENTS: u64 = 2_000;
/// Every `BAD_EVERY`th event is for a row whose value is not a number, so it cannot be applied.
const BAD_EVERY: u64 = 8;

/// Dedup and a view over one log and store.
struct Running {
    stop: Stop,
    progress: Progress,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    fn start(log: &EventLog, store: &Store, runtime: &Runtime) -> Self {
        let (stop, progress, handle) = (Stop::default(), Progress::default(), runtime.handle().clone());
        let field =
            |name: &str, kind| Field { name: name.to_owned(), kind, required: true, one_of: Vec::new() };
        let fields = Fields::new(vec![field("who", Kind::text(9)), field("value", Kind::AMOUNT)], 0);
        let (dedup, dedup_thread) = Dedup::start(
            log,
            store,
            Windows { default: HOUR, all: vec![HOUR] },
            progress.register_dedup(DEDUP_NAME),
            &stop,
            handle.clone(),
        )
        .unwrap();
        let rule = Rule::Always(Amount { field: 1, negative: false });
        let ledger = Ledger::new("ledger", ["who", "value"], 0, rule);
        let view = View {
            name: "v".to_owned(),
            stream: "s".to_owned(),
            kind: ViewKind::Ledger(ledger),
            batch: None,
        };
        let runner = Runner {
            definition: Arc::new(Definition::of(&view, &fields)),
            view,
            fields: Arc::new(fields),
            log: log.clone(),
            store: store.clone(),
            dedup,
            progress: progress.register("v", "s"),
            changes: Changes::default(),
            queued: tokio::sync::watch::Sender::new(()),
            budget: Arc::new(Semaphore::new(BATCHES_BYTES_MAX)),
            stop: stop.clone(),
            runtime: handle,
        };
        let (_, view_thread) = runner.start().unwrap();
        Self { stop, progress, threads: vec![dedup_thread, view_thread] }
    }

    fn waits(&self) -> bool {
        matches!(self.progress.all()["v"].stalled, Some(Stalled::Waiting(_)))
    }

    fn position(&self) -> u64 {
        self.progress.all()["v"].position
    }

    fn join(self) {
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

fn connect(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(20)).unwrap();
    connection
}

fn integer(connection: &Connection, sql: &str) -> u64 {
    connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap_or(0) as u64
}

fn append_all(log: &EventLog, runtime: &Runtime) {
    let mut record = RecordBuilder::new(&Header::of("s", Millis(0)), Shape::default(), 0);
    for number in 0..EVENTS {
        let who = if number % BAD_EVERY == 0 { "bad" } else { "good" };
        let text = format!(r#"{{"who":"{who}","value":1}}"#);
        record.push(&Entry { text: &text, ..Entry::default() });
    }
    runtime.block_on(log.append(&record)).unwrap();
}

/// Runs a batch whose events are partly applied and partly become dead letters. The store is locked in the middle of
/// it, and the runner is stopped while it waits. Returns `false` if the lock came too late.
fn stopped_in_the_middle_of_a_batch() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    let runtime = Runtime::new().unwrap();
    let (log, _) = EventLog::open("journal:", folder.path()).unwrap();
    let url = format!("sqlite:{}", file.display());
    let store = runtime.block_on(Store::open(&url, None, folder.path())).unwrap();
    let other = connect(&file);
    let table =
        "CREATE TABLE ledger (who TEXT PRIMARY KEY, value TEXT); INSERT INTO ledger VALUES ('bad', 'x')";
    other.execute_batch(table).unwrap();
    append_all(&log, &runtime);

    let stored = || integer(&other, "SELECT position FROM millrace_positions WHERE view = 'v'");
    let first = Running::start(&log, &store, &runtime);
    wait_for("a part of the batch", || stored() > 0);
    // There is little time between two commits, so try in a loop.
    other.busy_timeout(Duration::ZERO).unwrap();
    while other.execute_batch("BEGIN IMMEDIATE").is_err() {}
    let in_the_middle = stored() < EVENTS;
    if in_the_middle {
        wait_for("the view to wait", || first.waits());
    }
    first.stop.ask();
    let deadline = Instant::now() + Duration::from_millis(400);
    while Instant::now() < deadline && !first.threads.iter().all(JoinHandle::is_finished) {
        std::thread::sleep(Duration::from_millis(5));
    }
    other.execute_batch("COMMIT").unwrap();
    first.join();

    let second = Running::start(&log, &store, &runtime);
    wait_for("the view to catch up", || second.position() == EVENTS);
    second.stop.ask();
    second.join();
    let good = EVENTS - EVENTS / BAD_EVERY;
    assert_eq!(integer(&other, "SELECT CAST(value AS INTEGER) FROM ledger WHERE who = 'good'"), good);
    let dead_letters = integer(&other, "SELECT COUNT(*) FROM millrace_dead_letters");
    assert_eq!(dead_letters, EVENTS / BAD_EVERY);
    log.close().unwrap();
    store.close();
    in_the_middle
}

#[test]
fn a_batch_stopped_in_the_middle_resumes_after_its_applied_part() {
    // It depends on timing if a runner begins again before it sees the stop, so try several times.
    let in_the_middle = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..8).map(|_| scope.spawn(stopped_in_the_middle_of_a_batch)).collect();
        tries.into_iter().map(|tried| tried.join().unwrap()).filter(|locked| *locked).count()
    });
    assert!(in_the_middle > 2, "only {in_the_middle} locks came in the middle of a batch");
}
