//! A rewrite replaces payloads of sealed segments by others of the same length and changes nothing else. A crash
//! leaves old or new segments, and a completed rewrite is permanent.
#![allow(clippy::unwrap_used)]

mod support;

use journal::simulation::SimDisk;
use journal::{Frame, Options, ReadError, RewriteError, WriterError, inspect, repair};
use proptest::prelude::*;
use support::{
    Answers, Entry, Open, append, append_wait, filled_and_open, folder, open, open_real, payload, read_all,
    small,
};

fn blank(frame: &Frame<'_>) -> Vec<u8> {
    vec![b' '; frame.payload.len()]
}

fn blanked(entry: &Entry) -> Entry {
    Entry { payload: vec![b' '; entry.payload.len()], ..entry.clone() }
}

fn sealed_end(log: &Open) -> u64 {
    log.journal.segments().last().unwrap().first
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_rewrite_changes_only_the_chosen_payloads(
        payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..2000), 1..60),
        segment_bytes_max in 1..20_000_u64,
        bounds: (prop::sample::Index, prop::sample::Index),
        chosen in proptest::collection::vec(any::<bool>(), 60),
    ) {
        let options = || Options { segment_bytes_max, ..Options::default() };
        let disk = SimDisk::new(1);
        let mut log = open(&disk, options()).unwrap();
        for (number, payload) in payloads.iter().enumerate() {
            append(&log.journal, payload, 1 + number as u32 % 3, &Answers::default());
            log.stepper.commit_waiting();
        }
        log.stepper.seal().unwrap();
        let before = read_all(&log.journal, 3000).unwrap();
        let sizes: Vec<_> = log.journal.segments();
        let end = log.journal.end() as usize;
        let (from, until) = (bounds.0.index(end + 1) as u64, bounds.1.index(end + 1) as u64);
        let is_chosen = |position: u64| chosen[position as usize % chosen.len()];
        let mut asked = Vec::new();
        let rewritten = log.journal.rewrite(from, until, &mut |frame| {
            asked.push(frame.position);
            is_chosen(frame.position).then(|| blank(frame))
        }).unwrap();

        let within = |entry: &&Entry| from < until && entry.position < until && from < entry.end();
        let in_range: Vec<u64> = before.iter().filter(within).map(|entry| entry.position).collect();
        prop_assert_eq!(&asked, &in_range);
        let expected_frames = in_range.iter().filter(|position| is_chosen(**position)).count() as u64;
        prop_assert_eq!(rewritten.frames, expected_frames);
        let change = |entry: &Entry| if within(&entry) && is_chosen(entry.position) { blanked(entry) } else { entry.clone() };
        let expected: Vec<Entry> = before.iter().map(change).collect();
        prop_assert_eq!(read_all(&log.journal, 3000).unwrap(), &expected[..]);
        prop_assert_eq!(log.journal.segments(), sizes);
        log.stepper.close().unwrap();
        prop_assert!(inspect(&disk.disk(), folder()).unwrap().damages.is_empty());
        let log = open(&disk, options()).unwrap();
        prop_assert_eq!(read_all(&log.journal, 3000).unwrap(), expected);
    }
}

#[test]
fn a_segment_is_written_again_only_if_a_payload_is_returned() {
    let (disk, log, _) = filled_and_open(30);
    let operations = disk.operations();
    let end = sealed_end(&log);
    let rewritten = log.journal.rewrite(0, end, &mut |_| None).unwrap();
    assert_eq!((rewritten.frames, rewritten.segments), (0, 0));
    assert_eq!(disk.operations(), operations);
    // An unchanged payload is written too, because an earlier rewrite may have failed halfway.
    let before: Vec<_> = disk.files().iter().map(|path| disk.file(path)).collect();
    let rewritten = log.journal.rewrite(0, end, &mut |frame| Some(frame.payload.to_vec())).unwrap();
    assert_eq!(rewritten.segments, log.journal.segments().len() as u64 - 1);
    assert!(disk.operations() > operations);
    let after: Vec<_> = disk.files().iter().map(|path| disk.file(path)).collect();
    assert_eq!(before, after, "all bytes are equal, including the unsynced count of a frame");
}

