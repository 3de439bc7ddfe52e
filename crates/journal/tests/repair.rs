//! `inspect` reports which events are lost and changes nothing. `repair` loses exactly those events, and all others
//! keep their positions. The tests damage every byte of a small log.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};

use journal::simulation::SimDisk;
use journal::{Inspection, OpenError, RepairError, Repaired, inspect, repair};
use support::{Entry, filled, folder, open, read_all, small, trimmed};

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let files = disk.files().into_iter();
    files.filter(|path| path.extension().is_some_and(|e| e == "seg")).collect()
}

fn inspect_unchanged(disk: &SimDisk) -> Inspection {
    let before = disk.trace();
    let inspection = inspect(&disk.disk(), folder()).unwrap();
    assert_eq!(disk.trace(), before, "an inspection changes nothing");
    inspection
}

fn inspect_and_repair(disk: &SimDisk) -> Repaired {
    repair(&disk.disk(), folder(), &inspect_unchanged(disk)).unwrap()
}

/// Checks a repaired log: it opens, every event is at its old position or in a lost frame, and all lost events were
/// announced by the inspection. Returns the number of lost events.
fn check_repaired(disk: &SimDisk, content: &[Entry], announced: &Inspection, what: &str) -> u64 {
    disk.crash();
    let after = inspect_unchanged(disk);
    assert_eq!(after.damages, [], "{what}");
    let log = open(disk, small()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = read_all(&log.journal, 700).unwrap();
    let mut lost = 0;
    for frame in &found {
        if frame.lost {
            lost += u64::from(frame.count);
            let covered = |from, to| from <= frame.position && frame.end() <= to;
            let expected = announced.damages.iter().any(|d| covered(d.lost_from, d.lost_to));
            assert!(expected, "{what}: lost {frame:?}, announced {:?}", announced.damages);
        } else {
            assert!(content.contains(frame), "{what}: {frame:?} was never there");
        }
    }
    assert_eq!(log.journal.begin(), content[0].position, "{what}");
    assert_eq!(log.journal.end(), content.last().unwrap().end(), "{what}");
    assert_eq!(log.recovery.lost_events, lost, "{what}");
    lost
}

/// A log that begins at position 0, and one whose beginning was trimmed.
fn logs() -> [(SimDisk, Vec<Entry>); 2] {
    [filled(30, true), trimmed(40, true)]
}

#[test]
fn a_flipped_byte_loses_at_most_one_frame() {
    for (whole, content) in logs() {
        for path in segments(&whole) {
            let bytes = whole.file(&path).unwrap();
            for at in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[at] ^= 0x55;
                let disk = whole.copy();
                disk.put(&path, flipped.clone());
                let before = inspect_unchanged(&disk);
                let announced: u64 = before.damages.iter().map(|d| d.lost_to - d.lost_from).sum();
                let repaired = inspect_and_repair(&disk);
                let what = format!("{} byte {at}", path.display());
                assert_eq!(repaired.lost_events, announced, "{what}");
                assert_eq!(check_repaired(&disk, &content, &before, &what), announced, "{what}");
                assert!(announced <= 3, "{what}: {announced} lost");
                let kept = disk.file(&repaired.kept[0]).unwrap();
                assert_eq!(kept, flipped, "{what}: the original is kept");
            }
        }
    }
}

#[test]
fn a_truncated_segment_loses_only_the_announced_events() {
    for (whole, content) in logs() {
        for path in segments(&whole) {
            let bytes = whole.file(&path).unwrap();
            for length in 0..bytes.len() {
                let disk = whole.copy();
                disk.put(&path, bytes[..length].to_vec());
                let before = inspect_unchanged(&disk);
                let repaired = inspect_and_repair(&disk);
                let what = format!("{} cut to {length}", path.display());
                assert_eq!(check_repaired(&disk, &content, &before, &what), repaired.lost_events, "{what}");
            }
        }
    }
}

#[test]
fn a_missing_segment_loses_only_its_own_events() {
    for (whole, content) in logs() {
        for path in segments(&whole) {
            let disk = whole.copy();
            disk.take(&path);
            let before = inspect_unchanged(&disk);
            assert_eq!(before.damages.len(), 1);
            inspect_and_repair(&disk);
            let lost = check_repaired(&disk, &content, &before, &path.display().to_string());
            assert_eq!(lost, before.damages[0].lost_to - before.damages[0].lost_from);
            assert!(lost > 0);
        }
    }
}

