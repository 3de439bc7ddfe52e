//! `millrace view rows`.

use crate::harness::TestApp;
use crate::{failed, lines_of_json, run, stderr};

fn visited() -> TestApp {
    let app = TestApp::start();
    let line = |number: u32| {
        let path = if number.is_multiple_of(2) {
            "null".to_owned()
        } else {
            format!("\"/page \u{1b}{number}\"").replace('\u{1b}', "\\u001b")
        };
        format!(
            "{{\"site_id\":\"s{}\",\"event_type\":\"view\",\"path\":{path},\"timestamp\":\"2025-11-01\"}}\n",
            number % 3
        )
    };
    let lines: String = (1..=1_500).map(line).collect();
    assert_eq!(app.client().post_lines("/v1/streams/site_events/events", &lines).status, 200);
    app.settle();
    app
}

#[test]
fn rows_are_printed_in_pages_and_selected_by_their_values() {
    let app = visited();
    let all = lines_of_json(&run(&app, &["view", "rows", "site_events", "--json"]));
    assert_eq!(all.len(), 1_500);
    let ids: Vec<i64> = all.iter().map(|row| row["id"].as_i64().unwrap()).collect();
    assert!(ids.is_sorted());
    let text = run(&app, &["view", "rows", "site_events", "-n", "2"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(
        lines[0].contains("site_id") && lines[1].contains("s1") && lines[1].contains("/page \\u{1b}1"),
        "{text}"
    );
    let after = ["view", "rows", "site_events", "--json", "--after", &ids[1_497].to_string()];
    assert_eq!(lines_of_json(&run(&app, &after)).len(), 2);
    let some =
        ["view", "rows", "site_events", "--json", "--where", "site_id=s1", "--where", "path=/page \u{1b}7"];
    let some = lines_of_json(&run(&app, &some));
    assert_eq!((some.len(), &some[0]["id"]), (1, &ids[6].into()));
}

#[test]
fn an_empty_selection_and_wrong_arguments_are_explained() {
    let app = visited();
    let none = app.command(&["view", "rows", "site_events", "--where", "site_id=x"]);
    assert_eq!((none.status.code(), none.stdout.len()), (Some(0), 0));
    assert!(stderr(&none).contains("has no such rows"), "{}", stderr(&none));
    assert!(
        failed(&app, 1, &["view", "rows", "site_events", "--where", "x=1"])
            .contains("column `x` does not exist")
    );
    assert!(failed(&app, 5, &["view", "rows", "revenue"]).contains("is not a table"));
    assert!(failed(&app, 5, &["view", "rows", "sites"]).contains("`site_events`"));
    assert_eq!(app.command(&["view", "rows", "site_events", "--where", "x"]).status.code(), Some(2));
}
