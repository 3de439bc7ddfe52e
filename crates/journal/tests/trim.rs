//! A trim removes whole segments at the beginning of a log. All other events keep their positions, even if the trim
//! is interrupted, and a missing segment is still distinguished from a trimmed one.
#![allow(clippy::unwrap_used)]

mod support;

use journal::simulation::SimDisk;
use journal::{OpenError, ReadError, SegmentInfo, TrimError, WriterError, inspect, repair};
use support::{Answers, Entry, Open, append, filled_and_open, folder, open, read_all, small, trimmed};

fn firsts(log: &Open) -> Vec<u64> {
    log.journal.segments().iter().map(|segment| segment.first).collect()
}

fn from(content: &[Entry], begin: u64) -> &[Entry] {
    &content[content.partition_point(|entry| entry.position < begin)..]
}

fn segment_files(disk: &SimDisk) -> usize {
    disk.files().iter().filter(|path| path.extension().is_some_and(|e| e == "seg")).count()
}

#[test]
fn a_trim_removes_whole_segments_below_a_position_but_never_the_last() {
    let (disk, mut log, content) = filled_and_open(40);
    let firsts = firsts(&log);
    let end = log.journal.end();
    let mut bytes = log.journal.bytes();
    for (before, begin) in [
        (0, 0),
        (firsts[1] - 1, 0),
        (firsts[1], firsts[1]),
        (firsts[3] + 1, firsts[3]),
        (firsts[2], firsts[3]),
        (end + 100, *firsts.last().unwrap()),
    ] {
        assert_eq!(log.stepper.trim(before).unwrap(), begin, "before {before}");
        assert_eq!((log.journal.begin(), log.journal.end()), (begin, end));
        assert_eq!(segment_files(&disk), log.journal.segments().len());
        assert_eq!(log.journal.segments()[0].first, begin);
        assert!(log.journal.bytes() <= bytes);
        bytes = log.journal.bytes();
        assert_eq!(read_all(&log.journal, 300).unwrap(), from(&content, begin));
    }
    let begin = log.journal.begin();
    log.stepper.close().unwrap();
    let log = open(&disk, small()).unwrap();
    assert!(log.recovery.clean_stop && log.recovery.begin == begin && log.journal.bytes() == bytes);
    assert_eq!(read_all(&log.journal, 300).unwrap(), from(&content, begin));
}

#[test]
fn the_list_of_segments_matches_the_log() {
    let (_, mut log, content) = filled_and_open(40);
    let segments = log.journal.segments();
    assert!(segments.windows(2).all(|pair| pair[0].end == pair[1].first && pair[0].sealed));
    let last = segments.last().unwrap();
    assert!(segments[0].first == 0 && !last.sealed && last.end == content.last().unwrap().end());
    assert_eq!(segments.iter().map(|segment| segment.bytes).sum::<u64>(), log.journal.bytes());

    let end = log.journal.end();
    assert_eq!(log.stepper.seal(), Ok(end));
    assert_eq!(log.stepper.seal(), Ok(end), "an empty segment is not sealed");
    let again = log.journal.segments();
    assert_eq!(again.len(), segments.len() + 1);
    assert_eq!(again[again.len() - 2], SegmentInfo { sealed: true, ..*last });
    assert_eq!(again[again.len() - 1], SegmentInfo { first: end, end, bytes: 48, sealed: false });
    append(&log.journal, b"goes on", 1, &Answers::default());
    log.stepper.commit_waiting();
    assert_eq!(log.journal.segments().last().unwrap().end, end + 1);
    assert_eq!(log.stepper.trim(u64::MAX).unwrap(), end);
    assert_eq!(log.stepper.seal(), Ok(end + 1));
}

