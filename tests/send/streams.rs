//! Without `--stream`, the first line of a file decides the stream.

use super::*;
use crate::harness::Client;

const VISIT: &str = "{\"site_id\":\"s\",\"event_type\":\"view\"}\n";
/// Two streams with the same fields.
const TWINS: &str = r#"
[stream.refunds]
key = "userId"
fields.userId = { type = "text", required = true }
fields.cents = { type = "integer", required = true }
[stream.credits]
key = "userId"
fields.userId = { type = "text", required = true }
fields.cents = { type = "integer", required = true }
"#;

fn events(app: &TestApp, stream: &str) -> usize {
    let page = app.client().get(&format!("/v1/streams/{stream}/events?from=0")).json();
    page["events"].as_array().unwrap().len()
}

/// Runs `send`, which must fail with exit code 2, and returns its error.
fn refused(app: &TestApp, arguments: &[&str]) -> String {
    let output = app.command(&[&["send"], arguments].concat());
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    stderr(&output)
}

#[test]
fn each_file_goes_to_the_only_stream_that_accepts_its_first_line() {
    let app = TestApp::start();
    write(&app, "a.jsonl", sales(1, 11));
    write(&app, "b.jsonl", "\n".to_owned() + &VISIT.repeat(3));
    let (code, outcome) = send(&app, &["a.jsonl", "b.jsonl"]);
    assert_eq!((code, &outcome["events"]), (0, &13.into()));
    assert_eq!(outcome["streams"], serde_json::json!(["revenue", "site_events"]));
    assert_eq!((events(&app, "revenue"), events(&app, "site_events")), (10, 3));
    // The second run finds the same streams, and sends nothing.
    assert_eq!(send(&app, &["a.jsonl", "b.jsonl"]).1["events"], 0);
}

#[test]
fn a_file_that_no_stream_accepts_is_not_sent() {
    let app = TestApp::start();
    write(&app, "a.jsonl", "{\"a\":1}\n".to_owned() + &sales(1, 11));
    let error = refused(&app, &["a.jsonl"]);
    for part in
        ["line 1: no stream accepts it", "`revenue` (name: is missing", "`site_events` (", "`--stream`"]
    {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(stored(&app), 0);
    assert!(!app.folder.path().join("a.jsonl.revenue.rejected").exists());
    assert_eq!(send(&app, &["a.jsonl", "--stream", "revenue"]).1["events"], 10);
}

#[test]
fn the_user_chooses_if_several_streams_accept_the_first_line() {
    let app = TestApp::configured(TWINS);
    write(&app, "a.jsonl", "{\"userId\":\"u\",\"cents\":1}\n");
    write(&app, "b.jsonl", sales(1, 11));
    let error = refused(&app, &["a.jsonl"]);
    assert!(error.contains("the streams `credits` and `refunds` accept it"), "{error}");
    // Other files are still sent.
    let (code, outcome) = send(&app, &["a.jsonl", "b.jsonl"]);
    assert_eq!((code, &outcome["events"]), (2, &10.into()));
    assert_eq!(send(&app, &["a.jsonl", "--stream", "refunds"]).0, 0);
    assert_eq!((events(&app, "refunds"), events(&app, "credits")), (1, 0));
}

#[test]
fn a_key_that_may_only_send_to_one_stream_needs_no_name() {
    let app = TestApp::configured(TWINS);
    let key = r#"{"name":"shop","scopes":["send"],"streams":["credits"]}"#;
    let key = app.client().post("/v1/keys", key).json()["key"].as_str().unwrap().to_owned();
    write(&app, "a.jsonl", "{\"userId\":\"u\",\"cents\":1}\n");
    let (code, outcome) = send(&app, &["a.jsonl", "--key", &key]);
    assert_eq!((code, &outcome["streams"]), (0, &serde_json::json!(["credits"])));
    let reader = r#"{"name":"desk","scopes":["read"]}"#;
    let reader = app.client().post("/v1/keys", reader).json()["key"].as_str().unwrap().to_owned();
    let output = app.command(&["send", "a.jsonl", "--again", "--key", &reader]);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    let listed = Client::new(&app.address).with_header("Authorization", &key).get("/v1/streams").json();
    assert_eq!(
        (listed["streams"].as_array().unwrap().len(), &listed["streams"][0]["name"]),
        (1, &"credits".into())
    );
}

#[test]
fn a_file_with_only_lines_that_are_too_long_needs_the_name_of_its_stream() {
    let app = TestApp::start();
    let path = write(&app, "big.json", format!("\n{{\"a\":\"{}\"}}\n", "x".repeat(5 << 20)));
    let error = refused(&app, &["big.json", "--move-to", "done"]);
    assert!(
        error.contains("big.json: line 2 is longer than 1 MiB; name the stream with `--stream`"),
        "{error}"
    );
    assert!(path.exists() && !app.folder.path().join("done/big.json").exists());
    assert_eq!(send(&app, &["big.json", "--stream", "revenue"]).0, 6);
    assert!(app.folder.path().join("big.json.revenue.rejected").exists());
}

#[test]
fn a_closed_stdout_does_not_change_the_exit_code() {
    let app = TestApp::start();
    write(&app, "a.jsonl", "bad\n".to_owned() + &sale(1));
    let mut child = start(&app, &["a.jsonl", "--stream", "revenue"]);
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
}
