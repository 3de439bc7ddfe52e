//! Appended payloads are read back unchanged: for any payloads, any sizes of segment, group and read, from any
//! position, before and after a reopen.
#![allow(clippy::unwrap_used)]

mod support;

use journal::simulation::SimDisk;
use journal::{Journal, Options, ReadError};
use proptest::prelude::*;
use support::{Answers, Entry, append, open, read_all};

fn entries(payloads: &[(Vec<u8>, u32)]) -> Vec<Entry> {
    let mut position = 0;
    let mut entries = Vec::new();
    for (payload, count) in payloads {
        entries.push(Entry { position, count: *count, lost: false, payload: payload.clone() });
        position += u64::from(*count);
    }
    entries
}

/// Reads at every position. The first frame must contain the position, and a read must not exceed `bytes_max`.
fn read_everywhere(journal: &Journal, expected: &[Entry], bytes_max: usize) {
    assert_eq!(read_all(journal, bytes_max).unwrap(), expected);
    let mut reader = journal.reader();
    for entry in expected.iter().rev() {
        for position in [entry.position, entry.end() - 1] {
            let chunk = reader.read(position, bytes_max).unwrap();
            let frames: Vec<_> = chunk.frames().collect();
            assert_eq!(frames[0].position, entry.position);
            assert_eq!(frames[0].payload, entry.payload);
            let bytes: usize = frames.iter().map(|frame| frame.payload.len() + 28).sum();
            assert!(frames.len() == 1 || bytes <= bytes_max);
        }
    }
    let end = journal.end();
    assert!(reader.read(end, bytes_max).unwrap().is_empty());
    let past = reader.read(end + 1, bytes_max).err().unwrap();
    assert!(matches!(past, ReadError::PastEnd { position, .. } if position == end + 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn appended_payloads_are_read_back(
        payloads in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..2000), 1..2000_u32),
            1..60,
        ),
        segment_bytes_max in 1..20_000_u64,
        group_bytes_max in 1..5000_usize,
        bytes_max in 0..10_000_usize,
        commit_every in 1..20_usize,
    ) {
        let options = || Options { segment_bytes_max, group_bytes_max, ..Options::default() };
        let disk = SimDisk::new(1);
        let mut log = open(&disk, options()).unwrap();
        prop_assert!(log.recovery.created && !log.recovery.clean_stop);
        let answers = Answers::default();
        for (number, (payload, count)) in payloads.iter().enumerate() {
            append(&log.journal, payload, *count, &answers);
            if number % commit_every == 0 {
                while log.stepper.commit_waiting() {}
            }
        }
        while log.stepper.commit_waiting() {}
        let expected = entries(&payloads);
        let positions: Vec<_> = answers.lock().unwrap().iter().cloned().map(Result::unwrap).collect();
        let expected_positions: Vec<_> = expected.iter().map(|entry| entry.position).collect();
        prop_assert_eq!(positions, expected_positions);
        read_everywhere(&log.journal, &expected, bytes_max);
        let (id, bytes) = (log.journal.id(), log.journal.bytes());
        log.stepper.close().unwrap();

        let log = open(&disk, options()).unwrap();
        prop_assert!(log.recovery.clean_stop && !log.recovery.created);
        prop_assert_eq!((log.journal.id(), log.journal.bytes()), (id, bytes));
        read_everywhere(&log.journal, &expected, bytes_max);
    }
}

#[test]
fn readers_see_only_synced_appends() {
    let disk = SimDisk::new(1);
    let mut log = open(&disk, Options::default()).unwrap();
    let mut reader = log.journal.reader();
    append(&log.journal, b"waits", 1, &Answers::default());
    assert_eq!(log.journal.end(), 0);
    assert!(reader.read(0, 100).unwrap().is_empty());
    log.stepper.commit_waiting();
    assert_eq!(log.journal.end(), 1);
    assert_eq!(reader.read(0, 100).unwrap().frames().count(), 1);
}

#[test]
fn a_position_deep_in_a_long_segment_is_found_by_the_index() {
    let disk = SimDisk::new(1);
    let mut log = open(&disk, Options::default()).unwrap();
    let answers = Answers::default();
    for number in 0..20_000_u64 {
        append(&log.journal, &number.to_le_bytes(), 2, &answers);
    }
    while log.stepper.commit_waiting() {}
    log.stepper.close().unwrap();
    // A reopened log builds its index from the frames that open checks, or during reads.
    for verify_bytes_max in [0, u64::MAX] {
        let options = Options { verify_bytes_max, ..Options::default() };
        let log = open(&disk, options).unwrap();
        let mut reader = log.journal.reader();
        for number in (0..20_000_u64).rev().step_by(97) {
            let chunk = reader.read(number * 2 + 1, 1).unwrap();
            let frame = chunk.frames().next().unwrap();
            assert_eq!((frame.position, frame.payload), (number * 2, &number.to_le_bytes()[..]));
        }
    }
}