#[test]
fn readers_get_data_or_the_new_beginning_after_a_trim() {
    let (_, mut log, content) = filled_and_open(40);
    let firsts = firsts(&log);
    // There is one reader in every segment.
    let mut readers: Vec<_> = firsts.iter().map(|first| (*first, log.journal.reader())).collect();
    for (first, reader) in &mut readers {
        assert_eq!(reader.read(*first, 1).unwrap().frames().next().unwrap().position, *first);
    }
    let begin = log.stepper.trim(firsts[3]).unwrap();
    for (first, reader) in &mut readers {
        let second = content.iter().find(|entry| entry.position > *first).unwrap();
        match reader.read(second.position, 1) {
            Ok(chunk) => assert_eq!(chunk.frames().next().unwrap().payload, second.payload),
            Err(ReadError::BelowBegin { position, begin: reported }) => {
                assert!(position == second.position && reported == begin && position < begin);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_poisoned_or_closed_log_is_not_trimmed() {
    let (disk, mut log, _) = filled_and_open(40);
    let firsts = firsts(&log);
    disk.fail_sync(1);
    let failed = log.stepper.trim(firsts[2]);
    assert!(matches!(failed, Err(TrimError::Writer(WriterError::Poisoned { .. }))), "{failed:?}");
    assert_eq!((log.journal.begin(), segment_files(&disk)), (0, firsts.len()));
    assert!(matches!(log.stepper.seal(), Err(WriterError::Poisoned { .. })));
    let again = log.journal.trim(firsts[2]);
    assert!(matches!(again, Err(TrimError::Writer(WriterError::Poisoned { .. }))), "{again:?}");

    let (disk, log, _) = filled_and_open(40);
    log.stepper.close().unwrap();
    let closed = log.journal.trim(firsts[2]);
    assert!(matches!(closed, Err(TrimError::Writer(WriterError::Closed))), "{closed:?}");
    assert_eq!(log.journal.seal(), Err(WriterError::Closed));
    assert_eq!(segment_files(&disk), firsts.len());
}

/// The process dies at each operation of the trim in turn, and then at each operation of the next open.
#[test]
fn a_trim_and_the_next_open_can_be_interrupted_anywhere() {
    let (mut untrimmed, mut leftovers) = (0, 0);
    for died_at in 1.. {
        let mut trimmed_whole = false;
        for reopen_died_at in 1.. {
            let (disk, mut log, content) = filled_and_open(40);
            let firsts = firsts(&log);
            disk.die_at(died_at);
            let trimmed = log.stepper.trim(firsts[4]);
            trimmed_whole = trimmed.is_ok();
            drop(log);
            // Everything that was given to the kernel stays, synced or not.
            disk.kill();
            leftovers += usize::from(trimmed.is_err() && segment_files(&disk) < firsts.len());
            disk.die_at(reopen_died_at);
            let reopened = open(&disk, small()).is_ok();
            disk.crash();
            let what = format!("died at {died_at}, then at {reopen_died_at}");
            let log = open(&disk, small()).unwrap_or_else(|error| panic!("{what}: {error}"));
            let begin = log.journal.begin();
            assert!(begin == firsts[4] || (begin == 0 && !trimmed_whole), "{what}: {begin}");
            assert_eq!(read_all(&log.journal, 500).unwrap(), from(&content, begin), "{what}");
            assert_eq!(segment_files(&disk), log.journal.segments().len(), "{what}: leftover files");
            untrimmed += usize::from(begin == 0);
            if reopened {
                break;
            }
        }
        if trimmed_whole {
            assert!(died_at > 8 && untrimmed > 0 && leftovers > 0, "{died_at} {untrimmed} {leftovers}");
            return;
        }
    }
}

#[test]
fn a_leftover_of_a_trim_is_removed_but_a_missing_segment_is_damage() {
    let (disk, log, _) = filled_and_open(40);
    let firsts = firsts(&log);
    let old = disk.copy();
    drop(log);
    let (disk, content) = trimmed(40, true);
    let name = |first: u64| folder().join(format!("{first:020}.seg"));

    // The first two segments are below the beginning. A crash may leave only the second one.
    let left = disk.copy();
    left.put(&name(firsts[1]), old.file(&name(firsts[1])).unwrap());
    let inspection = inspect(&left.disk(), folder()).unwrap();
    assert_eq!((inspection.damages.len(), inspection.begin), (0, firsts[2]));
    let log = open(&left, small()).unwrap();
    assert_eq!(read_all(&log.journal, 500).unwrap(), content);
    assert!(left.file(&name(firsts[1])).is_none());

    for missing in &firsts[2..] {
        let damaged = disk.copy();
        damaged.take(&name(*missing));
        let error = open(&damaged, small()).err().unwrap();
        assert!(matches!(error, OpenError::Corrupt { .. }), "{missing}: {error}");
    }
}

/// A file below the beginning that is not a leftover of a trim is never removed.
#[test]
fn a_foreign_or_damaged_segment_below_the_beginning_is_refused_and_set_aside() {
    let (disk, content) = trimmed(40, true);
    let foreign = SimDisk::new(8);
    drop(open(&foreign, small()).unwrap());
    let first = folder().join(format!("{:020}.seg", 0));
    let bytes = foreign.file(&first).unwrap();
    let mut damaged = bytes.clone();
    damaged[3] ^= 1;
    for bytes in [bytes, damaged] {
        let disk = disk.copy();
        disk.put(&first, bytes.clone());
        assert!(matches!(open(&disk, small()).err(), Some(OpenError::Corrupt { .. })));
        let inspection = inspect(&disk.disk(), folder()).unwrap();
        let repaired = repair(&disk.disk(), folder(), &inspection).unwrap();
        assert_eq!((repaired.lost_events, repaired.begin), (0, content[0].position));
        assert_eq!(disk.file(&repaired.kept[0]).unwrap(), bytes);
        let log = open(&disk, small()).unwrap();
        assert_eq!(read_all(&log.journal, 500).unwrap(), content);
    }
}

/// All segments are missing, but the mark still contains the beginning and the end of the log.
#[test]
fn a_trimmed_log_that_lost_all_its_segments_is_repaired_from_its_beginning() {
    let (disk, content) = trimmed(40, true);
    let (begin, end) = (content[0].position, content.last().unwrap().end());
    for path in disk.files() {
        if path.extension().is_some_and(|e| e == "seg") {
            disk.take(&path);
        }
    }
    let inspection = inspect(&disk.disk(), folder()).unwrap();
    assert_eq!((inspection.begin, inspection.end), (begin, end));
    assert_eq!((inspection.damages[0].lost_from, inspection.damages[0].lost_to), (begin, end));
    let repaired = repair(&disk.disk(), folder(), &inspection).unwrap();
    assert_eq!((repaired.begin, repaired.lost_events), (begin, end - begin));
    let log = open(&disk, small()).unwrap();
    assert_eq!((log.journal.begin(), log.journal.end()), (begin, end));
    assert!(read_all(&log.journal, 500).unwrap().iter().all(|entry| entry.lost));
}
