//! Kills between any two steps that matter. The test finds the failpoints in the source code, so that none can be
//! forgotten. A failpoint that is not hit fails the test.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use journal::simulation::Rng;

use crate::checker::{Checker, balances};
use crate::checker_can_fail::MUTATIONS;
use crate::disk_full::{self, DataFolder};
use crate::forgetting;
use crate::harness::seed::Seed;
use crate::harness::{TestApp, wait_for};
use crate::ids::{DEDUP_PRUNE, DEDUP_PRUNE_PAUSE};
use crate::kills::start;
use crate::load::Load;
use crate::store::{corrupt_all_rows, corrupt_row, with_dead_letter};

/// The way to make a process hit a failpoint.
enum Way {
    /// Load; the kill is at one of the first `n` hits.
    Load(u64),
    /// A start, of a new folder and after a kill.
    Start,
    FirstStart,
    Stop,
    /// Events that fill a segment.
    Long,
    Retry,
    Rebuild,
    FullDisk,
    /// An erasure.
    Erase,
    /// A start at which retention deletes old events.
    Retention,
}

/// Exists only for databases on servers; `tests/faults/commits.rs` skips it.
const SKIPPED_ELSEWHERE: &str = "store.stamp";

/// Failpoints that this test cannot hit. No server repairs its log: `crates/journal/tests/repair.rs` interrupts
/// repairs. Pruning runs only every ten minutes: `tests/crash/ids.rs` covers it. `tests/contracts/definitions.rs` changes
/// definitions. A receipt changes nothing: `tests/contracts/applied.rs` delays one. `tests/store/away.rs` starts without a
/// database server. `tests/delivery/kills.rs` has a receiver, and dies at each step of a delivery.
const ELSEWHERE: [&str; 15] = [
    "journal.repair_created",
    "journal.repair_renamed",
    DEDUP_PRUNE,
    "definition.tables_made",
    "rebuild.redefined",
    "receipt.positions_read",
    "unchecked.remembered",
    "unchecked.forgotten",
    "delivery.leasing",
    "delivery.leased",
    "delivery.sent",
    "delivery.attempted",
    "delivery.recording",
    "delivery.recorded",
    "delivery.deciding",
];

fn way(point: &str) -> Way {
    match point {
        "journal.recover_copied" | "journal.recover_renamed" | "journal.recovered" => Way::Start,
        "journal.mark_created" | "journal.mark_renamed" => Way::Start,
        "server.log_open" | "server.store_open" => Way::Start,
        "server.folder_made" | "keys.file_made" | "keys.written" => Way::FirstStart,
        "journal.stop" => Way::Stop,
        "journal.seal" | "journal.room_given_back" => Way::Long,
        "journal.segment_created" | "journal.segment_renamed" => Way::Long,
        "journal.room_made" => Way::Load(1),
        "journal.cut_back" => Way::FullDisk,
        "journal.sealed" | "journal.rewrite_created" | "journal.rewrite_renamed" | "journal.rewritten" => {
            Way::Erase
        }
        "journal.trim_marked" | "journal.trim_removed" | "journal.trimmed" => Way::Retention,
        point if point.starts_with("erasure.") => Way::Erase,
        point if point.starts_with("retention.") => Way::Retention,
        "views.begun" => Way::Load(1),
        point if point.starts_with("dead_letters.") => Way::Retry,
        point if point.starts_with("rebuild.") => Way::Rebuild,
        _ => Way::Load(20),
    }
}

/// Returns the failpoint names in those source lines that contain one of `marks`.
fn named(marks: &[&str]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut open = vec![Path::new("src").to_owned(), Path::new("crates/journal/src").to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            for line in std::fs::read_to_string(path).unwrap().lines() {
                if marks.iter().any(|mark| line.contains(mark)) {
                    let texts = line.split('"').skip(1).step_by(2);
                    names.extend(texts.filter(|text| text.contains('.')).map(str::to_owned));
                }
            }
        }
    }
    names
}

#[test]
fn a_kill_at_any_failpoint_loses_nothing_and_counts_nothing_twice() {
    let seed = Seed::new();
    let points = named(&["failpoint::hit(\"", "let failpoints = [\""]);
    assert!(points.len() > 25, "the sources have failpoints: {points:?}");
    let one = std::env::var("MILLRACE_CRASH_POINT").ok();
    for point in points.iter().filter(|point| !ELSEWHERE.contains(&point.as_str())) {
        if one.as_ref().is_some_and(|one| one != point) {
            continue;
        }
        let mut rng = Rng::new(seed.0);
        println!("{point}");
        match way(point) {
            Way::Load(hits_max) => under_load(point, 1 + rng.below(hits_max), &mut rng),
            Way::Start => at_starts(point, &mut rng),
            Way::FirstStart => drop(at_first_start(point)),
            Way::Stop => at_stop(point, &mut rng),
            Way::Long => with_long_events(point),
            Way::Retry => at_retry(point),
            Way::Rebuild => at_rebuild(point),
            Way::FullDisk => on_a_full_disk(point),
            Way::Erase => forgetting::while_erasing(point),
            Way::Retention => forgetting::while_deleting_old_events(point),
        }
    }
}

#[test]
fn every_step_that_can_be_skipped_is_skipped_by_a_test() {
    let steps = named(&["failpoint::skips(\""]);
    let known = MUTATIONS
        .iter()
        .chain([&disk_full::DISK_SPACE_CHECK, &SKIPPED_ELSEWHERE, &DEDUP_PRUNE_PAUSE])
        .map(|step| (*step).to_owned())
        .collect();
    assert_eq!(steps, known);
}

