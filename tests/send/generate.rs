//! `millrace generate`: events that a server accepts. The same seed gives the same events.

use std::io::Read;

use super::*;

#[test]
fn generated_events_are_accepted() {
    let app = TestApp::start();
    let first = app.command(&["generate", "--events", "5000", "--users", "7", "--output", "a.jsonl"]);
    assert!(first.status.success() && first.stdout.is_empty());
    let file = std::fs::read(app.folder.path().join("a.jsonl")).unwrap();
    assert_eq!(app.command(&["generate", "--events", "5000", "--users", "7"]).stdout, file);
    assert_ne!(app.command(&["generate", "--events", "5000", "--users", "7", "--seed", "1"]).stdout, file);
    let (code, outcome) = send(&app, &["a.jsonl"]);
    assert_eq!((code, &outcome["events"], &outcome["rejected"]), (0, &5_000.into(), &0.into()));
    app.settle();
    assert_eq!(app.client().get("/userEvents/user7").status, 200);
    assert_eq!(app.client().get("/userEvents/user8").status, 404);
}

#[test]
fn events_of_a_declared_stream_can_be_generated() {
    let declared = r#"
        [stream.readings]
        key = "sensor"
        fields.sensor = { type = "text", required = true, max = 20 }
        fields.kind = { type = "text", required = true, one_of = ["heat", "light"] }
        fields.value = { type = "decimal", required = true }
    "#;
    let app = TestApp::configured(declared);
    let made = app.command(&["generate", "--stream", "readings", "--output", "a.jsonl"]);
    assert!(made.status.success(), "{}", stderr(&made));
    let (code, outcome) = send(&app, &["a.jsonl", "--stream", "readings"]);
    assert_eq!((code, &outcome["events"]), (0, &1_000.into()));
    assert_eq!(app.command(&["generate", "--stream", "none"]).status.code(), Some(5));
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(["generate", "--events", "1000000000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut begin = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut begin).unwrap();
    assert_eq!(&begin, b"{\"userId\":");
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
}
