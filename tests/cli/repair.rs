//! `millrace repair`.

use std::path::PathBuf;
use std::sync::Arc;

use crate::harness::{Start, TestApp};
use crate::{database, failed, lines_of_json, run, sell, stderr, stdout};

fn segment(app: &TestApp) -> PathBuf {
    app.data().join("journal/00000000000000000000.seg")
}

/// Starts a server, sends five sales, each in its own append, and stops it cleanly, so that all are durable.
fn stopped_with_five_sales() -> TestApp {
    let mut app = TestApp::start();
    (0..5).for_each(|user| sell(&app, &format!("user{user}"), "10"));
    app.settle();
    assert_eq!(app.stop(), Some(0));
    app
}

#[test]
fn damage_is_reported_then_repaired_and_other_events_keep_their_positions() {
    let mut app = stopped_with_five_sales();
    let mut bytes = std::fs::read(segment(&app)).unwrap();
    let at = bytes.windows(5).position(|window| window == b"user2").unwrap();
    bytes[at] ^= 1;
    std::fs::write(segment(&app), &bytes).unwrap();

    let log = TestApp::try_with(Start::default(), Arc::clone(&app.folder)).err().unwrap();
    assert!(log.contains("00000000000000000000.seg") && log.contains("corrupt at offset"), "{log}");
    let inspected = app.command(&["repair"]);
    assert_eq!(inspected.status.code(), Some(7), "{}", stderr(&inspected));
    let text = stdout(&inspected);
    let report = app.command(&["repair", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&stdout(&report)).unwrap();
    let damage = &report["damages"][0];
    assert_eq!((&damage["lostFrom"], &damage["lostTo"]), (&2.into(), &3.into()), "{report}");
    let offset = damage["offset"].as_u64().unwrap();
    assert!(offset < at as u64 && log.contains(&format!("offset {offset}")), "{log}");
    assert!(text.contains(&format!(".seg  {offset:>6}            1  2 ")), "{text}");
    assert!(text.contains("would lose 1 event"), "{text}");
    assert_eq!(std::fs::read(segment(&app)).unwrap(), bytes, "nothing is changed without --yes");

    let repaired = run(&app, &["repair", "--yes"]);
    assert!(repaired.contains("repaired; 1 event lost"), "{repaired}");
    assert_eq!(std::fs::read(segment(&app).with_extension("seg.damaged")).unwrap(), bytes);
    app.restart();
    sell(&app, "user5", "10");
    app.settle();
    let events = lines_of_json(&run(&app, &["tail", "revenue", "--from", "0", "--json"]));
    let positions: Vec<u64> = events.iter().map(|event| event["position"].as_u64().unwrap()).collect();
    assert_eq!(positions, [0, 1, 3, 4, 5]);
    // The lost event was applied before, so it stays in the balance. Nothing that folds the log may remove it.
    assert_eq!(run(&app, &["view", "balance", "revenue", "user2"]), "10\n");
    let lost = events[0]["id"].as_str().unwrap().replace("000000000000", "000000000002");
    assert_eq!(app.client().get(&format!("/v1/events/{lost}")).status, 404);
    for command in ["reconcile", "rebuild"] {
        assert!(failed(&app, 1, &["view", command, "revenue"]).contains("lost events at position 2"));
    }
    let sql = "SELECT COUNT(*) FROM millrace_positions WHERE view LIKE '%shadow'";
    let left: i64 = database(&app).query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0, "a refused rebuild leaves nothing behind");
    assert_eq!(run(&app, &["view", "balance", "revenue", "user2"]), "10\n");
}

#[test]
fn a_torn_tail_is_left_to_the_server() {
    let mut app = stopped_with_five_sales();
    let mut bytes = std::fs::read(segment(&app)).unwrap();
    bytes.extend_from_slice(b"torn");
    std::fs::write(segment(&app), &bytes).unwrap();
    let text = run(&app, &["repair", "--yes"]);
    assert!(text.contains("4 bytes at the end") && text.contains("nothing to repair"), "{text}");
    assert_eq!(std::fs::read(segment(&app)).unwrap(), bytes);
    app.restart();
    assert_eq!(app.balance("user4").as_deref(), Some("10"));
}

#[test]
fn a_log_in_use_or_missing_is_not_repaired() {
    let app = TestApp::start();
    assert!(failed(&app, 1, &["repair", "--yes"]).contains("stop it first"));
    assert!(failed(&app, 5, &["repair", "--data", "elsewhere"]).contains("`--data`"));
    assert!(!app.folder.path().join("elsewhere").exists());
}
