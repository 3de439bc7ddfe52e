//! Files of an open log are deleted, moved, replaced or cut. The log then acknowledges nothing that the next open
//! would not find.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use journal::{AppendError, CloseError, Disk, Journal, OpenError, Options, Signal};
use support::{append_wait, open_real, read_all};

const DEADLINE: Duration = Duration::from_secs(60);

fn segment(folder: &Path, first: u64) -> std::path::PathBuf {
    folder.join(format!("{first:020}.seg"))
}

/// Appends, and returns the reason for which the log refuses it.
fn refusal(journal: &Journal) -> String {
    match append_wait(journal, b"late") {
        Err(AppendError::Poisoned { reason }) => reason,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn a_second_process_is_refused_after_the_lock_file_was_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open_real(folder.path(), Options::default());
    for _ in 0..2 {
        let second = Journal::open(Disk::real(), folder.path(), Options::default());
        let error = second.err().unwrap();
        let OpenError::Locked(locked) = &error else { panic!("{error}") };
        assert_eq!(locked.folder, folder.path());
        assert!(error.to_string().contains("Never delete `lock`"), "{error}");
        drop(fs::remove_file(folder.path().join("lock")));
    }
    append_wait(&journal, b"more").unwrap();
    journal.close().unwrap();
    let opened = Journal::open(Disk::real(), folder.path(), Options::default()).unwrap();
    assert_eq!(opened.recovery.end, 1);
}

#[test]
fn the_refusal_names_the_process_that_holds_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let _journal = open_real(folder.path(), Options::default());
    let error = Journal::open(Disk::real(), folder.path(), Options::default()).err().unwrap().to_string();
    assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");
}

#[test]
fn a_process_that_has_ended_is_not_named() {
    let folder = tempfile::tempdir().unwrap();
    drop(open_real(folder.path(), Options::default()));
    let held = fs::File::open(folder.path()).unwrap();
    held.lock().unwrap();
    let error = Journal::open(Disk::real(), folder.path(), Options::default()).err().unwrap().to_string();
    assert!(error.contains("another process uses") && !error.contains("(process"), "{error}");
}

#[test]
fn no_append_is_acknowledged_after_a_log_file_was_removed_moved_replaced_or_cut() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 6] = [
        ("folder removed", |folder| fs::remove_dir_all(folder).unwrap()),
        ("folder moved", |folder| fs::rename(folder, folder.with_file_name("elsewhere")).unwrap()),
        ("segment removed", |folder| fs::remove_file(segment(folder, 0)).unwrap()),
        ("segment moved", |folder| fs::rename(segment(folder, 0), folder.join("elsewhere")).unwrap()),
        ("segment replaced", |folder| {
            fs::copy(segment(folder, 0), folder.join("copy")).unwrap();
            fs::rename(folder.join("copy"), segment(folder, 0)).unwrap();
        }),
        ("segment cut", |folder| {
            OpenOptions::new().write(true).open(segment(folder, 0)).unwrap().set_len(60).unwrap();
        }),
    ];
    for (name, damage) in damages {
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("journal");
        let journal = open_real(&folder, Options::default());
        append_wait(&journal, b"kept").unwrap();
        damage(&folder);
        let reason = refusal(&journal);
        assert!(
            reason.contains("journal") && reason.contains("while the server was using it"),
            "{name}: {reason}"
        );
        assert_eq!(journal.end(), 1, "{name}");
        assert!(matches!(journal.close(), Err(CloseError::Poisoned { .. })), "{name}");
    }
}

#[test]
fn a_large_group_is_not_written_to_a_truncated_segment() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open_real(folder.path(), Options::default());
    append_wait(&journal, b"kept").unwrap();
    OpenOptions::new().write(true).open(segment(folder.path(), 0)).unwrap().set_len(0).unwrap();
    // The group is larger than the preallocated space, so the length of the file proves nothing afterwards.
    assert!(append_wait(&journal, &vec![7; 4 << 20]).is_err());
}

#[test]
fn an_idle_log_notices_a_removed_file_within_seconds() {
    let active = |folder: &Path| segment(folder, 1);
    for removed in [segment as fn(&Path, u64) -> _, |folder, _| folder.join("durable")] {
        let folder = tempfile::tempdir().unwrap();
        let (sender, failed) = mpsc::channel();
        let observer = move |signal| match signal {
            Signal::Poisoned { reason } => sender.send(reason).unwrap(),
            Signal::Durable { .. } => {}
        };
        let journal =
            open_real(folder.path(), Options { observer: Arc::new(observer), ..Options::default() });
        append_wait(&journal, b"sealed").unwrap();
        journal.seal().unwrap();
        append_wait(&journal, b"open").unwrap();
        assert!(active(folder.path()).exists());
        let removed = removed(folder.path(), 0);
        fs::remove_file(&removed).unwrap();
        let reason = failed.recv_timeout(DEADLINE).unwrap();
        assert!(reason.contains(removed.file_name().unwrap().to_str().unwrap()), "{reason}");
        refusal(&journal);
    }
}

#[test]
fn a_stop_is_not_clean_if_the_log_was_removed_just_before() {
    let above = tempfile::tempdir().unwrap();
    let folder = above.path().join("journal");
    let journal = open_real(&folder, Options::default());
    append_wait(&journal, b"kept").unwrap();
    fs::remove_dir_all(&folder).unwrap();
    assert!(matches!(journal.close(), Err(CloseError::Poisoned { .. })));
    assert!(!folder.exists());
}

#[test]
fn a_rewrite_or_a_trim_is_not_mistaken_for_a_moved_file() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open_real(folder.path(), Options { segment_bytes_max: 200, ..Options::default() });
    for _ in 0..300 {
        append_wait(&journal, b"twenty bytes of text").unwrap();
    }
    let end = journal.seal().unwrap();
    let begun = std::time::Instant::now();
    let mut round = 0;
    // This is longer than the interval between two checks of the files.
    while begun.elapsed() < Duration::from_secs(3) {
        let from = journal.begin();
        let change = &mut |frame: &journal::Frame<'_>| Some(vec![round; frame.payload.len()]);
        journal.rewrite(from, end, change).unwrap();
        journal.trim(from + 3).unwrap();
        append_wait(&journal, b"more").unwrap();
        round = round.wrapping_add(1);
    }
    assert!(round > 1);
    assert!(!read_all(&journal, 1000).unwrap().is_empty());
    journal.close().unwrap();
}
