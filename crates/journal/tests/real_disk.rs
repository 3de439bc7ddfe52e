//! The same log on the machine's own disk, with its thread: many producers, the lock,
//! the close, and a torn file.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::{Arc, mpsc};
use std::thread;

use journal::{AppendError, CloseError, Disk, Journal, OpenError, Options};
use support::{append_wait, count, open_real, read_all};

const PRODUCERS: u64 = 64;
const APPENDS: u64 = 200;

fn small_segments() -> Options {
    Options { segment_bytes_max: 100_000, ..Options::default() }
}

/// Every producer waits for each answer before it goes on.
fn produce(journal: &Journal) -> BTreeMap<u64, (u64, u64)> {
    thread::scope(|scope| {
        let producers: Vec<_> = (0..PRODUCERS)
            .map(|producer| {
                scope.spawn(move || {
                    let append = |number: u64| {
                        let payload = [producer.to_le_bytes(), number.to_le_bytes()].concat();
                        (append_wait(journal, &payload).unwrap(), (producer, number))
                    };
                    (0..APPENDS).map(append).collect::<Vec<_>>()
                })
            })
            .collect();
        producers.into_iter().flat_map(|p| p.join().unwrap()).collect()
    })
}

#[test]
fn sixty_four_producers_find_everything_in_order_after_a_reopen() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("deep/journal");
    let journal = open_real(&folder, small_segments());
    let acknowledged = produce(&journal);
    assert_eq!(acknowledged.len() as u64, PRODUCERS * APPENDS);
    journal.close().unwrap();
    journal.close().unwrap();
    assert_eq!(append_wait(&journal, b"late"), Err(AppendError::Closed));

    let opened = Journal::open(Disk::real(), &folder, small_segments()).unwrap();
    assert!(opened.recovery.clean_stop && opened.recovery.segments > 3);
    let mut next = BTreeMap::new();
    for frame in read_all(&opened.journal, 10_000).unwrap() {
        let number = |at: usize| u64::from_le_bytes(frame.payload[at..at + 8].try_into().unwrap());
        let (producer, number) = (number(0), number(8));
        assert_eq!(acknowledged[&frame.position], (producer, number));
        let due = next.entry(producer).or_insert(0);
        assert_eq!(number, *due, "order of producer {producer}");
        *due += 1;
    }
    assert_eq!(opened.journal.end(), PRODUCERS * APPENDS);
}

#[test]
fn a_reader_follows_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open_real(folder.path(), small_segments());
    thread::scope(|scope| {
        let mut reader = journal.reader();
        let end = PRODUCERS * APPENDS;
        let follower = scope.spawn(move || {
            let mut position = 0;
            while position < end {
                for frame in reader.read(position, 5000).unwrap().frames() {
                    assert_eq!(frame.position, position);
                    position = frame.end();
                }
                thread::yield_now();
            }
        });
        produce(&journal);
        follower.join().unwrap();
    });
}

#[test]
fn a_folder_is_for_one_journal_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open_real(folder.path(), Options::default());
    let second = Journal::open(Disk::real(), folder.path(), Options::default());
    let error = second.err().unwrap();
    assert!(matches!(&error, OpenError::Locked { folder: f } if f == folder.path()), "{error}");
    let other = journal.clone();
    journal.close().unwrap();
    open_real(folder.path(), Options::default());
    drop(other);
}

#[test]
fn a_dropped_journal_keeps_what_waits_and_is_no_clean_stop() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open_real(folder.path(), Options::default());
    let (sender, receiver) = mpsc::channel();
    for _ in 0..100 {
        let sender = sender.clone();
        let done = move |answer| sender.send(answer).unwrap();
        journal.append(b"waits", count(1), Box::new(done));
    }
    drop(journal);
    assert!(receiver.try_iter().map(Result::unwrap).eq(0..100));
    let opened = Journal::open(Disk::real(), folder.path(), Options::default()).unwrap();
    assert!(!opened.recovery.clean_stop);
    assert_eq!(opened.recovery.end, 100);
}

#[test]
fn a_torn_tail_is_cut_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open_real(folder.path(), Options::default());
    append_wait(&journal, b"kept").unwrap();
    drop(journal);
    let segment = folder.path().join("00000000000000000000.seg");
    let mut file = OpenOptions::new().append(true).open(&segment).unwrap();
    file.write_all(&[1; 77]).unwrap();
    std::fs::write(folder.path().join("left.seg.tmp"), b"over").unwrap();

    let opened = Journal::open(Disk::real(), folder.path(), Options::default()).unwrap();
    assert_eq!(opened.recovery.torn_bytes_cut, 77);
    assert_eq!(opened.recovery.torn_file, Some(segment));
    assert_eq!(append_wait(&opened.journal, b"next"), Ok(1));
    assert!(!folder.path().join("left.seg.tmp").exists());
}

#[test]
fn a_callback_may_panic_or_close_without_harm_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open_real(folder.path(), Options::default());
    journal.append(b"a", count(1), Box::new(|_| panic!("a caller's defect, on purpose")));
    assert_eq!(append_wait(&journal, b"b"), Ok(1));
    let (sender, receiver) = mpsc::channel();
    let itself = journal.clone();
    let done = move |_| sender.send(itself.close()).unwrap();
    journal.append(b"c", count(1), Box::new(done));
    assert_eq!(receiver.recv().unwrap(), Err(CloseError::OnWriterThread));
    journal.close().unwrap();
}

#[test]
fn an_observer_that_panics_leaves_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let options =
        Options { observer: Arc::new(|_| panic!("an observer's defect, on purpose")), ..Options::default() };
    let journal = open_real(folder.path(), options);
    let first = append_wait(&journal, b"a");
    assert!(matches!(first, Err(AppendError::Poisoned { .. })), "{first:?}");
    assert_eq!(journal.close(), Err(CloseError::Panicked));
}
