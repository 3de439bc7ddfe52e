//! Failed syncs, full disks, full queues and payloads that are too large: every append gets the right answer.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::{Arc, Mutex};

use journal::simulation::SimDisk;
use journal::{
    AppendError, CloseError, Journal, Options, PAYLOAD_BYTES_MAX, RewriteError, Signal, TrimError,
    WriterError,
};
use support::{Answers, append, append_wait, folder, open, read_all, small};

fn take_answers(answers: &Answers) -> Vec<Result<u64, AppendError>> {
    std::mem::take(&mut *answers.lock().unwrap())
}

fn is_poisoned(answer: &Result<u64, AppendError>) -> bool {
    matches!(answer, Err(AppendError::Poisoned { reason }) if reason.contains(".seg"))
}

#[test]
fn after_a_failed_sync_every_append_is_refused() {
    let disk = SimDisk::new(3);
    let signals = Arc::new(Mutex::new(Vec::new()));
    let observed = Arc::clone(&signals);
    let observer = Arc::new(move |signal: Signal| observed.lock().unwrap().push(signal));
    let options = Options { observer, ..small() };
    let mut log = open(&disk, options).unwrap();
    let answers = Answers::default();
    append(&log.journal, b"good", 1, &answers);
    assert!(log.stepper.commit_waiting());
    assert_eq!(take_answers(&answers), [Ok(0)]);

    for payload in [&[1; 100], &[2; 100], &[3; 100]] {
        append(&log.journal, payload, 1, &answers);
    }
    disk.fail_sync(1);
    assert!(log.stepper.commit_waiting());
    let all = take_answers(&answers);
    assert_eq!(all.len(), 3, "the group and all later ones: {all:?}");
    assert!(all.iter().all(is_poisoned), "{all:?}");
    let observed = signals.lock().unwrap().clone();
    let signals_match = matches!(observed[..], [Signal::Durable { end: 1, .. }, Signal::Poisoned { .. }]);
    assert!(signals_match, "{observed:?}");

    let operations = disk.operations();
    append(&log.journal, b"later", 1, &answers);
    assert!(take_answers(&answers).iter().all(is_poisoned));
    assert!(!log.stepper.commit_waiting());
    log.stepper.idle();
    assert_eq!(log.journal.end(), 1);
    assert_eq!(read_all(&log.journal, 100).unwrap().len(), 1);
    let closed = log.stepper.close();
    assert!(matches!(closed, Err(CloseError::Poisoned { .. })));
    assert_eq!(disk.operations(), operations, "the disk is not used again");
}

#[test]
fn an_append_whose_sync_failed_is_never_acknowledged() {
    for failing in 1..12 {
        let disk = SimDisk::new(failing);
        let mut log = open(&disk, small()).unwrap();
        let answers = Answers::default();
        disk.fail_sync(failing);
        for number in 0..12 {
            append(&log.journal, &[number; 90], 1, &answers);
            log.stepper.commit_waiting();
        }
        let all = take_answers(&answers);
        let good = all.iter().take_while(|answer| answer.is_ok()).count();
        assert!(all[good..].iter().all(Result::is_err) && good < all.len(), "{all:?}");
        disk.crash();
        let log = open(&disk, small()).unwrap();
        assert!(read_all(&log.journal, 100).unwrap().len() >= good);
    }
}

#[test]
fn a_full_disk_refuses_appends_until_there_is_space_again() {
    for spare in 0..400 {
        let disk = SimDisk::new(spare);
        let mut log = open(&disk, small()).unwrap();
        let answers = Answers::default();
        append(&log.journal, &[1; 60], 3, &answers);
        log.stepper.commit_waiting();
        disk.set_capacity(Some(disk.used_bytes() + spare));
        for number in 0..12 {
            append(&log.journal, &[number; 60], 2, &answers);
        }
        while log.stepper.commit_waiting() {}
        let all = take_answers(&answers);
        let good = all.iter().take_while(|answer| answer.is_ok()).count();
        let refused = |answer: &Result<u64, AppendError>| *answer == Err(AppendError::DiskFull);
        assert!(all[good..].iter().all(refused) && good < all.len(), "{spare}: {all:?}");

        // The positions of refused appends are assigned again, and no refused append reappears.
        let end = log.journal.end();
        assert_eq!(end, 3 + 2 * (good as u64 - 1));
        disk.set_capacity(None);
        append(&log.journal, b"again", 1, &answers);
        log.stepper.commit_waiting();
        assert_eq!(take_answers(&answers), [Ok(end)], "{spare}");
        disk.crash();
        let log = open(&disk, small()).unwrap();
        let found = read_all(&log.journal, 100).unwrap();
        assert_eq!(found.len(), good + 1, "{spare}");
        assert_eq!(found[good].payload, b"again");
    }
}

