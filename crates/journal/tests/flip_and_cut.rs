//! Exhaustive damage to a small log. Any byte is flipped, or any file is cut, removed or renamed. The log is then
//! refused, or it is an exact prefix that contains everything acknowledged.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::PathBuf;

use journal::simulation::SimDisk;
use journal::{OpenError, Options, ReadError};
use support::{Answers, Entry, append, filled, folder, open, payload, read_all, small, trimmed};

/// A log with known content. A valid content is a prefix of `written` with at least the first `acknowledged` frames.
struct KnownLog {
    disk: SimDisk,
    written: Vec<Entry>,
    acknowledged: usize,
}

/// A log whose content is all acknowledged, stopped cleanly or killed.
fn whole(clean: bool) -> KnownLog {
    let (disk, written) = filled(30, clean);
    KnownLog { disk, acknowledged: written.len(), written }
}

/// Like `whole`, but the oldest segments are trimmed and some payloads are erased.
fn whole_trimmed(clean: bool) -> KnownLog {
    let (disk, written) = trimmed(40, clean);
    KnownLog { disk, acknowledged: written.len(), written }
}

/// A log whose last group was written, but the process died before the sync.
fn unsynced() -> KnownLog {
    let (disk, mut written) = filled(30, false);
    let acknowledged = written.len();
    // The group fits into the active segment, so that its write is the first operation.
    let larger = Options { segment_bytes_max: 4000, group_bytes_max: 1000, ..Options::default() };
    let mut log = open(&disk, larger).unwrap();
    let answers = Answers::default();
    let mut position = log.journal.end();
    for number in 30..33 {
        append(&log.journal, &payload(number), 2, &answers);
        written.push(Entry { position, count: 2, lost: false, payload: payload(number) });
        position += 2;
    }
    // The writes of the preallocated space and of the group succeed; their sync does not.
    disk.die_at(3);
    log.stepper.commit_waiting();
    assert!(answers.lock().unwrap().iter().all(Result::is_err));
    disk.kill();
    let seen = read_all(&open(&disk.copy(), small()).unwrap().journal, 500).unwrap();
    assert!(seen.len() > acknowledged, "the unsynced group is not in the file");
    KnownLog { disk, written, acknowledged }
}

/// Returns each log, with true if all of it was acknowledged, so that every change in a segment must be refused.
fn each_log() -> impl Iterator<Item = (KnownLog, bool)> {
    let acknowledged = [whole(true), whole(false), whole_trimmed(true), whole_trimmed(false)];
    acknowledged.map(|known| (known, true)).into_iter().chain([(unsynced(), false)])
}

impl KnownLog {
    /// Opens the damaged log and checks its content. Returns true if it was refused.
    fn is_refused(&self, damaged: &SimDisk, what: &str) -> bool {
        let log = match open(damaged, small()) {
            Err(OpenError::Corrupt { .. } | OpenError::NewerVersion { .. }) => return true,
            Err(error) => panic!("{what}: {error}"),
            Ok(log) => log,
        };
        let found = read_all(&log.journal, 500).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(found.len() >= self.acknowledged, "{what}: acknowledged events are lost");
        assert!(self.written.starts_with(&found), "{what}: not a prefix");
        false
    }

    /// Returns the length of a segment without preallocated space, and 0 for another file.
    fn used(&self, path: &std::path::Path) -> usize {
        let log = open(&self.disk.copy(), small()).unwrap();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let segment =
            log.journal.segments().into_iter().find(|segment| name == format!("{:020}", segment.first));
        segment.map_or(0, |segment| segment.bytes as usize)
    }

    fn each_file(&self) -> impl Iterator<Item = (PathBuf, Vec<u8>)> {
        let files = self.disk.files();
        assert!(files.len() > 3, "the log is too small to prove anything: {files:?}");
        files.into_iter().map(|path| {
            let bytes = self.disk.file(&path).unwrap();
            (path, bytes)
        })
    }

    fn with_file(&self, path: &std::path::Path, bytes: Vec<u8>) -> SimDisk {
        let damaged = self.disk.copy();
        damaged.put(path, bytes);
        damaged
    }
}

fn is_segment(path: &std::path::Path) -> bool {
    path.extension().is_some_and(|extension| extension == "seg")
}

#[test]
fn a_flipped_byte_is_refused_or_harmless() {
    let mut preallocated = 0;
    for (known, strict) in each_log() {
        for (path, bytes) in known.each_file() {
            let used = known.used(&path);
            preallocated += usize::from(strict && is_segment(&path) && used < bytes.len());
            for at in 0..bytes.len() {
                for mask in [0xFF, 0x01, 0x80] {
                    let mut flipped = bytes.clone();
                    flipped[at] ^= mask;
                    let what = format!("{} byte {at} ^ {mask}", path.display());
                    let refused = known.is_refused(&known.with_file(&path, flipped), &what);
                    // All frames of the segments were acknowledged, and no other file contains events.
                    assert!(!strict || refused == (at < used), "{what}: {refused}");
                }
            }
        }
    }
    assert!(preallocated > 0, "no log has preallocated space after its last frame");
}

#[test]
fn a_truncated_file_is_refused_or_harmless() {
    for (known, strict) in each_log() {
        for (path, bytes) in known.each_file() {
            let used = known.used(&path);
            for length in 0..bytes.len() {
                let what = format!("{} cut to {length}", path.display());
                let refused = known.is_refused(&known.with_file(&path, bytes[..length].to_vec()), &what);
                assert!(!strict || refused == (length < used), "{what}: {refused}");
            }
        }
    }
}