#[test]
fn bytes_removed_from_the_middle_lose_only_the_announced_events() {
    for (whole, content) in logs() {
        for path in segments(&whole) {
            let bytes = whole.file(&path).unwrap();
            for at in 48..bytes.len().saturating_sub(90) {
                let disk = whole.copy();
                disk.put(&path, [&bytes[..at], &bytes[at + 80..]].concat());
                let before = inspect_unchanged(&disk);
                inspect_and_repair(&disk);
                check_repaired(&disk, &content, &before, &format!("{} without {at}..", path.display()));
            }
        }
    }
}

#[test]
fn misnamed_segments_are_renamed_and_foreign_ones_set_aside() {
    let (whole, content) = filled(30, true);
    for path in segments(&whole) {
        let disk = whole.copy();
        disk.put(&folder().join("copy.seg"), disk.file(&path).unwrap());
        let before = inspect_unchanged(&disk);
        inspect_and_repair(&disk);
        assert_eq!(check_repaired(&disk, &content, &before, "copied"), 0);

        let disk = whole.copy();
        disk.put(&folder().join("moved.seg"), disk.file(&path).unwrap());
        disk.take(&path);
        let before = inspect_unchanged(&disk);
        inspect_and_repair(&disk);
        assert_eq!(check_repaired(&disk, &content, &before, "renamed"), 0);
    }
    let foreign = SimDisk::new(99);
    drop(open(&foreign, small()).unwrap());
    let disk = whole.copy();
    let foreign_path = folder().join("00000000000000000500.seg");
    disk.put(&foreign_path, foreign.file(&segments(&foreign)[0]).unwrap());
    let before = inspect_unchanged(&disk);
    let repaired = inspect_and_repair(&disk);
    assert_eq!(repaired.kept.len(), 1);
    assert_eq!(check_repaired(&disk, &content, &before, "a foreign segment"), 0);
}

#[test]
fn an_interrupted_repair_can_be_run_again() {
    let (whole, content) = filled(30, true);
    let paths = segments(&whole);
    let damaged = whole.copy();
    for path in [&paths[0], &paths[2]] {
        let mut bytes = whole.file(path).unwrap();
        bytes[100] ^= 1;
        bytes[10] ^= 1;
        damaged.put(path, bytes);
    }
    damaged.take(&paths[3]);
    let before = inspect_unchanged(&damaged);
    for died_at in 1.. {
        let disk = damaged.copy();
        disk.die_at(died_at);
        let completed = repair(&disk.disk(), folder(), &before).is_ok();
        disk.crash();
        let again = inspect_unchanged(&disk);
        if !again.damages.is_empty() {
            repair(&disk.disk(), folder(), &again).unwrap();
        }
        let lost = check_repaired(&disk, &content, &before, &format!("died at {died_at}"));
        let announced: u64 = before.damages.iter().map(|d| d.lost_to - d.lost_from).sum();
        assert_eq!(lost, announced);
        if completed {
            assert!(died_at > 15, "the repair took {died_at} operations");
            return;
        }
    }
}

#[test]
fn a_repair_is_refused_if_the_log_changed_after_the_inspection() {
    let (disk, _) = filled(30, true);
    let before = inspect_unchanged(&disk);
    let path = &segments(&disk)[1];
    let mut bytes = disk.file(path).unwrap();
    bytes[60] ^= 1;
    disk.put(path, bytes);
    let outcome = repair(&disk.disk(), folder(), &before);
    assert!(matches!(outcome, Err(RepairError::Changed { .. })), "{outcome:?}");
    let log = open(&disk, small()).err().unwrap();
    assert!(matches!(&log, OpenError::Corrupt { file, .. } if file == path), "{log}");
    assert!(log.to_string().contains("`millrace repair`"), "{log}");
}

#[test]
fn an_intact_log_is_not_changed_and_an_open_one_is_refused() {
    let (disk, _) = filled(12, false);
    let before = inspect_unchanged(&disk);
    let repaired = inspect_and_repair(&disk);
    assert!(repaired.rewritten.is_empty() && repaired.kept.is_empty());
    let _log = open(&disk, small()).unwrap();
    let outcome = repair(&disk.disk(), folder(), &before);
    assert!(matches!(outcome, Err(RepairError::Locked(_))), "{outcome:?}");
    let nothing = inspect(&disk.disk(), Path::new("/elsewhere"));
    assert!(nothing.is_err());
}
