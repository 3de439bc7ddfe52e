//! Failpoints break a real process: this test starts itself again with one set and looks
//! at what is left. Runs with `--features failpoints`.
#![cfg(feature = "failpoints")]
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::process::Command;

use journal::{Disk, Journal, Options, failpoint};
use support::{append_wait, open_real};

const FOLDER_VARIABLE: &str = "JOURNAL_FAILPOINT_FOLDER";
const APPENDS: u64 = 40;

fn options() -> Options {
    Options { segment_bytes_max: 300, ..Options::default() }
}

/// The child's part: append until the end, or until the failpoint strikes. Every answer
/// is kept outside the log.
#[test]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER_VARIABLE) else {
        return;
    };
    let folder = Path::new(&folder);
    assert!(failpoint::skips("test.skipped") && !failpoint::skips("test.other"));
    let journal = open_real(&folder.join("log"), options());
    for _ in journal.end()..APPENDS {
        let position = append_wait(&journal, b"sixteen bytes...").unwrap();
        // In one step, since the process may abort in the middle of any.
        let written = folder.join("acknowledged.tmp");
        std::fs::write(&written, (position + 1).to_string()).unwrap();
        std::fs::rename(written, folder.join("acknowledged")).unwrap();
    }
    journal.close().unwrap();
}

#[test]
fn every_failpoint_aborts_and_loses_nothing() {
    let names = [
        "journal.recover_copied",
        "journal.recover_renamed",
        "journal.recovered",
        "journal.mark_created",
        "journal.mark_renamed",
        "journal.write",
        "journal.written",
        "journal.sync",
        "journal.synced",
        "journal.marked",
        "journal.acknowledged",
        "journal.seal",
        "journal.segment_created",
        "journal.segment_renamed",
        "journal.stop",
    ];
    for name in names {
        let at = if name.starts_with("journal.re") || name.contains("mark_") { 1 } else { 3 };
        let at = if name == "journal.stop" { 1 } else { at };
        let folder = tempfile::tempdir().unwrap();
        let run = |failpoints: &str| {
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "child", "--nocapture"]);
            child.env(FOLDER_VARIABLE, folder.path());
            child.env("MILLRACE_FAILPOINTS", format!("test.skipped=skip;{failpoints}"));
            child.output().unwrap().status.success()
        };
        assert!(!run(&format!("{name}=abort@{at}")), "{name} did not strike");
        let acknowledged = std::fs::read_to_string(folder.path().join("acknowledged"));
        let acknowledged: u64 = acknowledged.map_or(0, |text| text.parse().unwrap());
        let opened = Journal::open(Disk::real(), &folder.path().join("log"), options()).unwrap();
        assert!(opened.journal.end() >= acknowledged, "{name}");
        drop(opened);
        assert!(run("journal.sync=sleep:1"), "{name}: the log goes on");
        let opened = Journal::open(Disk::real(), &folder.path().join("log"), options()).unwrap();
        assert!(opened.recovery.clean_stop && opened.recovery.end == APPENDS, "{name}");
    }
}
