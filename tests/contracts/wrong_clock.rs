//! A wrong clock of the machine: retention deletes nothing because of it, and no event counts twice. Debian's
//! `faketime` shows the server another time.

use crate::harness::{Start, TestApp, wait_for};

const JUMPED: &str = "the system clock jumped, or the server was stopped for more than 3 days: this time does not count as age, and retention deletes nothing for a day";

/// Sets the environment in which the server sees a clock that is wrong by `by`.
fn shift(start: &mut Start, by: &str) {
    let folders = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let library =
        folders.map(|folder| folder.path().join("faketime/libfaketime.so.1")).find(|file| file.exists());
    let library = library.expect("Debian's package `faketime`, which `./check` installs");
    let variables = [
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("FAKETIME", by),
        ("DONT_FAKE_MONOTONIC", "1"),
        ("MILLRACE_LOG_LEVEL", "debug"),
    ];
    start.environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
}

/// Sets the environment in which the server sees the right clock.
fn right(start: &mut Start) {
    start.environment = vec![("MILLRACE_LOG_LEVEL".to_owned(), "debug".to_owned())];
}

#[test]
fn retention_deletes_nothing_because_the_clock_is_ahead() {
    let mut app = TestApp::configured("[retention]\nlog = \"30d\"\nstreams = { revenue = \"8d\" }\n");
    let sale = r#"{"userId":"ann","name":"add_revenue","value":1}"#;
    for _ in 0..5 {
        assert_eq!(app.client().post("/liveEvent", sale).status, 200);
    }
    app.settle();
    assert_eq!(app.stop(), Some(0));
    let begin = |app: &TestApp| app.anonymous().get("/ready").json()["log"]["begin"].clone();
    // The second start with the wrong clock does not see a jump.
    for ahead in [true, true, false] {
        app.restart_with(|start| if ahead { shift(start, "+400d") } else { right(start) });
        let on_hold = "retention is on hold because the system clock jumped";
        wait_for("retention to run", || app.log_line(on_hold).is_some());
        assert_eq!(begin(&app), 0);
        let events = app.client().get("/v1/streams/revenue/events?from=0").json()["events"].clone();
        assert_eq!(events.as_array().unwrap().len(), 5);
        assert!(events.as_array().unwrap().iter().all(|event| event["event"]["value"] == 1), "{events}");
        app.settle();
        app.kill();
    }
    app.restart_with(|start| shift(start, "+800d"));
    wait_for("the jump to be logged", || app.log_line(JUMPED).is_some());
    assert_eq!(app.log_line(JUMPED).unwrap()["hours"], 800 * 24);
    app.kill();
    // After the day on hold, retention still deletes nothing.
    let file = app.data().join("log-ages.json");
    let mut ages: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    ages["held_until"] = 0.into();
    std::fs::write(&file, ages.to_string()).unwrap();
    app.restart_with(|start| shift(start, "+800d"));
    wait_for("retention to run", || app.log_line("retention has looked for old events").is_some());
    assert_eq!(begin(&app), 0);
}

#[test]
fn an_id_counts_once_although_the_clock_jumps_between_two_requests() {
    let folder = tempfile::tempdir().unwrap();
    let clock = folder.path().join("clock");
    std::fs::write(&clock, "+0\n").unwrap();
    let mut start = Start::default();
    shift(&mut start, "+0");
    start.environment.retain(|(name, _)| name != "FAKETIME");
    for (name, value) in [("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap()), ("FAKETIME_NO_CACHE", "1")] {
        start.environment.push((name.to_owned(), value.to_owned()));
    }
    let app = TestApp::with(start);
    let events = "/v1/streams/revenue/events?wait=applied";
    let sale = r#"{"id":"a","userId":"ann","name":"add_revenue","value":1}"#;
    assert_eq!(app.client().post(events, sale).status, 200);
    for by in ["+400d\n", "-30d\n", "+900d\n"] {
        std::fs::write(&clock, by).unwrap();
        assert_eq!(app.client().post(events, sale).status, 200);
        assert_eq!(app.balance("ann").as_deref(), Some("1"), "{by}");
    }
    wait_for("the jump to be logged", || app.log_line(JUMPED).is_some());
}

#[test]
fn an_id_sent_before_a_clock_jump_counts_once() {
    let mut app = TestApp::start();
    let events = "/v1/streams/revenue/events?wait=applied";
    let sale = |id: &str| format!(r#"{{"id":"{id}","userId":"ann","name":"add_revenue","value":1}}"#);
    for id in ["a", "b"] {
        assert_eq!(app.client().post(events, &sale(id)).status, 200);
    }
    for by in [Some("+400d"), Some("-400d"), None] {
        app.restart_with(|start| match by {
            Some(by) => shift(start, by),
            None => right(start),
        });
        for id in ["a", "b"] {
            assert_eq!(app.client().post(events, &sale(id)).status, 200);
        }
        assert_eq!(app.balance("ann").as_deref(), Some("2"), "{by:?}");
    }
}
