//! Tests on the real disk with the writer thread: many producers, the lock, the close, torn files, and rewrites and
//! trims at the same time.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Barrier, mpsc};
use std::thread;

use journal::{AppendError, CloseError, Disk, Journal, OpenError, Options, ReadError, WriterError};
use support::{append_wait, count, open_real, read_all};

const PRODUCERS: u64 = 64;
const APPENDS: u64 = 200;

fn small_segments() -> Options {
    Options { segment_bytes_max: 100_000, ..Options::default() }
}

/// Starts producers that each wait for an answer before the next append. Returns (producer, number) by position.
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
fn appends_of_64_producers_are_in_order_after_a_reopen() {
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
        let expected = next.entry(producer).or_insert(0);
        assert_eq!(number, *expected, "order of producer {producer}");
        *expected += 1;
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
fn only_one_journal_at_a_time_can_use_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open_real(folder.path(), Options::default());
    let second = Journal::open(Disk::real(), folder.path(), Options::default());
    let error = second.err().unwrap();
    assert!(matches!(&error, OpenError::Locked(locked) if locked.folder == folder.path()), "{error}");
    let other = journal.clone();
    journal.close().unwrap();
    open_real(folder.path(), Options::default());
    drop(other);
}

#[test]
fn a_dropped_journal_writes_queued_appends_but_is_not_a_clean_stop() {
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
fn preallocated_space_is_not_a_torn_tail_and_no_sealed_segment_has_any() {
    const USED: u64 = 48 + 28 + 4;
    let folder = tempfile::tempdir().unwrap();
    let bytes = |first: u64| folder.path().join(format!("{first:020}.seg")).metadata().unwrap().len();
    let journal = open_real(folder.path(), Options::default());
    append_wait(&journal, b"kept").unwrap();
    assert!(bytes(0) > USED + 500_000, "{} bytes", bytes(0));
    drop(journal);

    // The log was not stopped cleanly, but nothing is torn.
    let opened = Journal::open(Disk::real(), folder.path(), Options::default()).unwrap();
    let recovery = &opened.recovery;
    assert_eq!((recovery.clean_stop, recovery.torn_bytes_cut, recovery.end), (false, 0, 1));
    assert_eq!(bytes(0), USED);
    append_wait(&opened.journal, b"more").unwrap();
    assert!(bytes(0) > USED + 500_000);
    opened.journal.seal().unwrap();
    assert_eq!(bytes(0), USED + 28 + 4);
    append_wait(&opened.journal, b"last").unwrap();
    assert!(bytes(2) > USED + 500_000);
    opened.journal.close().unwrap();
    assert_eq!(bytes(2), USED);

    // Nothing is preallocated for a large group, because all its bytes would be written twice.
    let journal = open_real(folder.path(), Options::default());
    append_wait(&journal, &vec![7; 100_000]).unwrap();
    assert_eq!(bytes(2), USED + 28 + 100_000);
}

#[test]
fn a_torn_tail_is_cut_off_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open_real(folder.path(), Options::default());
    append_wait(&journal, b"kept").unwrap();
    drop(journal);
    let segment = folder.path().join("00000000000000000000.seg");
    // Write garbage into the preallocated space after the header and the only frame.
    let mut file = OpenOptions::new().write(true).open(&segment).unwrap();
    file.seek(SeekFrom::Start(48 + 28 + 4)).unwrap();
    file.write_all(&[1; 77]).unwrap();
    std::fs::write(folder.path().join("left.seg.tmp"), b"over").unwrap();

    let opened = Journal::open(Disk::real(), folder.path(), Options::default()).unwrap();
    assert_eq!(opened.recovery.torn_bytes_cut, 77);
    assert_eq!(opened.recovery.torn_file, Some(segment));
    assert_eq!(append_wait(&opened.journal, b"next"), Ok(1));
    assert!(!folder.path().join("left.seg.tmp").exists());
}

