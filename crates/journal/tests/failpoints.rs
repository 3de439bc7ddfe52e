//! Failpoints in a real process. Each test starts its own executable again with a failpoint, and checks the log that
//! is left. Needs `--features failpoints`.
#![cfg(feature = "failpoints")]
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::process::Command;

use journal::{Disk, Journal, Options};
use support::{append_wait, open_real, read_all};

const FOLDER_VARIABLE: &str = "JOURNAL_FAILPOINT_FOLDER";
const APPENDS: u64 = 40;

fn options() -> Options {
    Options { segment_bytes_max: 300, ..Options::default() }
}

/// Runs in the child process: appends until the end, or until the failpoint aborts it. It stores how much was
/// acknowledged in a file outside the log.
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
        // The file is replaced in one step, because the process may abort at any time.
        let written = folder.join("acknowledged.tmp");
        std::fs::write(&written, (position + 1).to_string()).unwrap();
        std::fs::rename(written, folder.join("acknowledged")).unwrap();
    }
    journal.close().unwrap();
}

const MAINTENANCE_FOLDER_VARIABLE: &str = "JOURNAL_FAILPOINT_UPKEEP_FOLDER";
const OLD: &[u8] = b"ann@example.com.";
const NEW: &[u8] = b"                ";

/// Runs in the child process: seals the log, blanks every second frame, and trims a third.
#[test]
fn maintenance_child() {
    let Some(folder) = std::env::var_os(MAINTENANCE_FOLDER_VARIABLE) else {
        return;
    };
    let folder = Path::new(&folder);
    let record = |name: &str, position: u64| {
        std::fs::write(folder.join("record.tmp"), position.to_string()).unwrap();
        std::fs::rename(folder.join("record.tmp"), folder.join(name)).unwrap();
    };
    let journal = open_real(&folder.join("log"), options());
    for _ in journal.end()..APPENDS {
        append_wait(&journal, OLD).unwrap();
    }
    let end = journal.seal().unwrap();
    record("sealed", end);
    let mut blank = |frame: &journal::Frame<'_>| frame.position.is_multiple_of(2).then(|| NEW.to_vec());
    journal.rewrite(0, end, &mut blank).unwrap();
    record("rewritten", end);
    record("trimmed", journal.trim(end / 3).unwrap());
    journal.close().unwrap();
}

#[test]
fn every_failpoint_of_seal_rewrite_and_trim_aborts_and_leaves_old_or_new() {
    let names = [
        "journal.sealed=abort@1",
        "journal.rewrite_created=abort@1",
        "journal.rewrite_created=abort@2",
        "journal.rewrite_renamed=abort@2",
        "journal.rewritten=abort@2",
        "journal.trim_marked=abort@1",
        "journal.trim_removed=abort@1",
        "journal.trim_removed=abort@2",
        "journal.trimmed=abort@1",
    ];
    for name in names {
        let folder = tempfile::tempdir().unwrap();
        let run = |failpoints: &str| {
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "maintenance_child", "--nocapture"]);
            child.env(MAINTENANCE_FOLDER_VARIABLE, folder.path());
            child.env("MILLRACE_FAILPOINTS", failpoints);
            child.output().unwrap().status.success()
        };
        // Checks the log. Returns its beginning and the number of blank frames.
        let check = || {
            let recorded = |name: &str| -> Option<u64> {
                std::fs::read_to_string(folder.path().join(name)).ok()?.parse().ok()
            };
            let opened = Journal::open(Disk::real(), &folder.path().join("log"), options()).unwrap();
            assert_eq!(opened.recovery.end, APPENDS, "{name}");
            let begin = opened.journal.begin();
            assert!(recorded("trimmed").is_none_or(|trimmed| trimmed == begin), "{name}: begins at {begin}");
            let frames = read_all(&opened.journal, 1000).unwrap();
            assert_eq!(frames.len() as u64, APPENDS - begin, "{name}");
            let rewritten = recorded("rewritten").is_some();
            for frame in &frames {
                let new = frame.payload == NEW;
                assert!(new || frame.payload == OLD, "{name}");
                assert!(frame.position % 2 == 0 || !new, "{name}: {} is blank", frame.position);
                assert!(frame.position % 2 == 1 || new || !rewritten, "{name}: {} is old", frame.position);
            }
            (begin, frames.iter().filter(|frame| frame.payload == NEW).count())
        };
        assert!(!run(name), "{name} did not abort the child");
        let (begin, blank) = check();
        match name.split(['.', '=']).nth(1).unwrap() {
            "sealed" => assert_eq!((begin, blank), (0, 0)),
            "rewrite_created" if name.ends_with('1') => assert_eq!((begin, blank), (0, 0)),
            step if step.starts_with("rewrit") => assert!(begin == 0 && blank > 0 && blank < 20),
            _ => assert!(begin > 0 && blank > 0, "{name}"),
        }
        assert!(run(""), "{name}: the log continues");
        let (begin, blank) = check();
        assert!(begin > 0 && blank as u64 == (APPENDS - begin).div_ceil(2), "{name}: {begin} {blank}");
    }
}