pub fn abort(point: &str, hit: u64) -> String {
    format!("{point}=abort@{hit}")
}

pub fn set(app: &mut TestApp, failpoints: &str) -> Result<(), String> {
    app.try_restart_with(|before| before.environment = start(failpoints).environment)
}

fn checker(app: &TestApp) -> Checker {
    Checker::open(&app.folder.path().join("history"))
}

fn equal(app: &TestApp, point: &str) {
    let proof = checker(app).demand_equality(app).unwrap_or_else(|error| panic!("{point}: {error}"));
    assert!(proof.acknowledged > 0, "{point}: {proof:?}");
}

/// Sends until the process has ended. The deadline of the wait fails the test if the failpoint is not hit.
fn load_until_gone(app: &mut TestApp, seed: u64, point: &str) {
    let checker = checker(app);
    let load = Load::new(&checker, app.client());
    load.run(seed, || wait_for(&format!("{point} to be hit"), || app.is_gone()));
}

fn under_load(point: &str, hit: u64, rng: &mut Rng) {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let app = match TestApp::try_with(start(&abort(point, hit)), Arc::clone(&folder)) {
        Ok(mut app) => {
            load_until_gone(&mut app, rng.draw(), point);
            set(&mut app, "").unwrap();
            app
        }
        // A start can hit this failpoint too.
        Err(_) => TestApp::with_folder(start(""), folder),
    };
    let checker = checker(&app);
    Load::new(&checker, app.client()).objects(5, 0);
    equal(&app, point);
}

fn at_first_start(point: &str) -> TestApp {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let started = TestApp::try_with(start(&abort(point, 1)), Arc::clone(&folder));
    assert!(started.is_err(), "{point} was not hit");
    let app = TestApp::with_folder(start(""), folder);
    let checker = checker(&app);
    Load::new(&checker, app.client()).objects(5, 0);
    equal(&app, point);
    app
}

fn at_starts(point: &str, rng: &mut Rng) {
    let mut app = at_first_start(point);
    let at_append = abort("journal.written", 1 + rng.below(20));
    set(&mut app, &at_append).unwrap();
    load_until_gone(&mut app, rng.draw(), &at_append);
    assert!(set(&mut app, &abort(point, 1)).is_err(), "{point} was not hit");
    set(&mut app, "").unwrap();
    equal(&app, point);
}

fn at_stop(point: &str, rng: &mut Rng) {
    let mut app = TestApp::with(start(&abort(point, 1)));
    let checker = checker(&app);
    Load::new(&checker, app.client()).objects(1 + rng.below(20), 0);
    assert_eq!(app.stop(), None, "{point}: not ended by a signal");
    set(&mut app, "").unwrap();
    equal(&app, point);
}

fn with_long_events(point: &str) {
    let mut app = TestApp::with(start(&abort(point, 1)));
    let checker = checker(&app);
    let load = Load::new(&checker, app.client());
    // Space is preallocated for the short events, and some of it is left over after the long ones.
    for _ in 0..80 {
        load.objects(1, 0);
        load.objects(1, 900_000);
    }
    wait_for(&format!("{point} to be hit"), || app.is_gone());
    set(&mut app, "").unwrap();
    equal(&app, point);
}

fn at_retry(point: &str) {
    let (mut app, dead_letter) = with_dead_letter(&start(""));
    set(&mut app, &abort(point, 1)).unwrap();
    let path = format!("/v1/dead-letters/{dead_letter}/retry");
    assert!(app.client().try_request("POST", &path, None).is_err(), "{point} was not hit");
    set(&mut app, "").unwrap();
    let status =
        |app: &TestApp| app.client().get(&format!("/v1/dead-letters/{dead_letter}")).json()["status"].clone();
    app.settle();
    if status(&app) != "applied" {
        assert_eq!(app.client().post(&path, "").status, 200, "{point}");
    }
    wait_for("the dead letter to be applied", || status(&app) == "applied");
    assert_eq!(balances(&app.client())["victim"], "42.5", "{point}");
    assert_eq!(app.client().post(&path, "").status, 409, "{point}: the dead letter is already applied");
    let report = app.client().post("/v1/views/revenue/reconcile", "").json();
    assert_eq!(report["differenceCount"], 0, "{point}: {report}");
}

/// Corrupts more balances than a page of the rebuild contains.
fn at_rebuild(point: &str) {
    let mut app = TestApp::with(start(""));
    let checker = checker(&app);
    let load = Load::new(&checker, app.client());
    load.many_users(7_000);
    load.many_users(4_000);
    app.settle();
    corrupt_all_rows(&app, "0.5");
    set(&mut app, &abort(point, 1)).unwrap();
    let rebuild = "/v1/views/revenue/rebuild";
    assert!(app.client().try_request("POST", rebuild, None).is_err(), "{point} was not hit");
    set(&mut app, "").unwrap();
    corrupt_row(&app, "user-0-1", "13");
    let answer = app.client().post(rebuild, "");
    assert_eq!(answer.status, 200, "{point}: {}", answer.text());
    equal(&app, point);
}

fn on_a_full_disk(point: &str) {
    let disk = DataFolder::new();
    let mut app = disk.app(&format!("{}=skip;{}", disk_full::DISK_SPACE_CHECK, abort(point, 1)));
    let filler = disk.filler();
    filler.fill();
    load_until_gone(&mut app, 1, point);
    filler.empty();
    set(&mut app, "").unwrap();
    equal(&app, point);
}