#[test]
fn a_callback_that_panics_or_closes_does_not_affect_other_appends() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open_real(folder.path(), Options::default());
    journal.append(b"a", count(1), Box::new(|_| panic!("this callback panics on purpose")));
    assert_eq!(append_wait(&journal, b"b"), Ok(1));
    let (sender, receiver) = mpsc::channel();
    let itself = journal.clone();
    let done = move |_| sender.send(itself.close()).unwrap();
    journal.append(b"c", count(1), Box::new(done));
    assert_eq!(receiver.recv().unwrap(), Err(CloseError::OnWriterThread));
    journal.close().unwrap();
}

#[test]
fn an_observer_that_panics_leaves_no_caller_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let options =
        Options { observer: Arc::new(|_| panic!("this observer panics on purpose")), ..Options::default() };
    let journal = open_real(folder.path(), options);
    let first = append_wait(&journal, b"a");
    assert!(matches!(first, Err(AppendError::Poisoned { .. })), "{first:?}");
    assert!(journal.seal().is_err());
    assert_eq!(journal.close(), Err(CloseError::Panicked));
}

/// Counts how often `bytes` occur in the files of a folder.
fn occurrences(folder: &Path, bytes: &[u8]) -> usize {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    files.map(|file| file.windows(bytes.len()).filter(|window| *window == bytes).count()).sum()
}

/// Counts the deleted files of the folder that this process still has open.
#[cfg(target_os = "linux")]
fn deleted_but_open(folder: &Path) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = open.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    targets
        .filter(|target| target.starts_with(folder) && target.to_string_lossy().ends_with("(deleted)"))
        .count()
}

#[test]
fn old_payloads_are_in_no_file_after_a_rewrite() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open_real(folder.path(), Options { segment_bytes_max: 2000, ..Options::default() });
    for number in 0..200 {
        append_wait(&journal, format!("{number}: ann@example.com pays").as_bytes()).unwrap();
    }
    let mut reader = journal.reader();
    assert!(!reader.read(0, 100).unwrap().is_empty());
    assert_eq!(occurrences(folder.path(), b"ann@example.com"), 200);
    let end = journal.seal().unwrap();
    let mut erase = |frame: &journal::Frame<'_>| Some(vec![b' '; frame.payload.len()]);
    let rewritten = journal.rewrite(0, end, &mut erase).unwrap();
    assert!(rewritten.frames == 200 && rewritten.segments > 3);
    assert_eq!(occurrences(folder.path(), b"ann@example.com"), 0);
    // A reader closes the old file at its next read, at any position.
    #[cfg(target_os = "linux")]
    assert_eq!(deleted_but_open(folder.path()), 1);
    assert!(reader.read(end, 100).unwrap().is_empty());
    #[cfg(target_os = "linux")]
    assert_eq!(deleted_but_open(folder.path()), 0);

    assert!(!reader.read(0, 100).unwrap().is_empty());
    journal.trim(end).unwrap();
    assert!(matches!(reader.read(0, 100), Err(ReadError::BelowBegin { .. })));
    #[cfg(target_os = "linux")]
    assert_eq!(deleted_but_open(folder.path()), 0);
    drop(journal);
    open_real(folder.path(), Options::default());
    assert_eq!(occurrences(folder.path(), b"ann@example.com"), 0);
}