#[test]
fn the_active_segment_cannot_be_rewritten() {
    let (disk, mut log, content) = filled_and_open(30);
    let (end, expected) = (log.journal.end(), sealed_end(&log));
    let operations = disk.operations();
    let refused = log.journal.rewrite(0, end, &mut |frame| Some(blank(frame)));
    let Err(RewriteError::NotSealed { until, sealed_end }) = refused else { panic!("{refused:?}") };
    assert_eq!((until, sealed_end, disk.operations()), (end, expected, operations));
    assert_eq!(log.stepper.seal(), Ok(end));
    let rewritten = log.journal.rewrite(0, end, &mut |frame| Some(blank(frame))).unwrap();
    assert_eq!(rewritten.frames, content.len() as u64);
}

#[test]
fn a_payload_of_another_length_is_refused_and_nothing_changes() {
    let (disk, log, content) = filled_and_open(30);
    let last = content.iter().rfind(|entry| entry.position < sealed_end(&log)).unwrap();
    let files = disk.files();
    let mut change = |frame: &Frame<'_>| {
        let mut payload = blank(frame);
        if frame.position == last.position {
            payload.push(0);
        }
        Some(payload)
    };
    // All frames of the last sealed segment before it have been copied by then.
    let segments = log.journal.segments();
    let first = segments[segments.len() - 2].first;
    let refused = log.journal.rewrite(first, sealed_end(&log), &mut change);
    let Err(RewriteError::OtherLength { position, bytes, bytes_new }) = refused else {
        panic!("{refused:?}")
    };
    let length = last.payload.len();
    assert_eq!((position, bytes, bytes_new), (last.position, length, length + 1));
    assert_eq!(read_all(&log.journal, 500).unwrap(), content);
    assert_eq!(disk.files(), files, "no temporary file is left");
}

#[test]
fn a_damaged_segment_is_reported_and_not_rewritten() {
    let (disk, log, _) = filled_and_open(30);
    log.stepper.close().unwrap();
    let path = folder().join(format!("{:020}.seg", 0));
    let bytes = disk.file(&path).unwrap();
    for at in 48..bytes.len() {
        let disk = disk.copy();
        let log = open(&disk, Options { verify_bytes_max: 0, ..small() }).unwrap();
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        disk.put(&path, damaged.clone());
        let outcome = log.journal.rewrite(0, 1, &mut |frame| Some(blank(frame)));
        assert!(matches!(outcome, Err(RewriteError::Corrupt { .. })), "byte {at}: {outcome:?}");
        assert_eq!(disk.file(&path).unwrap(), damaged);
    }
}

#[test]
fn lost_frames_are_copied_unchanged() {
    let (disk, log, content) = filled_and_open(30);
    log.stepper.close().unwrap();
    let path = folder().join(format!("{:020}.seg", 0));
    let mut bytes = disk.file(&path).unwrap();
    bytes[48 + 28] ^= 1;
    disk.put(&path, bytes);
    let inspection = inspect(&disk.disk(), folder()).unwrap();
    repair(&disk.disk(), folder(), &inspection).unwrap();
    let log = open(&disk, small()).unwrap();
    log.journal.rewrite(0, sealed_end(&log), &mut |frame| Some(blank(frame))).unwrap();
    let found = read_all(&log.journal, 500).unwrap();
    assert!(found[0].lost && found[0].payload.is_empty());
    assert_eq!(found[1], blanked(&content[1]));
}

/// The process dies at each operation of the rewrite in turn; then the power fails.
#[test]
fn an_interrupted_rewrite_leaves_old_or_new_payloads() {
    let (mut old, mut new) = (0, 0);
    for died_at in 1.. {
        let (disk, log, content) = filled_and_open(30);
        let end = sealed_end(&log);
        disk.die_at(died_at);
        let mut change = |frame: &Frame<'_>| frame.position.is_multiple_of(2).then(|| blank(frame));
        let done = log.journal.rewrite(0, end, &mut change).is_ok();
        drop(log);
        disk.crash();
        let log = open(&disk, small()).unwrap_or_else(|error| panic!("died at {died_at}: {error}"));
        assert!(disk.files().iter().all(|path| path.extension().is_none_or(|e| e != "tmp")));
        let found = read_all(&log.journal, 500).unwrap();
        assert_eq!(found.len(), content.len());
        for (found, was) in found.iter().zip(&content) {
            let chosen = was.position % 2 == 0 && was.position < end;
            assert!(found == was || (chosen && *found == blanked(was)), "died at {died_at}: {was:?}");
            if chosen {
                let is_new = *found == blanked(was);
                assert!(is_new || !done, "{was:?} reappeared");
                old += u32::from(!is_new);
                new += u32::from(is_new);
            }
        }
        if done {
            assert!(died_at > 12 && old > 50 && new > 50, "{died_at}: {old} old, {new} new");
            return;
        }
    }
}

