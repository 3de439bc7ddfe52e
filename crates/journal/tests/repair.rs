//! `inspect` says what is lost and changes nothing; `repair` loses exactly that and
//! leaves every position where it was. Tried on every byte of a small log.
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

fn look(disk: &SimDisk) -> Inspection {
    let before = disk.trace();
    let inspection = inspect(&disk.disk(), folder()).unwrap();
    assert_eq!(disk.trace(), before, "an inspection changes nothing");
    inspection
}

fn mend(disk: &SimDisk) -> Repaired {
    repair(&disk.disk(), folder(), &look(disk)).unwrap()
}

/// After a repair the log opens; what is there is at its old position; what is not is
/// declared lost, and was announced. Answers how many events are lost.
fn judge(disk: &SimDisk, content: &[Entry], announced: &Inspection, what: &str) -> u64 {
    disk.crash();
    let after = look(disk);
    assert_eq!(after.damages, [], "{what}");
    let log = open(disk, small()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = read_all(&log.journal, 700).unwrap();
    let mut lost = 0;
    for frame in &found {
        if frame.lost {
            lost += u64::from(frame.count);
            let covered = |from, to| from <= frame.position && frame.end() <= to;
            let told = announced.damages.iter().any(|d| covered(d.lost_from, d.lost_to));
            assert!(told, "{what}: lost {frame:?}, announced {:?}", announced.damages);
        } else {
            assert!(content.contains(frame), "{what}: {frame:?} was never there");
        }
    }
    assert_eq!(log.journal.begin(), content[0].position, "{what}");
    assert_eq!(log.journal.end(), content.last().unwrap().end(), "{what}");
    assert_eq!(log.recovery.lost_events, lost, "{what}");
    lost
}

/// From the first position on, and one whose beginning was trimmed away.
fn logs() -> [(SimDisk, Vec<Entry>); 2] {
    [filled(30, true), trimmed(40, true)]
}

#[test]
fn a_flip_of_any_byte_costs_one_frame_at_most() {
    for (whole, content) in logs() {
        for path in segments(&whole) {
            let bytes = whole.file(&path).unwrap();
            for at in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[at] ^= 0x55;
                let disk = whole.copy();
                disk.put(&path, flipped.clone());
                let before = look(&disk);
                let announced: u64 = before.damages.iter().map(|d| d.lost_to - d.lost_from).sum();
                let repaired = mend(&disk);
                let what = format!("{} byte {at}", path.display());
                assert_eq!(repaired.lost_events, announced, "{what}");
                assert_eq!(judge(&disk, &content, &before, &what), announced, "{what}");
                assert!(announced <= 3, "{what}: {announced} lost");
                let kept = disk.file(&repaired.kept[0]).unwrap();
                assert_eq!(kept, flipped, "{what}: the original is kept");
            }
        }
    }
}

#[test]
fn a_cut_anywhere_costs_what_was_cut() {
    for (whole, content) in logs() {
        for path in segments(&whole) {
            let bytes = whole.file(&path).unwrap();
            for length in 0..bytes.len() {
                let disk = whole.copy();
                disk.put(&path, bytes[..length].to_vec());
                let before = look(&disk);
                let repaired = mend(&disk);
                let what = format!("{} cut to {length}", path.display());
                assert_eq!(judge(&disk, &content, &before, &what), repaired.lost_events, "{what}");
            }
        }
    }
}

#[test]
fn a_missing_segment_costs_its_own_events() {
    for (whole, content) in logs() {
        for path in segments(&whole) {
            let disk = whole.copy();
            disk.take(&path);
            let before = look(&disk);
            assert_eq!(before.damages.len(), 1);
            mend(&disk);
            let lost = judge(&disk, &content, &before, &path.display().to_string());
            assert_eq!(lost, before.damages[0].lost_to - before.damages[0].lost_from);
            assert!(lost > 0);
        }
    }
}

#[test]
fn bytes_taken_out_of_the_middle_cost_their_frames() {
    for (whole, content) in logs() {
        for path in segments(&whole) {
            let bytes = whole.file(&path).unwrap();
            for at in 48..bytes.len().saturating_sub(90) {
                let disk = whole.copy();
                disk.put(&path, [&bytes[..at], &bytes[at + 80..]].concat());
                let before = look(&disk);
                mend(&disk);
                judge(&disk, &content, &before, &format!("{} without {at}..", path.display()));
            }
        }
    }
}

#[test]
fn names_are_put_right_and_strangers_set_aside() {
    let (whole, content) = filled(30, true);
    for path in segments(&whole) {
        let disk = whole.copy();
        disk.put(&folder().join("copy.seg"), disk.file(&path).unwrap());
        let before = look(&disk);
        mend(&disk);
        assert_eq!(judge(&disk, &content, &before, "twice there"), 0);

        let disk = whole.copy();
        disk.put(&folder().join("moved.seg"), disk.file(&path).unwrap());
        disk.take(&path);
        let before = look(&disk);
        mend(&disk);
        assert_eq!(judge(&disk, &content, &before, "renamed"), 0);
    }
    let foreign = SimDisk::new(99);
    drop(open(&foreign, small()).unwrap());
    let disk = whole.copy();
    let stranger = folder().join("00000000000000000500.seg");
    disk.put(&stranger, foreign.file(&segments(&foreign)[0]).unwrap());
    let before = look(&disk);
    let repaired = mend(&disk);
    assert_eq!(repaired.kept.len(), 1);
    assert_eq!(judge(&disk, &content, &before, "a stranger"), 0);
}

#[test]
fn a_repair_cut_off_anywhere_can_be_run_again() {
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
    let before = look(&damaged);
    for died_at in 1.. {
        let disk = damaged.copy();
        disk.die_at(died_at);
        let whole = repair(&disk.disk(), folder(), &before).is_ok();
        disk.crash();
        let again = look(&disk);
        if !again.damages.is_empty() {
            repair(&disk.disk(), folder(), &again).unwrap();
        }
        let lost = judge(&disk, &content, &before, &format!("died at {died_at}"));
        let announced: u64 = before.damages.iter().map(|d| d.lost_to - d.lost_from).sum();
        assert_eq!(lost, announced);
        if whole {
            assert!(died_at > 15, "the repair took {died_at} operations");
            return;
        }
    }
}

#[test]
fn a_repair_goes_by_what_was_inspected() {
    let (disk, _) = filled(30, true);
    let before = look(&disk);
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
fn a_sound_log_is_left_alone_and_an_open_one_refused() {
    let (disk, _) = filled(12, false);
    let before = look(&disk);
    let repaired = mend(&disk);
    assert!(repaired.rewritten.is_empty() && repaired.kept.is_empty());
    let _log = open(&disk, small()).unwrap();
    let outcome = repair(&disk.disk(), folder(), &before);
    assert!(matches!(outcome, Err(RepairError::Locked(_))), "{outcome:?}");
    let nothing = inspect(&disk.disk(), Path::new("/elsewhere"));
    assert!(nothing.is_err());
}