/// Producers append and readers read, while another thread seals, rewrites and trims.
#[test]
fn seals_rewrites_and_trims_run_beside_appends_and_reads() {
    let folder = tempfile::tempdir().unwrap();
    let options = || Options { segment_bytes_max: 20_000, ..Options::default() };
    let journal = open_real(folder.path(), options());
    let end = PRODUCERS * APPENDS;
    let maintain = || {
        let (mut erased, mut begin) = (0, 0);
        while erased < end {
            let sealed_end = journal.seal().unwrap();
            let mut blank = |frame: &journal::Frame<'_>| Some(vec![b' '; frame.payload.len()]);
            let rewritten = journal.rewrite(erased, sealed_end, &mut blank).unwrap();
            assert!(rewritten.frames >= sealed_end - erased.max(begin));
            erased = sealed_end;
            begin = journal.trim(erased / 2).unwrap();
            assert!(begin <= erased / 2 && begin == journal.begin());
            thread::yield_now();
        }
    };
    // Trimmed events may be missed. All others are read in order, blank or with the old payload.
    let follow = || {
        let (mut reader, mut position) = (journal.reader(), 0);
        while position < end {
            match reader.read(position, 3000) {
                Ok(chunk) => {
                    for frame in chunk.frames() {
                        assert_eq!((frame.position, frame.payload.len()), (position, 16));
                        position = frame.end();
                    }
                }
                Err(ReadError::BelowBegin { begin, .. }) => position = begin,
                Err(error) => panic!("{error}"),
            }
            thread::yield_now();
        }
    };
    // This thread always reads at the beginning, where files are removed.
    let read_begin = || {
        let mut reader = journal.reader();
        while journal.end() < end {
            match reader.read(journal.begin(), 1) {
                Ok(_) | Err(ReadError::BelowBegin { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    let acknowledged = thread::scope(|scope| {
        scope.spawn(maintain);
        scope.spawn(follow);
        scope.spawn(read_begin);
        produce(&journal)
    });
    assert_eq!(acknowledged.len() as u64, end);
    let begin = journal.begin();
    assert!(begin > 0 && journal.segments().len() > 1);
    journal.close().unwrap();
    assert_eq!(journal.seal(), Err(WriterError::Closed));
    let opened = Journal::open(Disk::real(), folder.path(), options()).unwrap();
    assert_eq!((opened.recovery.begin, opened.recovery.end), (begin, end));
    assert!(read_all(&opened.journal, 10_000).unwrap().iter().all(|entry| entry.payload == [b' '; 16]));
}

#[test]
fn a_seal_on_the_writer_thread_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open_real(folder.path(), Options::default());
    let (sender, receiver) = mpsc::channel();
    let itself = journal.clone();
    journal.append(b"a", count(1), Box::new(move |_| sender.send(itself.seal()).unwrap()));
    assert_eq!(receiver.recv().unwrap(), Err(WriterError::OnWriterThread));
    assert_eq!(journal.seal(), Ok(1));
}

/// The folder stays locked until the rewrite has ended.
#[test]
fn a_close_waits_for_a_rewrite() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open_real(folder.path(), Options::default());
    append_wait(&journal, b"old").unwrap();
    let end = journal.seal().unwrap();
    let journal = &journal;
    thread::scope(|scope| {
        let (begun, has_begun) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let rewriter = scope.spawn(move || {
            let mut change = |_: &journal::Frame<'_>| {
                begun.send(()).unwrap();
                may_go_on.recv().unwrap();
                Some(b"new".to_vec())
            };
            journal.rewrite(0, end, &mut change).unwrap()
        });
        has_begun.recv().unwrap();
        let closer = scope.spawn(|| journal.close().unwrap());
        while append_wait(journal, b"more") != Err(AppendError::Closed) {}
        for _ in 0..200 {
            let second = Journal::open(Disk::real(), folder.path(), Options::default());
            assert!(matches!(second.err(), Some(OpenError::Locked(_))));
            thread::yield_now();
        }
        go_on.send(()).unwrap();
        assert_eq!(rewriter.join().unwrap().frames, 1);
        closer.join().unwrap();
    });
    let journal = open_real(folder.path(), Options::default());
    assert_eq!(read_all(&journal, 100).unwrap()[0].payload, b"new");
}

/// Readers read at the beginning while it is trimmed.
#[test]
fn a_trimmed_segment_is_never_reported_as_damage() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open_real(folder.path(), Options { segment_bytes_max: 1, ..Options::default() });
    for _ in 0..300 {
        append_wait(&journal, b"a segment of its own").unwrap();
    }
    let last = journal.end() - 1;
    let started = Barrier::new(4);
    let read_begin = || {
        started.wait();
        while journal.begin() < last {
            let position = journal.begin();
            match journal.reader().read(position, 1) {
                Ok(chunk) => assert_eq!(chunk.frames().next().unwrap().position, position),
                Err(ReadError::BelowBegin { begin, .. }) => assert!(begin > position),
                Err(error) => panic!("{error}"),
            }
        }
    };
    thread::scope(|scope| {
        (0..3).for_each(|_| drop(scope.spawn(read_begin)));
        started.wait();
        for before in 1..=last {
            assert_eq!(journal.trim(before).unwrap(), before);
        }
    });
}
