//! `--watch` of `view balance`, `view stats` and `notification list`.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::{TestApp, free_port};
use crate::running::Running;
use crate::{failed, lines_of_json, run, sell, stdout};

/// Starts a server that has the same address after a restart.
fn restartable() -> TestApp {
    let mut app = TestApp::start();
    let address = app.address.clone();
    app.restart_with(|start| start.arguments = vec!["--listen".to_owned(), address]);
    app
}

fn visit(app: &TestApp, user: &str, path: &str) {
    let event = format!(r#"{{"site_id":"s","event_type":"view","path":"{path}","user_id":"{user}"}}"#);
    assert_eq!(app.client().post("/v1/streams/site_events/events?wait=applied", &event).status, 200);
}

/// Sends an event, and returns the id of its notification.
fn sign_up(app: &TestApp, user: &str) -> String {
    let event = format!(
        r#"{{"eventType":"user_signup","timestamp":"2023-10-27T10:00:00Z","payload":{{"userId":"{user}","email":"{user}@example.com","username":"test {user}"}}}}"#
    );
    let answer = app.client().post("/v1/streams/notifications/events?wait=applied", &event);
    assert_eq!(answer.status, 200, "{}", answer.text());
    format!("notif-{}", answer.json()["eventId"].as_str().unwrap())
}

#[test]
fn watch_prints_a_balance_and_each_change_across_a_restart() {
    let mut app = restartable();
    let mut watch = Running::start(&app, &["view", "balance", "revenue", "user1", "--watch"]);
    watch.wait_for_stdout("-\n");
    sell(&app, "user1", "999999999999999.9990");
    watch.wait_for_stdout("-\n999999999999999.999\n");
    sell(&app, "user2", "1");
    sell(&app, "user1", "0.0009");
    watch.wait_for_stdout("-\n999999999999999.999\n999999999999999.9999\n");
    app.kill();
    watch.wait_for_notes(1, "; retrying");
    app.restart();
    // The value that the next connection begins with is not new.
    sell(&app, "user1", "-1");
    watch.wait_for_stdout("-\n999999999999999.999\n999999999999999.9999\n999999999999998.9999\n");
    watch.wait_for_notes(1, "millrace: ");
    watch.interrupt();
    assert_eq!(watch.exit_code(), Some(0));
}

#[test]
fn watch_prints_json_lines() {
    let app = TestApp::start();
    sell(&app, "user1", "1");
    app.settle();
    let watch = Running::start(&app, &["view", "balance", "revenue", "user1", "--watch", "--json"]);
    let balance = |text: &str| format!("{{\"view\":\"revenue\",\"key\":\"user1\",\"balance\":{text}}}\n");
    watch.wait_for_stdout(&balance("1"));
    sell(&app, "user1", "1.10");
    watch.wait_for_stdout(&format!("{}{}", balance("1"), balance("2.1")));
    let stats = Running::start(&app, &["view", "stats", "site_stats", "s", "--watch", "--json"]);
    stats.wait_for_text("\n");
    visit(&app, "a", "/x");
    stats.wait_for_text("\"total\":1");
    let totals: Vec<_> = lines_of_json(&stats.stdout()).into_iter().map(|one| one["total"].clone()).collect();
    assert_eq!(totals, [0, 1]);
    let list = Running::start(&app, &["notification", "list", "--watch", "--json"]);
    list.wait_for_text("\n");
    let id = sign_up(&app, "u1");
    list.wait_for_text(&id);
    let lists = lines_of_json(&list.stdout());
    assert_eq!(lists[0]["notifications"].as_array().unwrap().len(), 0);
    assert_eq!(lists[1]["notifications"][0]["id"], id.as_str());
}

#[test]
fn watch_prints_statistics_with_an_empty_line_between_them() {
    let app = TestApp::start();
    visit(&app, "a", "/x");
    let mut watch = Running::start(&app, &["view", "stats", "site_stats", "s", "--by", "path", "--watch"]);
    let first = "total     1\ndistinct  1\n\nVALUE  COUNT\n/x         1\n";
    watch.wait_for_stdout(first);
    visit(&app, "b", "/x");
    watch.wait_for_stdout(&format!("{first}\ntotal     2\ndistinct  2\n\nVALUE  COUNT\n/x         2\n"));
    watch.interrupt();
    assert_eq!(watch.exit_code(), Some(0));
}

#[test]
fn watch_lists_notifications_with_a_status() {
    let app = TestApp::start();
    app.pause_log_destination();
    let watch = Running::start(&app, &["notification", "list", "--watch", "--status", "queued"]);
    let nothing = "no notifications found\n";
    watch.wait_for_stdout(nothing);
    let id = sign_up(&app, "u1");
    watch.wait_for_text("u1@example.com");
    let line = watch.stdout().lines().find(|line| line.starts_with(&id)).unwrap().to_owned();
    assert!(line.contains("QUEUED") && watch.stdout().starts_with(&format!("{nothing}\nID ")), "{line}");
    run(&app, &["event", "take-back", id.strip_prefix("notif-").unwrap()]);
    watch.wait_for_text(&format!("{line}\n\n{nothing}"));
}

#[test]
fn watch_refuses_what_cannot_be_followed() {
    let app = TestApp::start();
    let line = failed(&app, 2, &["view", "balance", "revenue", "--watch"]);
    assert!(line.contains("name its key, as in `millrace view balance revenue KEY --watch`"), "{line}");
    assert!(failed(&app, 5, &["view", "balance", "sales", "user1", "--watch"]).contains("`revenue`"));
    assert!(failed(&app, 5, &["view", "balance", "site_stats", "s", "--watch"]).contains("not a ledger"));
    assert!(failed(&app, 5, &["view", "stats", "sites", "s", "--watch"]).contains("`site_stats`"));
    let stats = ["view", "stats", "site_stats", "s", "--watch"];
    assert!(
        failed(&app, 5, &["view", "stats", "revenue", "s", "--watch"]).contains("not a view of statistics")
    );
    assert!(failed(&app, 1, &[&stats[..], &["--from", "soon"]].concat()).contains("from: expected a day"));
    let range = ["--by", "path", "--from", "2025-11-01", "--to", "2025-11-02"];
    assert!(failed(&app, 1, &[&stats[..], &range].concat()).contains("for one day or for all time"));
    let list = ["notification", "list", "--watch"];
    assert!(failed(&app, 5, &[&list[..], &["--view", "mails"]].concat()).contains("`notifications`"));
    failed(&app, 4, &[&list[..], &["--key", "wrong"]].concat());
    let url = format!("http://127.0.0.1:{}", free_port());
    failed(&app, 3, &[&list[..], &["--url", &url]].concat());
}

#[test]
fn watch_ends_when_its_key_is_revoked() {
    let app = TestApp::start();
    let key = stdout(&app.command(&["key", "add", "reader", "--scopes", "read"]));
    let mut watch =
        Running::start(&app, &["view", "balance", "revenue", "user1", "--watch", "--key", key.trim()]);
    watch.wait_for_stdout("-\n");
    run(&app, &["key", "revoke", "reader"]);
    assert_eq!(watch.exit_code(), Some(4));
    watch.wait_for_notes(1, "set another key with `--key`");
}

/// Starts a command on a terminal of this size.
fn on_terminal(app: &TestApp, columns: u16, rows: u16, command: &str) -> Running {
    let program = env!("CARGO_BIN_EXE_millrace");
    let line = format!("stty cols {columns} rows {rows} -onlcr; exec '{program}' {command}");
    let mut script = Command::new("script");
    script.current_dir(app.folder.path()).env_clear().env("PATH", "/usr/bin:/bin");
    script.env("MILLRACE_URL", format!("http://{}", app.address));
    script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped());
    Running::spawn(script)
}

