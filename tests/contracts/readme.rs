//! The README's example, taken out of it and run as it is written.

use std::process::Command;

use crate::harness::TestApp;

const HEADING: &str = "## A stream, a ledger and a door of your own";
const STATISTICS: &str = "## Statistics of your own";

/// The part of the README under a heading.
fn section(heading: &str) -> String {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once(heading).expect("the heading");
    rest.split("\n## ").next().unwrap().to_owned()
}

/// Its blocks of configuration.
fn configuration(section: &str) -> String {
    let blocks = section.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.collect::<Vec<_>>().join("\n")
}

/// What a command line of the section answers, in the folder of the server.
fn answer(app: &TestApp, line: &str) -> String {
    let line = line.trim().replace("http://localhost:8000", &format!("http://{}", app.address));
    let output = Command::new("/bin/sh").current_dir(app.folder.path()).args(["-c", &line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_readmes_own_stream_ledger_and_door_do_as_it_says() {
    let (section, statistics) = (section(HEADING), section(STATISTICS));
    let app = TestApp::configured(&(configuration(&section) + &configuration(&statistics)));
    let lines: Vec<&str> = section.lines().filter(|line| line.starts_with("    curl ")).collect();
    let [send, read] = lines[..] else { panic!("two command lines: {lines:?}") };
    let first = answer(&app, send);
    assert!(first.starts_with(r#"{"ok":true,"refund":""#), "{first}");
    app.settle();
    let shown = answer(&app, read);
    assert!(section.contains(&format!("The second answers `{shown}`.")), "{shown}");
    // Sent again, it counts once.
    assert_eq!(answer(&app, send), first);
    app.settle();
    assert_eq!(answer(&app, read), shown);
    let places = send.replace("9.99", "9.999").replace("r-17", "r-18");
    assert_eq!(answer(&app, &places), r#"{"error":"amount: has more than 2 decimal places"}"#);
    let rows = app.client().get("/v1/views/refund_rows/rows").json()["rows"].clone();
    assert_eq!((rows.as_array().unwrap().len(), &rows[0]["customer"]), (1, &"c1".into()), "{rows}");
    let stats = app.client().get("/v1/views/refunds_by_day/stats?group=c1");
    assert_eq!((stats.status, &stats.json()["total"]), (200, &1.into()), "{}", stats.text());
    let page = app.stranger().with_header("Origin", "https://shop.example");
    assert_eq!(page.post("/event", r#"{"site_id":"s","event_type":"e"}"#).status, 200);
}
