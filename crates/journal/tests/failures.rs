//! A sync that fails, a disk that is full, and the refusals at the door: who is told what when the disk fails,
//! fills up, or too much is asked.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::{Arc, Mutex};

use journal::simulation::SimDisk;
use journal::{
    AppendError, CloseError, Journal, Options, PAYLOAD_BYTES_MAX, RewriteError, Signal, TrimError,
    WriterError,
};
use support::{Answers, append, append_wait, folder, open, read_all, small};

fn told(answers: &Answers) -> Vec<Result<u64, AppendError>> {
    std::mem::take(&mut *answers.lock().unwrap())
}

fn is_poisoned(answer: &Result<u64, AppendError>) -> bool {
    matches!(answer, Err(AppendError::Poisoned { reason }) if reason.contains(".seg"))
}

#[test]
fn a_failed_sync_poisons_the_log_for_ever() {
    let disk = SimDisk::new(3);
    let signals = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&signals);
    let options = Options { observer: Arc::new(move |signal| heard.lock().unwrap().push(signal)), ..small() };
    let mut log = open(&disk, options).unwrap();
    let answers = Answers::default();
    append(&log.journal, b"good", 1, &answers);
    assert!(log.stepper.commit_waiting());
    assert_eq!(told(&answers), [Ok(0)]);

    for payload in [&[1; 100], &[2; 100], &[3; 100]] {
        append(&log.journal, payload, 1, &answers);
    }
    disk.fail_sync(1);
    assert!(log.stepper.commit_waiting());
    let all = told(&answers);
    assert_eq!(all.len(), 3, "the group and all behind it: {all:?}");
    assert!(all.iter().all(is_poisoned), "{all:?}");
    let heard = signals.lock().unwrap().clone();
    assert!(matches!(heard[..], [Signal::Durable { end: 1, .. }, Signal::Poisoned { .. }]), "{heard:?}");

    let operations = disk.operations();
    append(&log.journal, b"later", 1, &answers);
    assert!(told(&answers).iter().all(is_poisoned));
    assert!(!log.stepper.commit_waiting());
    log.stepper.idle();
    assert_eq!(log.journal.end(), 1);
    assert_eq!(read_all(&log.journal, 100).unwrap().len(), 1);
    let closed = log.stepper.close();
    assert!(matches!(closed, Err(CloseError::Poisoned { .. })));
    assert_eq!(disk.operations(), operations, "the file is never touched again");
}

#[test]
fn a_failed_sync_anywhere_never_acknowledges() {
    for failing in 1..12 {
        let disk = SimDisk::new(failing);
        let mut log = open(&disk, small()).unwrap();
        let answers = Answers::default();
        disk.fail_sync(failing);
        for number in 0..12 {
            append(&log.journal, &[number; 90], 1, &answers);
            log.stepper.commit_waiting();
        }
        let all = told(&answers);
        let good = all.iter().take_while(|answer| answer.is_ok()).count();
        assert!(all[good..].iter().all(Result::is_err) && good < all.len(), "{all:?}");
        disk.crash();
        let log = open(&disk, small()).unwrap();
        assert!(read_all(&log.journal, 100).unwrap().len() >= good);
    }
}

#[test]
fn a_full_disk_refuses_and_recovers_by_itself() {
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
        let all = told(&answers);
        let good = all.iter().take_while(|answer| answer.is_ok()).count();
        let refused = |answer: &Result<u64, AppendError>| *answer == Err(AppendError::DiskFull);
        assert!(all[good..].iter().all(refused) && good < all.len(), "{spare}: {all:?}");

        // Refused positions are given out again, and nothing of the refused comes back.
        let end = log.journal.end();
        assert_eq!(end, 3 + 2 * (good as u64 - 1));
        disk.set_capacity(None);
        append(&log.journal, b"again", 1, &answers);
        log.stepper.commit_waiting();
        assert_eq!(told(&answers), [Ok(end)], "{spare}");
        disk.crash();
        let log = open(&disk, small()).unwrap();
        let found = read_all(&log.journal, 100).unwrap();
        assert_eq!(found.len(), good + 1, "{spare}");
        assert_eq!(found[good].payload, b"again");
    }
}

