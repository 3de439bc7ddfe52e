//! The files that the arguments select, the folder that they are moved to, and the exit codes.

use super::*;

#[test]
fn folders_and_patterns_are_sent_in_order() {
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
fn sent_files_are_moved_without_overwriting_others() {
    let app = TestApp::start();
    let exists = |name: &str| app.folder.path().join(name).exists();
    write(&app, "in/a.jsonl", sales(1, 11));
    write(&app, "in/bad.jsonl", "bad\n".to_owned() + &sales(11, 21));
    write(&app, "in/empty.jsonl", "");
    assert_eq!(send(&app, &["in", "--stream", "revenue", "--move-to", "in/done"]).0, 6);
    assert!(!exists("in/a.jsonl") && !exists("in/bad.jsonl") && !exists("in/empty.jsonl"));
    assert!(exists("in/done/a.jsonl") && exists("in/done/bad.jsonl") && exists("in/done/empty.jsonl"));
    assert_eq!(rejected::lines(&app, "in/bad.jsonl").len(), 1);
    // Moved files are not found again. A new file of the same name is moved under another name.
    write(&app, "in/a.jsonl", sales(21, 31));
    let (code, outcome) = send(&app, &["in/**/*.jsonl", "--move-to", "in/done"]);
    assert_eq!((code, &outcome["events"], &outcome["files"]), (0, &10.into(), &1.into()));
    assert_eq!(std::fs::read_to_string(app.folder.path().join("in/done/a.jsonl")).unwrap(), sales(1, 11));
    assert_eq!(std::fs::read_to_string(app.folder.path().join("in/done/a-2.jsonl")).unwrap(), sales(21, 31));
    // A file is identified by its path: back at its path, it is recognised.
    write(&app, "in/a.jsonl", sales(1, 11));
    assert_eq!(send(&app, &["in/a.jsonl", "--move-to", "in/done"]).1["events"], 0);
    assert_eq!(balance(&app), sum(1, 31));
    // An empty folder is not an error.
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
fn two_senders_that_move_the_same_file_lose_nothing() {
    let app = TestApp::start();
    write(&app, "in/a.jsonl", sales(1, 3_001));
    let senders: Vec<Child> =
        (0..2).map(|_| start(&app, &["in/a.jsonl", "--move-to", "done", "--chunk-lines", "50"])).collect();
    for sender in senders {
        let output = sender.wait_with_output().unwrap();
        // One sender may come when the other one has moved the file.
        assert!(matches!(output.status.code(), Some(0 | 1 | 5)), "{}", stderr(&output));
    }
    assert_eq!(balance(&app), sum(1, 3_001));
    assert_eq!(std::fs::read_dir(app.folder.path().join("done")).unwrap().count(), 1);
}

#[test]
fn every_outcome_has_its_exit_code() {
    let mut app = TestApp::start();
    write(&app, "a.jsonl", sales(1, 11));
    let ends = |app: &TestApp, arguments: &[&str], code: i32, words: &str| {
        let output = app.command(&[&["send"], arguments].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(words), "{arguments:?}: {}", stderr(&output));
    };
    ends(&app, &[], 2, "required");
    ends(&app, &["a.jsonl", "--follow", "--move-to", "x"], 2, "cannot be used with");
    ends(&app, &["none.jsonl"], 5, "there is no file `none.jsonl`");
    ends(&app, &["a.jsonl", "*.none"], 5, "there is no file `*.none`");
    ends(&app, &["a.jsonl", "--stream", "none"], 5, "there is no stream `none`");
    ends(&app, &["a.jsonl", "--key", "wrong"], 4, "--key");
    ends(&app, &["a.jsonl", "--url", "nonsense"], 2, "expected a URL such as http");
    assert_eq!(stored(&app), 0);
    app.kill();
    ends(&app, &["a.jsonl", "--give-up-after", "0s"], 3, "gave up: no answer from");
    app.restart();
}

#[test]
fn a_file_that_cannot_be_sent_does_not_block_the_others() {
    let app = TestApp::start();
    write(&app, "a.jsonl", sales(1, 3_001));
    write(&app, "b.jsonl", sales(1, 11));
    send(&app, &["a.jsonl"]);
    write(&app, "a.jsonl", sales(1, 2_001));
    let (code, outcome) = send(&app, &["a.jsonl", "b.jsonl"]);
    assert_eq!((code, &outcome["events"]), (1, &10.into()));
    assert_eq!(balance(&app), sum(1, 3_001) + sum(1, 11));
}
