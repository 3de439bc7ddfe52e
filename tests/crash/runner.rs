//! A view's runner by itself, where the moment matters too much to be met from outside.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use event::limits::BATCHES_BYTES_MAX;
use event::{Field, Fields, Kind, Millis, Progress, Stalled, Stop};
use millrace::dedup::{Dedup, STORED_NAME};
use millrace::log::{Entry, EventLog, Header, RecordBuilder, Shape};
use millrace::store::Store;
use millrace::views::{Amount, Ledger, Rule, Runner, View, ViewKind};
use rusqlite::Connection;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use crate::harness::wait_for;

const EVENTS: u64 = 2_000;
/// Every so many, one is for a row that takes nothing.
const BAD_EVERY: u64 = 8;

/// A gate and a view over one log and store.
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
        let (dedup, gate_thread) = Dedup::start(
            log,
            store,
            Duration::from_secs(3600),
            progress.register_dedup(STORED_NAME),
            &stop,
            handle.clone(),
        )
        .unwrap();
        let rule = Rule::Always(Amount { field: 1, negative: false });
        let ledger = Ledger::new("ledger", ["who", "value"], 0, rule);
        let runner = Runner {
            view: View { name: "v".to_owned(), stream: "s".to_owned(), kind: ViewKind::Ledger(ledger) },
            fields: Arc::new(fields),
            log: log.clone(),
            store: store.clone(),
            dedup,
            progress: progress.register("v", "s"),
            budget: Arc::new(Semaphore::new(BATCHES_BYTES_MAX)),
            stop: stop.clone(),
            runtime: handle,
        };
        let (_, view_thread) = runner.start().unwrap();
        Self { stop, progress, threads: vec![gate_thread, view_thread] }
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

/// One batch, of which parts are applied and others become dead letters; somebody locks the store in the
/// middle of that, and the order to stop comes while the runner waits. `false` if the lock came too late.
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
    // Between two commits there is little time for somebody else.
    other.busy_timeout(Duration::ZERO).unwrap();
    while other.execute_batch("BEGIN IMMEDIATE").is_err() {}
    let in_the_middle = stored() < EVENTS;
    if in_the_middle {
        wait_for("the view to wait", || first.waits());
    }
    first.stop.ask();
    let patience = Instant::now() + Duration::from_millis(400);
    while Instant::now() < patience && !first.threads.iter().all(JoinHandle::is_finished) {
        std::thread::sleep(Duration::from_millis(5));
    }
    other.execute_batch("COMMIT").unwrap();
    first.join();

    let second = Running::start(&log, &store, &runtime);
    wait_for("the view to come to the end", || second.position() == EVENTS);
    second.stop.ask();
    second.join();
    let good = EVENTS - EVENTS / BAD_EVERY;
    assert_eq!(integer(&other, "SELECT CAST(value AS INTEGER) FROM ledger WHERE who = 'good'"), good);
    let letters = integer(&other, "SELECT COUNT(*) FROM millrace_dead_letters");
    assert_eq!(letters, EVENTS / BAD_EVERY);
    log.close().unwrap();
    store.close();
    in_the_middle
}

#[test]
fn a_batch_stopped_in_the_middle_goes_on_behind_what_is_applied() {
    // Whether a runner would begin again before it heard of the stop was a matter of chance.
    let met = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..8).map(|_| scope.spawn(stopped_in_the_middle_of_a_batch)).collect();
        tries.into_iter().map(|tried| tried.join().unwrap()).filter(|met| *met).count()
    });
    assert!(met > 2, "the moment was met {met} times");
}