#[test]
fn nothing_refused_for_space_comes_back_after_a_crash() {
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let mut log = open(&disk, Options::default()).unwrap();
        let answers = Answers::default();
        disk.set_capacity(Some(disk.used_bytes() + 500));
        // Frames of one size, so that left-overs would fit in behind what comes later.
        for number in 0..8 {
            append(&log.journal, &[number; 100], 1, &answers);
        }
        log.stepper.commit_waiting();
        assert_eq!(told(&answers), vec![Err(AppendError::DiskFull); 8]);
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
fn the_queue_is_bounded_but_takes_one_of_any_size() {
    let disk = SimDisk::new(1);
    let options = Options { queue_bytes_max: 300, ..Options::default() };
    let mut log = open(&disk, options).unwrap();
    let answers = Answers::default();
    append(&log.journal, &[0; 1000], 1, &answers);
    append(&log.journal, &[0; 10], 1, &answers);
    assert_eq!(told(&answers), [Err(AppendError::QueueFull)]);
    while log.stepper.commit_waiting() {}
    assert_eq!(told(&answers), [Ok(0)]);
    append(&log.journal, &[0; 100], 1, &answers);
    append(&log.journal, &[0; 100], 1, &answers);
    append(&log.journal, &[0; 100], 1, &answers);
    assert_eq!(told(&answers), [Err(AppendError::QueueFull)]);
    while log.stepper.commit_waiting() {}
    assert_eq!(told(&answers), [Ok(1), Ok(2)]);
}

#[test]
fn the_largest_payload_passes_and_one_byte_more_does_not() {
    let disk = SimDisk::new(1);
    let mut log = open(&disk, Options::default()).unwrap();
    let answers = Answers::default();
    let largest = vec![7; PAYLOAD_BYTES_MAX];
    append(&log.journal, &largest, 1, &answers);
    append(&log.journal, &vec![7; PAYLOAD_BYTES_MAX + 1], 1, &answers);
    let refusal = AppendError::TooLarge { bytes: PAYLOAD_BYTES_MAX + 1, bytes_max: PAYLOAD_BYTES_MAX };
    assert_eq!(told(&answers), [Err(refusal)]);
    while log.stepper.commit_waiting() {}
    assert_eq!(told(&answers), [Ok(0)]);
    assert_eq!(read_all(&log.journal, 1).unwrap()[0].payload, largest);
}

#[test]
fn a_closed_log_refuses() {
    let disk = SimDisk::new(1);
    let log = open(&disk, Options::default()).unwrap();
    let answers = Answers::default();
    append(&log.journal, b"waits", 1, &answers);
    log.stepper.close().unwrap();
    append(&log.journal, b"late", 1, &answers);
    assert_eq!(told(&answers), [Ok(0), Err(AppendError::Closed)]);
}

#[test]
fn a_log_that_fails_while_it_is_sealed_tells_who_waits_and_all_who_come() {
    let disk = SimDisk::new(1);
    let journal = Journal::open(disk.disk(), folder(), Options::default()).unwrap().journal;
    append_wait(&journal, b"acknowledged").unwrap();
    disk.fail_sync(1);
    let poisoned = |error: &WriterError| matches!(error, WriterError::Poisoned { .. });
    assert!(journal.seal().is_err_and(|error| poisoned(&error)));
    assert!(journal.seal().is_err_and(|error| poisoned(&error)));
    let trimmed = journal.trim(1);
    assert!(matches!(&trimmed, Err(TrimError::Writer { source }) if poisoned(source)), "{trimmed:?}");
    let rewritten = journal.rewrite(0, 1, &mut |_| None);
    assert!(matches!(&rewritten, Err(RewriteError::Writer { source }) if poisoned(source)), "{rewritten:?}");
    assert!(matches!(append_wait(&journal, b"late"), Err(AppendError::Poisoned { .. })));
    assert!(matches!(journal.close(), Err(CloseError::Poisoned { .. })));
}

#[test]
fn a_disk_too_full_for_a_new_segment_is_told_and_the_log_goes_on() {
    let disk = SimDisk::new(1);
    let mut log = open(&disk, Options::default()).unwrap();
    let answers = Answers::default();
    // Room for its frame, none for more of the like, and one byte too few for a header.
    disk.set_capacity(Some(disk.used_bytes() + 28 + 12 + 47));
    append(&log.journal, b"acknowledged", 1, &answers);
    log.stepper.commit_waiting();
    assert_eq!(log.stepper.seal(), Err(WriterError::DiskFull));
    assert_eq!(log.journal.segments().len(), 1);
    disk.set_capacity(None);
    append(&log.journal, b"goes on", 1, &answers);
    log.stepper.commit_waiting();
    assert_eq!(told(&answers), [Ok(0), Ok(1)]);
    assert_eq!(log.stepper.seal(), Ok(2));
}
