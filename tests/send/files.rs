//! Which files are meant, where they go when they are done, and how the command ends.

use super::*;

#[test]
fn folders_and_patterns_are_gone_through_in_order() {
    let app = TestApp::start();
    write(&app, "in/b.ndjson", sales(10, 20));
    write(&app, "in/a.jsonl", sales(1, 10));
    write(&app, "in/c.json", sales(20, 30));
    write(&app, "in/d.txt", sales(500, 600));
    write(&app, "in/a.jsonl.rejected", "{}\n");
    write(&app, "in/deep/er/e.jsonl", sales(30, 40));
    assert_eq!(send(&app, &["in"]).1["files"], 3);
    assert_eq!(balance(&app), sum(1, 30));
    let tail = app.client().get("/v1/streams/revenue/events?from=0").json();
    let values: Vec<u64> = tail["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["event"]["value"].as_u64().unwrap())
        .collect();
    assert_eq!(values, (1..30).collect::<Vec<_>>());
    let outcome = send(&app, &["in/**/*.jsonl"]).1;
    assert_eq!((&outcome["files"], &outcome["events"]), (&2.into(), &10.into()));
    assert_eq!(send(&app, &["in/?.*son"]).1["events"], 0);
}

#[test]
fn files_that_are_done_move_and_nothing_is_written_over() {
    let app = TestApp::start();
    let there = |name: &str| app.folder.path().join(name).exists();
    write(&app, "in/a.jsonl", sales(1, 11));
    write(&app, "in/bad.jsonl", "bad\n".to_owned() + &sales(11, 21));
    write(&app, "in/empty.jsonl", "");
    assert_eq!(send(&app, &["in", "--move-to", "in/done"]).0, 6);
    assert!(!there("in/a.jsonl") && !there("in/bad.jsonl") && !there("in/empty.jsonl"));
    assert!(there("in/done/a.jsonl") && there("in/done/bad.jsonl") && there("in/done/empty.jsonl"));
    assert_eq!(rejected::lines(&app, "in/bad.jsonl").len(), 1);
    // What is done is not found again; a new file of the same name is kept beside it.
    write(&app, "in/a.jsonl", sales(21, 31));
    let (code, outcome) = send(&app, &["in/**/*.jsonl", "--move-to", "in/done"]);
    assert_eq!((code, &outcome["events"], &outcome["files"]), (0, &10.into(), &1.into()));
    assert_eq!(std::fs::read_to_string(app.folder.path().join("in/done/a.jsonl")).unwrap(), sales(1, 11));
    assert_eq!(std::fs::read_to_string(app.folder.path().join("in/done/a-2.jsonl")).unwrap(), sales(21, 31));
    // The path it had is what it is known by: put back, it is known.
    write(&app, "in/a.jsonl", sales(1, 11));
    assert_eq!(send(&app, &["in/a.jsonl", "--move-to", "in/done"]).1["events"], 0);
    assert_eq!(balance(&app), sum(1, 31));
    // An empty folder is no error.
    let (code, outcome) = send(&app, &["in", "--move-to", "in/done"]);
    assert_eq!((code, &outcome["files"]), (0, &0.into()));
}

#[test]
fn files_move_to_another_file_system() {
    let app = TestApp::start();
    let elsewhere = tempfile::tempdir_in("/dev/shm").expect("another file system at /dev/shm");
    write(&app, "a.jsonl", sales(1, 11));
    let done = elsewhere.path().join("done");
    assert_eq!(send(&app, &["a.jsonl", "--move-to", done.to_str().unwrap()]).0, 0);
    assert_eq!(std::fs::read_to_string(done.join("a.jsonl")).unwrap(), sales(1, 11));
    assert!(!app.folder.path().join("a.jsonl").exists());
    assert_eq!(balance(&app), sum(1, 11));
}

#[test]
fn two_that_move_lose_nothing() {
    let app = TestApp::start();
    write(&app, "in/a.jsonl", sales(1, 3_001));
    let senders: Vec<Child> =
        (0..2).map(|_| start(&app, &["in/a.jsonl", "--move-to", "done", "--chunk-lines", "50"])).collect();
    for sender in senders {
        let output = sender.wait_with_output().unwrap();
        // The later one may come when the file is gone.
        assert!(matches!(output.status.code(), Some(0 | 1 | 5)), "{}", said(&output));
    }
    assert_eq!(balance(&app), sum(1, 3_001));
    assert_eq!(std::fs::read_dir(app.folder.path().join("done")).unwrap().count(), 1);
}

#[test]
fn every_end_has_its_code() {
    let mut app = TestApp::start();
    write(&app, "a.jsonl", sales(1, 11));
    let ends = |app: &TestApp, arguments: &[&str], code: i32, words: &str| {
        let output = app.command(&[&["send"], arguments].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(words), "{arguments:?}: {}", said(&output));
    };
    ends(&app, &[], 2, "required");
    ends(&app, &["a.jsonl", "--follow", "--move-to", "x"], 2, "cannot be used with");
    ends(&app, &["none.jsonl"], 5, "there is no file `none.jsonl`");
    ends(&app, &["a.jsonl", "*.none"], 5, "there is no file `*.none`");
    ends(&app, &["a.jsonl", "--stream", "none"], 5, "there is no stream `none`");
    ends(&app, &["a.jsonl", "--key", "wrong"], 4, "--key");
    ends(&app, &["a.jsonl", "--url", "nonsense"], 2, "it has to be like http");
    assert_eq!(stored(&app), 0);
    app.kill();
    ends(&app, &["a.jsonl", "--give-up-after", "0s"], 3, "given up: no answer from");
    app.restart();
}

#[test]
fn a_file_that_cannot_be_read_does_not_hold_up_the_others() {
    let app = TestApp::start();
    write(&app, "a.jsonl", sales(1, 3_001));
    write(&app, "b.jsonl", sales(1, 11));
    send(&app, &["a.jsonl"]);
    write(&app, "a.jsonl", sales(1, 2_001));
    let (code, outcome) = send(&app, &["a.jsonl", "b.jsonl"]);
    assert_eq!((code, &outcome["events"]), (1, &10.into()));
    assert_eq!(balance(&app), sum(1, 3_001) + sum(1, 11));
}