#[test]
fn a_grown_or_zeroed_file_is_refused_or_harmless() {
    for (known, _) in each_log() {
        for (path, bytes) in known.each_file() {
            for tail in [vec![0; 1], vec![0; 700], vec![0xA5; 700], bytes.clone()] {
                let what = format!("{} grown by {}", path.display(), tail.len());
                let grown = [bytes.clone(), tail].concat();
                known.is_refused(&known.with_file(&path, grown), &what);
            }
            for at in (0..bytes.len()).step_by(64) {
                let what = format!("{} zeroed from {at}", path.display());
                let mut zeroed = bytes.clone();
                zeroed[at..].fill(0);
                known.is_refused(&known.with_file(&path, zeroed), &what);
            }
        }
    }
}

#[test]
fn a_missing_copied_or_renamed_segment_is_refused() {
    for known in [whole(true), whole(false), whole_trimmed(true), whole_trimmed(false)] {
        for (path, bytes) in known.each_file().filter(|(path, _)| is_segment(path)) {
            let missing = known.disk.copy();
            missing.take(&path);
            assert!(known.is_refused(&missing, "missing"), "{} missing", path.display());
            for name in ["00000000000000000999.seg", "backup.seg", "00000000000000000001.seg"] {
                let copy = known.with_file(&folder().join(name), bytes.clone());
                assert!(known.is_refused(&copy, "copied"), "{} copied to {name}", path.display());
                copy.take(&path);
                assert!(known.is_refused(&copy, "renamed"), "{} is {name}", path.display());
            }
        }
        let gone = known.disk.copy();
        for (path, _) in known.each_file().filter(|(path, _)| is_segment(path)) {
            gone.take(&path);
        }
        assert!(known.is_refused(&gone, "all segments missing"));
    }
}

#[test]
fn a_segment_of_another_log_or_of_an_older_copy_is_refused() {
    let known = whole(true);
    let (older, _) = filled(28, true);
    let last = known.each_file().map(|(path, _)| path).filter(|path| is_segment(path)).last().unwrap();
    if let Some(bytes) = older.file(&last) {
        assert!(known.is_refused(&known.with_file(&last, bytes), "an older last segment"));
    }
    let foreign = SimDisk::new(8);
    drop(open(&foreign, small()).unwrap());
    let first = folder().join("00000000000000000000.seg");
    let bytes = foreign.file(&first).unwrap();
    assert!(known.is_refused(&known.with_file(&first, bytes), "a foreign segment"));
}

#[test]
fn frames_that_open_did_not_check_are_checked_when_read() {
    let known = whole(true);
    let trusting = || Options { verify_bytes_max: 0, ..small() };
    let (mut found_late, mut refused) = (0, 0);
    for (path, bytes) in known.each_file() {
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            match open(&known.with_file(&path, flipped), trusting()) {
                Err(OpenError::Corrupt { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
                Ok(log) => match read_all(&log.journal, 300) {
                    Ok(found) => assert_eq!(found, known.written),
                    Err(ReadError::Corrupt { .. }) => found_late += 1,
                    Err(error) => panic!("{error}"),
                },
            }
        }
    }
    assert!(found_late > 100 && refused > 100, "{found_late} late, {refused} refused");
}

#[test]
fn a_newer_format_is_refused_in_one_line() {
    let known = whole(true);
    let mut checked = 0;
    for (path, bytes) in known.each_file() {
        let newer = newer_version(&bytes, is_segment(&path));
        let error = open(&known.with_file(&path, newer), small()).err().unwrap();
        assert!(matches!(error, OpenError::NewerVersion { version: 2, .. }), "{error}");
        assert_eq!(error.to_string().lines().count(), 1);
        checked += 1;
    }
    assert!(checked > 3);
}

/// Returns the file with format version 2, which has the version and the checksum at the same offsets.
fn newer_version(bytes: &[u8], segment: bool) -> Vec<u8> {
    let mut newer = bytes.to_vec();
    if segment {
        newer[8] = 2;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&newer[0..12]);
        hasher.update(&newer[16..48]);
        newer[12..16].copy_from_slice(&hasher.finalize().to_le_bytes());
    } else {
        for slot in newer.chunks_mut(512).filter(|slot| slot[0] != 0) {
            slot[8] = 2;
            let checksum = crc32fast::hash(&slot[0..72]);
            slot[72..76].copy_from_slice(&checksum.to_le_bytes());
        }
    }
    newer
}

/// Without the mark, the frames are the evidence: each records what was synced when it was written.
#[test]
fn without_the_durable_mark_only_the_last_group_can_be_cut_off() {
    for known in [whole(true), whole_trimmed(true)] {
        without_the_durable_mark(&known);
    }
}

fn without_the_durable_mark(known: &KnownLog) {
    known.disk.take(&folder().join("durable"));
    let last_group = 4;
    let (mut refused, mut cut) = (0, 0);
    for (path, bytes) in known.each_file() {
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0xFF;
            let damaged = known.with_file(&path, flipped);
            match open(&damaged, small()) {
                Err(OpenError::Corrupt { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
                Ok(log) => {
                    let found = read_all(&log.journal, 500).unwrap();
                    assert!(known.written.starts_with(&found));
                    assert!(found.len() + last_group >= known.written.len(), "{at} of {path:?}");
                    assert!(log.recovery.torn_bytes_cut > 0);
                    cut += 1;
                }
            }
        }
    }
    assert!(refused > 1000 && cut > 20, "{refused} refused, {cut} cut");
}