#[test]
fn watch_redraws_in_place_on_a_terminal() {
    let mut app = restartable();
    sell(&app, "user1", "5");
    app.settle();
    let mut watch = on_terminal(&app, 60, 10, "view balance revenue user1 --watch");
    let drawn = |up: &str, text: &str| format!("\x1b[?7l\r{up}\x1b[2K{text}\n\x1b[J\x1b[?7h");
    let mut expected = drawn("", "5");
    watch.wait_for_stdout(&expected);
    sell(&app, "user1", "1");
    expected.push_str(&drawn("\x1b[1A", "6"));
    watch.wait_for_stdout(&expected);
    app.kill();
    watch.wait_for_text("; retrying\n");
    app.restart();
    // The value is drawn again below the note.
    watch.wait_for_text(&format!("; retrying\n{}", drawn("", "6")));
    watch.child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    assert_eq!(watch.exit_code(), Some(0));
}

#[test]
fn watch_cuts_what_does_not_fit_on_the_terminal() {
    let app = TestApp::start();
    visit(&app, "a", "/a-long-path");
    let watch = on_terminal(&app, 10, 6, "view stats site_stats s --by path --watch");
    let clear = "\x1b[2K";
    let begin = format!("{clear}total     \n{clear}distinct  \n{clear}\n{clear}VALUE     \n");
    let first = format!("\x1b[?7l\r{begin}{clear}/a-long-pa\n\x1b[J\x1b[?7h");
    watch.wait_for_stdout(&first);
    visit(&app, "a", "/b");
    watch.wait_for_stdout(&format!("{first}\x1b[?7l\r\x1b[5A{begin}{clear}(2 more li\n\x1b[J\x1b[?7h"));
}
