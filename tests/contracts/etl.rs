//! Contract 5: the ETL trio. On the wire it is contract 1. It adds files of many records, several processors
//! at once, and the cases that its README leaves open: an interrupted client, server or processor.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};

use crate::harness::{TestApp, read_lines, wait_for};

const RECORDS: u64 = 40_000;

/// Generates a file of records, and returns the expected balance of each user in ten-thousandths.
fn records(app: &TestApp, name: &str, seed: &str) -> BTreeMap<String, i64> {
    let count = RECORDS.to_string();
    let made =
        app.command(&["generate", "--events", &count, "--users", "50", "--seed", seed, "--output", name]);
    assert!(made.status.success());
    let mut sums = BTreeMap::new();
    for line in read_lines(&app.folder.path().join(name)) {
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        let value = (event["value"].as_f64().unwrap() * 10_000.0).round() as i64;
        let sign = if event["name"] == "add_revenue" { 1 } else { -1 };
        *sums.entry(event["userId"].as_str().unwrap().to_owned()).or_default() += sign * value;
    }
    sums
}

fn merged(all: &[BTreeMap<String, i64>]) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    for (user, value) in all.iter().flatten() {
        *sums.entry(user.clone()).or_default() += value;
    }
    sums
}

/// Reads the table with the SQL of the replaced services.
fn table(app: &TestApp) -> BTreeMap<String, i64> {
    app.settle();
    let scaled = |text: &str| (text.parse::<f64>().unwrap() * 10_000.0).round() as i64;
    app.sql("SELECT user_id, revenue FROM users_revenue")
        .lines()
        .filter_map(|row| row.split_once('\t'))
        .map(|(user, sum)| (user.to_owned(), scaled(sum)))
        .collect()
}

fn sender(app: &TestApp, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_millrace"))
        .current_dir(app.folder.path())
        .env_clear()
        .env("MILLRACE_URL", format!("http://{}", app.address))
        .arg("send")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn large_files_pass_through_several_processors_at_once() {
    let app = TestApp::start();
    let expected = merged(&[records(&app, "a.jsonl", "1"), records(&app, "b.jsonl", "2")]);
    // Two senders share one file, one sends the other file, and one sends both.
    let files: [&[&str]; 4] = [&["a.jsonl"], &["a.jsonl"], &["b.jsonl"], &["b.jsonl", "a.jsonl"]];
    let senders: Vec<Child> = files.iter().map(|files| sender(&app, files)).collect();
    for mut sender in senders {
        assert!(sender.wait().unwrap().success());
    }
    assert_eq!(table(&app), expected);
    let again = app.command(&["send", "a.jsonl", "b.jsonl", "--json"]);
    let outcome: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(outcome["events"], 0, "a second run over a file sends nothing");
    assert_eq!(table(&app), expected);
}

/// The README of the replaced services says that they do not handle these three cases.
#[test]
fn client_server_and_processor_may_be_killed_at_any_moment() {
    let mut app = TestApp::start();
    let address = app.address.clone();
    let expected = records(&app, "a.jsonl", "3");
    let small = ["a.jsonl", "--chunk-lines", "50"];
    // Kill the client. Acknowledged lines must not be sent again.
    let mut client = sender(&app, &small);
    wait_for("some records", || app.log_end() > RECORDS / 8);
    client.kill().unwrap();
    client.wait().unwrap();
    assert!(app.log_end() < RECORDS, "the client was killed after its last record");
    let (repeats_max, mut cut_off) = (50, 0);
    // Kill the server, which contains the processor, while the views are still behind the log.
    let mut client = sender(&app, &small);
    for part in [3, 5] {
        wait_for("more records", || {
            app.log_end() > RECORDS * part / 8 || client.try_wait().unwrap().is_some()
        });
        cut_off += usize::from(client.try_wait().unwrap().is_none());
        app.restart_with(|start| start.arguments = vec!["--listen".to_owned(), address.clone()]);
    }
    assert!(client.wait().unwrap().success());
    assert!(cut_off > 0, "every client finished before the server was killed");
    assert_eq!(table(&app), expected);
    let repeats = app.log_end() - RECORDS;
    assert!(repeats <= 3 * repeats_max, "{repeats} were sent twice over three kills");
}

/// A client of the replaced services sends every line as its own request, several of them at once.
#[test]
fn concurrent_single_line_requests_are_each_answered() {
    let app = TestApp::start();
    let lines: Vec<String> =
        (1..=300).map(|n| format!(r#"{{"userId":"u","name":"add_revenue","value":{n}}}"#)).collect();
    std::thread::scope(|scope| {
        for part in lines.chunks(10) {
            let client = app.client();
            scope.spawn(move || {
                for line in part {
                    assert_eq!(client.post("/liveEvent", line).status, 200);
                }
            });
        }
    });
    assert_eq!(app.balance("u").as_deref(), Some("45150"));
}