/// After the failed sync, the kernel shows the new file, but the disk has the old one. The retry must write it again.
#[test]
fn a_rewrite_retried_after_a_failed_sync_is_durable() {
    for failing in 1..12 {
        for seed in 0..10 {
            let disk = SimDisk::new(seed);
            let mut log = open(&disk, small()).unwrap();
            for number in 0..20 {
                append(&log.journal, &payload(number), 1, &Answers::default());
                log.stepper.commit_waiting();
            }
            let end = log.stepper.seal().unwrap();
            disk.fail_sync(failing);
            let _ = log.journal.rewrite(0, end, &mut |frame| Some(blank(frame)));
            disk.clear_faults();
            log.journal.rewrite(0, end, &mut |frame| Some(blank(frame))).unwrap();
            disk.crash();
            let log = open(&disk, small()).unwrap();
            let found = read_all(&log.journal, 500).unwrap();
            assert!(found.len() == 20 && found.iter().all(|entry| *entry == blanked(entry)));
        }
    }
}

#[test]
fn a_rewrite_on_a_full_disk_fails_and_leaves_no_file() {
    let (disk, log, content) = filled_and_open(30);
    let (end, used) = (sealed_end(&log), disk.used_bytes());
    let mut refused = 0;
    for spare in 0.. {
        disk.set_capacity(Some(used + spare * 20));
        match log.journal.rewrite(0, end, &mut |frame| Some(blank(frame))) {
            Err(RewriteError::Io { .. }) => refused += 1,
            outcome => {
                assert!(outcome.is_ok(), "{outcome:?}");
                break;
            }
        }
        assert_eq!(disk.used_bytes(), used);
        let found = read_all(&log.journal, 500).unwrap();
        assert!(found.iter().zip(&content).all(|(found, was)| found == was || *found == blanked(was)));
        assert_eq!((found.len(), found.last()), (content.len(), content.last()));
    }
    assert!(refused > 5);
}

#[test]
fn a_closed_log_is_not_rewritten() {
    let (_, log, _) = filled_and_open(30);
    let end = sealed_end(&log);
    log.stepper.close().unwrap();
    let outcome = log.journal.rewrite(0, end, &mut |frame| Some(blank(frame)));
    assert!(matches!(outcome, Err(RewriteError::Writer(WriterError::Closed))), "{outcome:?}");
}

#[test]
fn an_open_reader_continues_in_the_new_file() {
    let (_, log, content) = filled_and_open(30);
    let mut readers: Vec<_> = content.iter().map(|entry| (entry, log.journal.reader())).collect();
    for (entry, reader) in &mut readers {
        assert_eq!(reader.read(entry.position, 1).unwrap().frames().next().unwrap().payload, entry.payload);
    }
    let end = sealed_end(&log);
    log.journal.rewrite(0, end, &mut |frame| Some(blank(frame))).unwrap();
    for (entry, reader) in &mut readers {
        for position in [entry.position, entry.end()] {
            let Some(old) = content.iter().find(|other| other.position == position) else { continue };
            let expected = if position < end { blanked(old) } else { old.clone() };
            let chunk = reader.read(position, 1).unwrap();
            assert_eq!(chunk.frames().next().unwrap().payload, expected.payload);
        }
    }
}

/// Frames and segments are larger than the buffers of a rewrite.
#[test]
fn large_frames_are_rewritten() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open_real(folder.path(), Options::default());
    let sizes = [3 << 20, 10, 5 << 20, (1 << 20) - 28, 1, 0, 700_000, 700_000, 2 << 20];
    for (number, bytes) in sizes.iter().enumerate() {
        append_wait(&journal, &vec![number as u8 + 1; *bytes]).unwrap();
    }
    let end = journal.seal().unwrap();
    for odd in [1, 0] {
        let mut change = |frame: &Frame<'_>| (frame.position % 2 == odd).then(|| blank(frame));
        assert_eq!(journal.rewrite(0, end, &mut change).unwrap().segments, 1);
        for (number, entry) in read_all(&journal, 1 << 20).unwrap().iter().enumerate() {
            let blank = odd == 0 || number % 2 == 1;
            let byte = if blank { b' ' } else { number as u8 + 1 };
            assert_eq!(entry.payload, vec![byte; sizes[number]]);
        }
    }
    let mut reader = journal.reader();
    assert!(matches!(reader.read(end + 1, 1), Err(ReadError::PastEnd { .. })));
}
