//! Runs the examples of the README and the guide exactly as they are written there.

use std::process::Command;

use crate::harness::TestApp;

const README: &str = include_str!("../../README.md");
const GUIDE: &str = include_str!("../../docs/GUIDE.md");

/// Returns the section of a document under a heading.
fn section(document: &str, heading: &str) -> String {
    let (_, rest) = document.split_once(heading).expect("the heading");
    rest.split("\n## ").next().unwrap().to_owned()
}

/// Returns the TOML blocks of a section.
fn configuration(section: &str) -> String {
    let blocks = section.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.collect::<Vec<_>>().join("\n")
}

/// Runs a command line of the section in the server's folder, and returns its output.
fn answer(app: &TestApp, line: &str) -> String {
    let line = line.trim().replace("http://localhost:8000", &format!("http://{}", app.address));
    let output = Command::new("/bin/sh").current_dir(app.folder.path()).args(["-c", &line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_readme_examples_work_as_written() {
    let rows = section(GUIDE, "## Rows of your own");
    let statistics = section(GUIDE, "## Statistics of your own");
    let section = section(README, "## Your own stream, ledger and source");
    let parts = [&section, &rows, &statistics].map(|section| configuration(section));
    let app = TestApp::configured(&format!("presets = []\n{}", parts.concat()));
    let lines: Vec<&str> = section.lines().filter(|line| line.starts_with("    curl ")).collect();
    let [send, read] = lines[..] else { panic!("expected two command lines: {lines:?}") };
    let first = answer(&app, send);
    assert!(first.starts_with(r#"{"ok":true,"refund":""#), "{first}");
    app.settle();
    let shown = answer(&app, read);
    assert!(section.contains(&format!("The second command prints `{shown}`.")), "{shown}");
    // The repeated request counts once.
    assert_eq!(answer(&app, send), first);
    app.settle();
    assert_eq!(answer(&app, read), shown);
    let places = send.replace("9.99", "9.999").replace("r-17", "r-18");
    assert_eq!(answer(&app, &places), r#"{"error":"amount: has more than 2 decimal places"}"#);
    let rows = app.client().get("/v1/views/refund_rows/rows").json()["rows"].clone();
    assert_eq!((rows.as_array().unwrap().len(), &rows[0]["customer"]), (1, &"c1".into()), "{rows}");
    let stats = app.client().get("/v1/views/refunds_by_day/stats?group=c1");
    assert_eq!((stats.status, &stats.json()["total"]), (200, &1.into()), "{}", stats.text());
}
