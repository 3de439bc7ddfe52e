//! Refused lines: `FILE.STREAM.rejected` lists each of them once, and the other lines are sent.

use super::*;

/// Returns the entries of `FILE.revenue.rejected`.
pub fn lines(app: &TestApp, name: &str) -> Vec<Value> {
    let path = app.folder.path().join(format!("{name}.revenue.rejected"));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn numbers(app: &TestApp, name: &str) -> Vec<u64> {
    lines(app, name).iter().map(|line| line["line"].as_u64().unwrap()).collect()
}

#[test]
fn invalid_lines_are_listed_and_valid_ones_sent() {
    let app = TestApp::start();
    let mut content = sales(1, 1_201).into_bytes();
    content.extend(b"{\"userId\":\"u1\",\"name\":\"give\",\"value\":1}\n\n");
    content.extend(b"\xff\xfe\n");
    content.extend(format!("{{\"x\":\"{}\"}}\n", "x".repeat(1_100_000)).bytes());
    content.extend(sales(1_201, 1_301).bytes());
    content.extend(b"no JSON");
    write(&app, "a.jsonl", &content);
    for events in [1_300, 0] {
        let output = app.command(&["send", "--json", "a.jsonl"]);
        assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
        assert!(stderr(&output).contains("4 lines were rejected: see "), "{}", stderr(&output));
        let outcome = outcome(&output);
        assert_eq!((&outcome["events"], &outcome["rejected"]), (&events.into(), &4.into()));
        assert_eq!(numbers(&app, "a.jsonl"), [1_201, 1_203, 1_204, 1_305]);
    }
    let listed = lines(&app, "a.jsonl");
    assert_eq!(listed[0]["reason"], "name: must be one of `add_revenue`, `subtract_revenue`");
    assert_eq!(listed[0]["text"], "{\"userId\":\"u1\",\"name\":\"give\",\"value\":1}");
    assert_eq!(listed[1]["reason"], "the line is not valid UTF-8");
    assert!(listed[2]["reason"].as_str().unwrap().starts_with("is longer than 1048576 bytes"));
    assert_eq!(listed[3]["text"], "no JSON");
    assert_eq!((balance(&app), stored(&app)), (sum(1, 1_301), 1_300));
}

#[test]
fn a_truncated_list_of_rejected_lines_is_completed() {
    let app = TestApp::start();
    let good_and_bad = |from, to| -> String { (from..to).map(|n| sale(n) + "bad\n").collect() };
    write(&app, "a.jsonl", good_and_bad(1, 101));
    assert_eq!(send(&app, &["a.jsonl", "--chunk-lines", "100"]).0, 6);
    let whole = numbers(&app, "a.jsonl");
    assert_eq!(whole.len(), 100);
    // Truncate the list, as if the sender had been killed while it wrote the list.
    let path = app.folder.path().join("a.jsonl.revenue.rejected");
    let bytes = std::fs::read(&path).unwrap();
    let ends: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b'\n').collect();
    for cut in [ends[49] + 1, ends[70] + 20] {
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let (code, outcome) = send(&app, &["a.jsonl"]);
        assert_eq!((code, &outcome["events"], &outcome["rejected"]), (6, &0.into(), &100.into()));
        assert_eq!(numbers(&app, "a.jsonl"), whole);
    }
    assert_eq!(stored(&app), 100);
}

#[test]
fn a_file_of_invalid_lines_only_is_listed_once() {
    let app = TestApp::start();
    write(&app, "a.jsonl", "bad\n".repeat(2_500));
    for _ in 0..2 {
        let (code, outcome) = send(&app, &["a.jsonl", "--stream", "revenue", "--keep-going"]);
        assert_eq!((code, &outcome["events"], &outcome["rejected"]), (6, &0.into(), &2_500.into()));
        assert_eq!(numbers(&app, "a.jsonl"), (1..=2_500).collect::<Vec<_>>());
    }
}

#[test]
fn rejected_lines_of_new_content_are_added_to_the_list() {
    let app = TestApp::start();
    write(&app, "a.jsonl", "bad\n".to_owned() + &sales(1, 3));
    assert_eq!(send(&app, &["a.jsonl", "--stream", "revenue"]).0, 6);
    write(&app, "a.jsonl", sales(3, 5) + "bad\n");
    assert_eq!(send(&app, &["a.jsonl"]).1["rejected"], 1);
    assert_eq!(numbers(&app, "a.jsonl"), [1, 3]);
    write(&app, "a.jsonl", sales(5, 7));
    assert_eq!(send(&app, &["a.jsonl"]).0, 0);
    assert_eq!(balance(&app), sum(1, 7));
}

/// Sending a file to the wrong stream must not fill the list of rejected lines of another run.
#[test]
fn rejected_lines_are_listed_per_stream() {
    let app = TestApp::start();
    write(&app, "a.jsonl", sales(1, 11) + "bad\n");
    assert_eq!(send(&app, &["a.jsonl"]).0, 6);
    let before = lines(&app, "a.jsonl");
    assert_eq!(send(&app, &["a.jsonl", "--stream", "site_events"]).1["rejected"], 11);
    assert_eq!(lines(&app, "a.jsonl"), before);
    let other = std::fs::read_to_string(app.folder.path().join("a.jsonl.site_events.rejected")).unwrap();
    assert_eq!(other.lines().count(), 11);
}

#[test]
fn a_thousand_refused_lines_in_a_row_stop_the_command() {
    let app = TestApp::start();
    write(&app, "a.jsonl", sales(1, 501) + &"bad\n".repeat(3_000) + &sales(501, 1_001));
    write(&app, "b.jsonl", sales(1, 11));
    for _ in 0..2 {
        let output = app.command(&["send", "--json", "a.jsonl", "b.jsonl"]);
        assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
        let error = stderr(&output);
        for part in
            ["stream `revenue` refused 1000 lines in a row", "--keep-going", "a.jsonl.revenue.rejected"]
        {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(numbers(&app, "a.jsonl").len(), 1_500);
        assert_eq!(
            (balance(&app), stored(&app)),
            (sum(1, 501), 500),
            "the rest and the next file are not sent"
        );
    }
    let (code, outcome) = send(&app, &["a.jsonl", "b.jsonl", "--keep-going"]);
    assert_eq!((code, &outcome["rejected"]), (6, &3_000.into()));
    assert_eq!(numbers(&app, "a.jsonl"), (501..=3_500).collect::<Vec<_>>());
    assert_eq!((balance(&app), stored(&app)), (sum(1, 1_001) + sum(1, 11), 1_010));
}

#[test]
fn one_rejected_line_is_reported_in_the_singular() {
    let app = TestApp::start();
    write(&app, "a.jsonl", sales(1, 2) + "bad\n");
    let output = app.command(&["send", "a.jsonl"]);
    assert!(stderr(&output).contains("1 line was rejected: see "), "{}", stderr(&output));
    let summary = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(summary.starts_with("sent 1 event from 1 file to stream `revenue` in "), "{summary}");
    assert!(summary.ends_with("; already sent: 0 lines; rejected: 1 line\n"), "{summary}");
}
