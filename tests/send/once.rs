//! Every line counts once, however often and by however many senders it is sent, and also if its file changes.

use super::*;

#[test]
fn a_file_is_sent_completely_and_only_once() {
    let app = TestApp::start();
    write(&app, "a.jsonl", sales(1, 2_501));
    let (code, outcome) = send(&app, &["a.jsonl"]);
    assert_eq!((code, &outcome["events"], &outcome["files"]), (0, &2_500.into(), &1.into()));
    assert_eq!((balance(&app), stored(&app)), (sum(1, 2_501), 2_500));
    let output = app.command(&["send", "a.jsonl"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).contains("already sent; `--again`"), "{}", stderr(&output));
    let summary = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        summary.starts_with("sent 0 events from 1 file to stream `revenue` in ")
            && summary.ends_with("; already sent: 2500 lines; rejected: 0 lines\n"),
        "{summary}"
    );
    assert_eq!((balance(&app), stored(&app)), (sum(1, 2_501), 2_500));
}

#[test]
fn concurrent_senders_of_one_file_count_each_line_once() {
    let app = TestApp::start();
    write(&app, "a.jsonl", sales(1, 6_001));
    let senders: Vec<Child> = (0..3).map(|_| start(&app, &["a.jsonl", "--chunk-lines", "50"])).collect();
    let mut sent = 0;
    for sender in senders {
        let output = sender.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        sent += outcome(&output)["events"].as_u64().unwrap();
    }
    assert_eq!((balance(&app), sent), (sum(1, 6_001), stored(&app)));
    assert_eq!(open_dead_letters(&app), 0);
}

#[test]
fn senders_with_different_chunk_sizes_count_each_line_once() {
    let app = TestApp::start();
    write(&app, "a.jsonl", sales(1, 3_001));
    let senders =
        [start(&app, &["a.jsonl", "--chunk-lines", "7"]), start(&app, &["a.jsonl", "--chunk-lines", "50"])];
    for sender in senders {
        assert_eq!(sender.wait_with_output().unwrap().status.code(), Some(0));
    }
    assert_eq!(balance(&app), sum(1, 3_001));
    let (code, outcome) = send(&app, &["a.jsonl"]);
    assert_eq!((code, &outcome["events"]), (0, &0.into()));
}

#[test]
fn again_sends_the_whole_file_again() {
    let app = TestApp::start();
    write(&app, "a.jsonl", sales(1, 101));
    assert_eq!(send(&app, &["a.jsonl"]).0, 0);
    assert_eq!(send(&app, &["a.jsonl", "--again"]).1["events"], 100);
    assert_eq!(balance(&app), 2 * sum(1, 101));
    assert_eq!(send(&app, &["a.jsonl"]).1["events"], 0);
    assert_eq!(send(&app, &["a.jsonl", "--again"]).1["events"], 100);
    assert_eq!(balance(&app), 3 * sum(1, 101));
}

#[test]
fn the_same_lines_under_another_name_are_new() {
    let app = TestApp::start();
    write(&app, "a.jsonl", sales(1, 101));
    write(&app, "b.jsonl", sales(1, 101));
    assert_eq!(send(&app, &["a.jsonl", "b.jsonl", "./a.jsonl"]).1["events"], 200);
    assert_eq!(balance(&app), 2 * sum(1, 101));
    assert_eq!(send(&app, &["b.jsonl"]).1["events"], 0);
}

#[test]
fn other_content_at_the_same_path_is_new() {
    let app = TestApp::start();
    write(&app, "a.jsonl", sales(1, 101));
    send(&app, &["a.jsonl"]);
    // The first line differs.
    write(&app, "a.jsonl", sales(500, 600));
    assert_eq!(send(&app, &["a.jsonl"]).1["events"], 100);
    // The first line is equal to the first file's, the rest differs; the next file is shorter.
    write(&app, "a.jsonl", sale(1) + &sales(700, 800));
    assert_eq!(send(&app, &["a.jsonl"]).1["events"], 101);
    write(&app, "a.jsonl", sale(1) + &sales(700, 710));
    assert_eq!(send(&app, &["a.jsonl"]).1["events"], 11);
    let all = sum(1, 101) + sum(500, 600) + 1 + sum(700, 800) + 1 + sum(700, 710);
    assert_eq!(balance(&app), all);
    // The first content is recognised when it comes back.
    write(&app, "a.jsonl", sales(1, 101));
    assert_eq!(send(&app, &["a.jsonl"]).1["events"], 0);
    assert_eq!(balance(&app), all);
}