#[test]
fn appends_refused_by_a_full_disk_do_not_reappear_after_a_crash() {
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let mut log = open(&disk, Options::default()).unwrap();
        let answers = Answers::default();
        disk.set_capacity(Some(disk.used_bytes() + 500));
        // All frames have one size, so that remains of refused frames would be read after a later frame.
        for number in 0..8 {
            append(&log.journal, &[number; 100], 1, &answers);
        }
        log.stepper.commit_waiting();
        assert_eq!(take_answers(&answers), vec![Err(AppendError::DiskFull); 8]);
        disk.set_capacity(None);
        append(&log.journal, &[99; 100], 1, &answers);
        disk.die_at(2);
        log.stepper.commit_waiting();
        disk.crash();
        let log = open(&disk, Options::default()).unwrap();
        for entry in read_all(&log.journal, 1000).unwrap() {
            assert_eq!(entry.payload, [99; 100]);
        }
    }
}

#[test]
fn the_queue_is_bounded_but_accepts_one_append_of_any_size_when_empty() {
    let disk = SimDisk::new(1);
    let options = Options { queue_bytes_max: 300, ..Options::default() };
    let mut log = open(&disk, options).unwrap();
    let answers = Answers::default();
    append(&log.journal, &[0; 1000], 1, &answers);
    append(&log.journal, &[0; 10], 1, &answers);
    assert_eq!(take_answers(&answers), [Err(AppendError::QueueFull)]);
    while log.stepper.commit_waiting() {}
    assert_eq!(take_answers(&answers), [Ok(0)]);
    append(&log.journal, &[0; 100], 1, &answers);
    append(&log.journal, &[0; 100], 1, &answers);
    append(&log.journal, &[0; 100], 1, &answers);
    assert_eq!(take_answers(&answers), [Err(AppendError::QueueFull)]);
    while log.stepper.commit_waiting() {}
    assert_eq!(take_answers(&answers), [Ok(1), Ok(2)]);
}

#[test]
fn the_largest_payload_is_accepted_and_one_more_byte_is_refused() {
    let disk = SimDisk::new(1);
    let mut log = open(&disk, Options::default()).unwrap();
    let answers = Answers::default();
    let largest = vec![7; PAYLOAD_BYTES_MAX];
    append(&log.journal, &largest, 1, &answers);
    append(&log.journal, &vec![7; PAYLOAD_BYTES_MAX + 1], 1, &answers);
    let refusal = AppendError::TooLarge { bytes: PAYLOAD_BYTES_MAX + 1, bytes_max: PAYLOAD_BYTES_MAX };
    assert_eq!(take_answers(&answers), [Err(refusal)]);
    while log.stepper.commit_waiting() {}
    assert_eq!(take_answers(&answers), [Ok(0)]);
    assert_eq!(read_all(&log.journal, 1).unwrap()[0].payload, largest);
}

#[test]
fn a_closed_log_refuses_appends() {
    let disk = SimDisk::new(1);
    let log = open(&disk, Options::default()).unwrap();
    let answers = Answers::default();
    append(&log.journal, b"waits", 1, &answers);
    log.stepper.close().unwrap();
    append(&log.journal, b"late", 1, &answers);
    assert_eq!(take_answers(&answers), [Ok(0), Err(AppendError::Closed)]);
}

#[test]
fn a_failed_seal_is_reported_to_its_caller_and_to_every_later_call() {
    let disk = SimDisk::new(1);
    let journal = Journal::open(disk.disk(), folder(), Options::default()).unwrap().journal;
    append_wait(&journal, b"acknowledged").unwrap();
    disk.fail_sync(1);
    let poisoned = |error: &WriterError| matches!(error, WriterError::Poisoned { .. });
    assert!(journal.seal().is_err_and(|error| poisoned(&error)));
    assert!(journal.seal().is_err_and(|error| poisoned(&error)));
    let trimmed = journal.trim(1);
    assert!(matches!(&trimmed, Err(TrimError::Writer(source)) if poisoned(source)), "{trimmed:?}");
    let rewritten = journal.rewrite(0, 1, &mut |_| None);
    assert!(matches!(&rewritten, Err(RewriteError::Writer(source)) if poisoned(source)), "{rewritten:?}");
    assert!(matches!(append_wait(&journal, b"late"), Err(AppendError::Poisoned { .. })));
    assert!(matches!(journal.close(), Err(CloseError::Poisoned { .. })));
}

#[test]
fn a_disk_too_full_for_a_new_segment_is_reported_and_the_log_continues() {
    let disk = SimDisk::new(1);
    let mut log = open(&disk, Options::default()).unwrap();
    let answers = Answers::default();
    // There is space for this frame, but one byte too little for a segment header after it.
    disk.set_capacity(Some(disk.used_bytes() + 28 + 12 + 47));
    append(&log.journal, b"acknowledged", 1, &answers);
    log.stepper.commit_waiting();
    assert_eq!(log.stepper.seal(), Err(WriterError::DiskFull));
    assert_eq!(log.journal.segments().len(), 1);
    disk.set_capacity(None);
    append(&log.journal, b"goes on", 1, &answers);
    log.stepper.commit_waiting();
    assert_eq!(take_answers(&answers), [Ok(0), Ok(1)]);
    assert_eq!(log.stepper.seal(), Ok(2));
}
