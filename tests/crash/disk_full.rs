//! A data folder on a disk of 64 MB. Nearly full, new events are refused and everything else goes on;
//! really full, nothing is lost; and with room again it goes on by itself.

use std::sync::Arc;

use crate::checker::{Checker, balances};
use crate::harness::small_disk::{Filler, SmallDisk, may_mount};
use crate::harness::{TestApp, wait_for};
use crate::kills::start;
use crate::load::Load;

/// Left out: the log does not look at the room on its disk, and meets the full disk itself.
pub const ROOM: &str = "eventlog.look_at_room";

const BYTES: u64 = 64 << 20;

/// A data folder that is a small disk, within a folder that is none.
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
fn a_disk_nearly_full_refuses_new_events_and_nothing_else_and_recovers() {
    if !may_mount("disk_full::a_disk_nearly_full_refuses_new_events_and_nothing_else_and_recovers") {
        return;
    }
    let disk = DataFolder::new();
    let app = disk.app("");
    let checker = checker(&app);
    let load = Load::new(&checker, app.client());
    let filler = disk.filler();
    filler.take(32);
    // The rest is filled by load, as far as it lets itself be filled.
    load.objects(50, 900_000);
    let refused = || app.client().post("/liveEvent", r#"{"userId":"u","name":"add_revenue","value":1}"#);
    wait_for("events to be refused", || app.client().get("/ready").status == 503);
    assert!(refused_507(&refused()));
    wait_for("the log to say so", || app.log_text().contains("the disk is nearly full"));
    wait_for("views to go on", || views_caught_up(&app));
    assert!(!balances(&app.client()).is_empty(), "reads go on");
    assert_eq!(app.client().get("/health").status, 200);
    app.settle();
    filler.empty();
    wait_for("events to be taken again", || app.client().get("/ready").status == 200);
    wait_for("the log to say so", || app.log_text().contains("the disk has free space again"));
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
fn a_filler_that_goes_away_lets_it_go_on() {
    if !may_mount("disk_full::a_filler_that_goes_away_lets_it_go_on") {
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
        assert!(!balances(&app.client()).is_empty(), "reads go on");
        filler.empty();
        wait_for("events to be taken again", || app.client().get("/ready").status == 200);
        let end = app.client().get("/ready").json()["log"]["end"].as_u64();
        wait_for("more events", || app.client().get("/ready").json()["log"]["end"].as_u64() > end);
    });
    checker.demand_equality(&app).unwrap();
}

#[test]
fn a_disk_full_to_the_last_byte_loses_nothing() {
    if !may_mount("disk_full::a_disk_full_to_the_last_byte_loses_nothing") {
        return;
    }
    let disk = DataFolder::new();
    // The log meets the full disk in its write, the store in its commit: the view is slowed down until then.
    let mut app = disk.app(&format!("{ROOM}=skip;views.folded=sleep:30"));
    let checker = checker(&app);
    let load = Load::new(&checker, app.client());
    let filler = disk.filler();
    load.run(2, || {
        wait_for("some events", || app.client().get("/ready").json()["log"]["end"].as_u64() > Some(200));
        filler.fill();
        let full = || checker.history.requests().iter().filter(|known| known.refused).count() > 10;
        wait_for("the log to meet the end of the disk", full);
        wait_for("the store to meet it", || {
            let view = app.client().get("/ready").json()["views"]["revenue"].clone();
            view["waiting"].is_string() || view["paused"].is_string()
        });
        assert!(!balances(&app.client()).is_empty(), "reads go on");
        filler.empty();
        let end = app.client().get("/ready").json()["log"]["end"].as_u64();
        wait_for("more events", || app.client().get("/ready").json()["log"]["end"].as_u64() > end);
    });
    checker.demand_equality(&app).unwrap();
    app.restart();
    let proof = checker.demand_equality(&app).unwrap();
    assert!(proof.acknowledged > 10, "{proof:?}");
}