#[test]
fn a_file_that_has_grown_is_continued() {
    let app = TestApp::start();
    // The last line has no line break yet.
    write(&app, "a.jsonl", sales(1, 1_501).trim_end());
    assert_eq!(send(&app, &["a.jsonl"]).1["events"], 1_500);
    append(&app, "a.jsonl", "\n\n".to_owned() + &sales(1_501, 3_001));
    let (code, outcome) = send(&app, &["a.jsonl"]);
    assert_eq!((code, &outcome["events"], &outcome["linesThereAlready"]), (0, &1_500.into(), &1_500.into()));
    assert_eq!((balance(&app), stored(&app)), (sum(1, 3_001), 3_000));
    assert_eq!(send(&app, &["a.jsonl"]).1["events"], 0);
}

#[test]
fn an_incomplete_line_is_sent_once_it_is_complete() {
    let app = TestApp::start();
    let whole = sales(1, 11);
    let (begin, rest) = whole.split_at(whole.len() - 9);
    write(&app, "a.jsonl", begin);
    let (code, outcome) = send(&app, &["a.jsonl"]);
    assert_eq!((code, &outcome["events"], &outcome["rejected"]), (6, &9.into(), &1.into()));
    append(&app, "a.jsonl", rest.to_owned() + &sales(11, 12));
    assert_eq!(send(&app, &["a.jsonl"]).1["events"], 2);
    assert_eq!(balance(&app), sum(1, 12));
}

#[test]
fn a_line_extended_after_it_was_sent_is_rejected_and_not_counted_twice() {
    let app = TestApp::start();
    write(&app, "a.jsonl", sales(1, 11).trim_end());
    assert_eq!(send(&app, &["a.jsonl"]).1["events"], 10);
    append(&app, "a.jsonl", ", and more\n".to_owned() + &sales(11, 13));
    let (code, outcome) = send(&app, &["a.jsonl"]);
    assert_eq!((code, &outcome["events"], &outcome["rejected"]), (6, &2.into(), &1.into()));
    let rejected = rejected::lines(&app, "a.jsonl");
    assert_eq!((rejected.len(), &rejected[0]["line"]), (1, &10.into()));
    assert!(rejected[0]["text"].as_str().unwrap().ends_with("10}, and more"));
    assert_eq!(balance(&app), sum(1, 13));
    assert_eq!(send(&app, &["a.jsonl"]).1["events"], 0);
    assert_eq!((balance(&app), rejected::lines(&app, "a.jsonl").len()), (sum(1, 13), 1));
}

#[test]
fn an_edited_file_is_refused_and_not_counted_again() {
    let app = TestApp::start();
    let content = sales(1, 3_001);
    write(&app, "a.jsonl", &content);
    send(&app, &["a.jsonl"]);
    for edited in [content.replace("\"value\":1700}", "\"value\":9999}"), sales(1, 2_001)] {
        let edited = write(&app, "a.jsonl", edited);
        let output = app.command(&["send", "a.jsonl"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("was changed after it was sent"), "{}", stderr(&output));
        assert_eq!((balance(&app), stored(&app)), (sum(1, 3_001), 3_000));
        drop(edited);
    }
    let (code, outcome) = send(&app, &["a.jsonl", "--again"]);
    assert_eq!((code, &outcome["events"]), (0, &2_000.into()));
    assert_eq!(send(&app, &["a.jsonl"]).1["events"], 0);
    assert_eq!(balance(&app), sum(1, 3_001) + sum(1, 2_001));
}

#[test]
fn blank_lines_crlf_and_a_byte_order_mark_are_handled() {
    let app = TestApp::start();
    write(&app, "empty.jsonl", "");
    write(&app, "blank.jsonl", "\n\r\n   \n");
    write(&app, "crlf.jsonl", sales(1, 11).replace('\n', "\r\n"));
    write(&app, "mark.jsonl", "\u{feff}".to_owned() + &sales(1, 11));
    write(&app, "gaps.jsonl", "\n".repeat(2_500) + &sales(1, 11).replace('\n', "\n\n\n"));
    let files = ["empty.jsonl", "blank.jsonl", "crlf.jsonl", "mark.jsonl", "gaps.jsonl"];
    for expected in [30, 0] {
        let (code, outcome) = send(&app, &files);
        assert_eq!((code, &outcome["events"], &outcome["rejected"]), (0, &expected.into(), &0.into()));
        assert_eq!((balance(&app), stored(&app)), (3 * sum(1, 11), 30));
    }
}

#[test]
fn more_runs_than_one_page_are_all_recognised() {
    let app = TestApp::start();
    write(&app, "a.jsonl", sales(1, 2_101));
    assert_eq!(send(&app, &["a.jsonl", "--chunk-lines", "1"]).1["events"], 2_100);
    append(&app, "a.jsonl", sales(2_101, 2_201));
    assert_eq!(send(&app, &["a.jsonl"]).1["events"], 100);
    assert_eq!((balance(&app), stored(&app)), (sum(1, 2_201), 2_200));
}