#[test]
fn every_failpoint_aborts_and_loses_nothing() {
    let names = [
        "journal.recover_copied",
        "journal.recover_renamed",
        "journal.recovered",
        "journal.mark_created",
        "journal.mark_renamed",
        "journal.room_made",
        "journal.write",
        "journal.written",
        "journal.sync",
        "journal.synced",
        "journal.marked",
        "journal.acknowledged",
        "journal.seal",
        "journal.room_given_back",
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
        assert!(!run(&format!("{name}=abort@{at}")), "{name} did not abort the child");
        let acknowledged = std::fs::read_to_string(folder.path().join("acknowledged"));
        let acknowledged: u64 = acknowledged.map_or(0, |text| text.parse().unwrap());
        let opened = Journal::open(Disk::real(), &folder.path().join("log"), options()).unwrap();
        assert!(opened.journal.end() >= acknowledged, "{name}");
        drop(opened);
        assert!(run("journal.sync=sleep:1"), "{name}: the log continues");
        let opened = Journal::open(Disk::real(), &folder.path().join("log"), options()).unwrap();
        assert!(opened.recovery.clean_stop && opened.recovery.end == APPENDS, "{name}");
    }
}

const REMOVED_FOLDER_VARIABLE: &str = "JOURNAL_FAILPOINT_REMOVED_FOLDER";

/// Runs in the child process: appends, and removes the segment while the sync is delayed.
#[test]
fn removing_child() {
    let Some(folder) = std::env::var_os(REMOVED_FOLDER_VARIABLE) else {
        return;
    };
    let folder = Path::new(&folder).join("log");
    let journal = open_real(&folder, Options::default());
    let (sender, receiver) = std::sync::mpsc::channel();
    let done = move |outcome| sender.send(outcome).unwrap();
    journal.append(b"never acknowledged", std::num::NonZeroU32::MIN, Box::new(done));
    // When the file is longer than after the open, the append is written and its sync is next.
    let segment = folder.join("00000000000000000000.seg");
    while std::fs::metadata(&segment).unwrap().len() < 100 {
        std::thread::yield_now();
    }
    std::fs::remove_file(&segment).unwrap();
    let outcome = receiver.recv().unwrap();
    assert!(matches!(outcome, Err(journal::AppendError::Poisoned { .. })), "{outcome:?}");
}

#[test]
fn an_append_whose_file_is_removed_before_the_sync_is_not_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "removing_child"])
        .env(REMOVED_FOLDER_VARIABLE, folder.path())
        .env("MILLRACE_FAILPOINTS", "journal.sync=sleep:1000")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert!(folder.path().join("log").exists(), "the child has created the log");
}
