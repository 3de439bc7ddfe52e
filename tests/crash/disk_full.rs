//! A data folder on a disk of 64 MiB. If the disk is nearly full, only new events are refused. If it is completely
//! full, nothing is lost. Once there is space again, events are accepted without a restart.

use std::sync::Arc;

use crate::checker::{Checker, balances};
use crate::harness::small_disk::{Filler, SmallDisk, can_mount};
use crate::harness::{TestApp, wait_for};
use crate::kills::start;
use crate::load::Load;

/// The failpoint that skips the check of free disk space, so that the log's writes fail on the full disk.
pub const DISK_SPACE_CHECK: &str = "eventlog.look_at_room";

const BYTES: u64 = 64 << 20;

/// A data folder on a small disk, inside an ordinary folder.
pub struct DataFolder {
    folder: Arc<tempfile::TempDir>,
    disk: SmallDisk,
}

impl DataFolder {
    pub fn new() -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let disk = SmallDisk::mounted(&folder.path().join("data"), BYTES);
        Self { folder, disk }
    }

    pub fn app(&self, failpoints: &str) -> TestApp {
        TestApp::with_folder(start(failpoints), Arc::clone(&self.folder))
    }

    pub fn filler(&self) -> Filler {
        self.disk.filler()
    }
}

fn checker(app: &TestApp) -> Checker {
    Checker::open(&app.folder.path().join("history"))
}

fn views_caught_up(app: &TestApp) -> bool {
    app.client().get("/ready").json()["views"]["revenue"]["lag"] == 0
}

#[test]
fn a_nearly_full_disk_refuses_only_new_events_and_recovers() {
    if !can_mount("disk_full::a_nearly_full_disk_refuses_only_new_events_and_recovers") {
        return;
    }
    let disk = DataFolder::new();
    let app = disk.app("");
    let checker = checker(&app);
    let load = Load::new(&checker, app.client());
    let filler = disk.filler();
    filler.take(32);
    // The load fills the rest, until the server refuses events.
    load.objects(50, 900_000);
    let refused = || app.client().post("/liveEvent", r#"{"userId":"u","name":"add_revenue","value":1}"#);
    wait_for("events to be refused", || app.client().get("/ready").status == 503);
    assert!(refused_507(&refused()));
    wait_for("the log line", || app.log_text().contains("the disk is nearly full"));
    wait_for("the views to catch up", || views_caught_up(&app));
    assert!(!balances(&app.client()).is_empty(), "reads continue");
    assert_eq!(app.client().get("/health").status, 200);
    let status = String::from_utf8(app.command(&["status"]).stdout).unwrap();
    assert!(status.contains("events        refused: the disk of the data folder is nearly full"), "{status}");
    app.settle();
    filler.empty();
    wait_for("events to be accepted again", || app.client().get("/ready").status == 200);
    wait_for("the log line", || app.log_text().contains("the disk has free space again"));
    load.objects(3, 0);
    let proof = checker.demand_equality(&app).unwrap();
    assert!(proof.acknowledged > 20, "{proof:?}");
}

fn refused_507(answer: &crate::harness::Answer) -> bool {
    assert!(answer.status == 507, "{}: {}", answer.status, answer.text());
    answer
        .header("retry-after")
        .is_some_and(|seconds| seconds.parse::<u32>().is_ok_and(|seconds| seconds > 0))
}

#[test]
fn events_are_accepted_again_once_the_disk_has_space() {
    if !can_mount("disk_full::events_are_accepted_again_once_the_disk_has_space") {
        return;
    }
    let disk = DataFolder::new();
    let app = disk.app("");
    let checker = checker(&app);
    let load = Load::new(&checker, app.client());
    let filler = disk.filler();
    load.run(1, || {
        wait_for("some events", || app.client().get("/ready").json()["log"]["end"].as_u64() > Some(100));
        filler.fill();
        wait_for("events to be refused", || app.client().get("/ready").status == 503);
        assert!(!balances(&app.client()).is_empty(), "reads continue");
        filler.empty();
        wait_for("events to be accepted again", || app.client().get("/ready").status == 200);
        let end = app.client().get("/ready").json()["log"]["end"].as_u64();
        wait_for("more events", || app.client().get("/ready").json()["log"]["end"].as_u64() > end);
    });
    checker.demand_equality(&app).unwrap();
}

#[test]
fn a_completely_full_disk_loses_nothing() {
    if !can_mount("disk_full::a_completely_full_disk_loses_nothing") {
        return;
    }
    let disk = DataFolder::new();
    // The log meets the full disk in a write, the store in a commit. The view is slow, so that it is not done before.
    let mut app = disk.app(&format!("{DISK_SPACE_CHECK}=skip;views.folded=sleep:30"));
    let checker = checker(&app);
    let load = Load::new(&checker, app.client());
    let filler = disk.filler();
    load.run(2, || {
        wait_for("some events", || app.client().get("/ready").json()["log"]["end"].as_u64() > Some(200));
        filler.fill();
        let full = || checker.history.requests().iter().filter(|known| known.refused).count() > 10;
        wait_for("writes of the log to fail", full);
        wait_for("commits of the store to fail", || {
            let view = app.client().get("/ready").json()["views"]["revenue"].clone();
            view["state"] == "waiting" || view["state"] == "paused"
        });
        assert!(!balances(&app.client()).is_empty(), "reads continue");
        filler.empty();
        let end = app.client().get("/ready").json()["log"]["end"].as_u64();
        wait_for("more events", || app.client().get("/ready").json()["log"]["end"].as_u64() > end);
    });
    checker.demand_equality(&app).unwrap();
    app.restart();
    let proof = checker.demand_equality(&app).unwrap();
    assert!(proof.acknowledged > 10, "{proof:?}");
}
