//! The same log on the machine's own disk, with its thread: many producers, the lock,
//! the close, and a torn file.
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
    assert!(matches!(&error, OpenError::Locked(locked) if locked.folder == folder.path()), "{error}");
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
fn room_is_made_ahead_of_small_groups_and_is_no_part_of_what_is_left() {
    const USED: u64 = 48 + 28 + 4;
    let folder = tempfile::tempdir().unwrap();
    let bytes = |first: u64| folder.path().join(format!("{first:020}.seg")).metadata().unwrap().len();
    let journal = open_real(folder.path(), Options::default());
    append_wait(&journal, b"kept").unwrap();
    assert!(bytes(0) > USED + 500_000, "{} bytes", bytes(0));
    drop(journal);

    // Not stopped in order, and yet nothing is torn.
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

    // Of a large group the bytes would be written twice.
    let journal = open_real(folder.path(), Options::default());
    append_wait(&journal, &vec![7; 100_000]).unwrap();
    assert_eq!(bytes(2), USED + 28 + 100_000);
}

#[test]
fn a_torn_tail_is_cut_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open_real(folder.path(), Options::default());
    append_wait(&journal, b"kept").unwrap();
    drop(journal);
    let segment = folder.path().join("00000000000000000000.seg");
    // In the room behind the header and the one frame.
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
    assert!(journal.seal().is_err());
    assert_eq!(journal.close(), Err(CloseError::Panicked));
}

/// How often `bytes` occur in the files of a folder.
fn occurrences(folder: &Path, bytes: &[u8]) -> usize {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    files.map(|file| file.windows(bytes.len()).filter(|window| *window == bytes).count()).sum()
}

/// Files of the folder that this process holds open though they have no name any more.
#[cfg(target_os = "linux")]
fn held_without_a_name(folder: &Path) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = open.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    targets
        .filter(|target| target.starts_with(folder) && target.to_string_lossy().ends_with("(deleted)"))
        .count()
}

#[test]
fn what_was_rewritten_is_in_no_file_any_more() {
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
    // A reader lets go of the old file when it reads on, whatever it reads.
    #[cfg(target_os = "linux")]
    assert_eq!(held_without_a_name(folder.path()), 1);
    assert!(reader.read(end, 100).unwrap().is_empty());
    #[cfg(target_os = "linux")]
    assert_eq!(held_without_a_name(folder.path()), 0);

    assert!(!reader.read(0, 100).unwrap().is_empty());
    journal.trim(end).unwrap();
    assert!(matches!(reader.read(0, 100), Err(ReadError::BelowBegin { .. })));
    #[cfg(target_os = "linux")]
    assert_eq!(held_without_a_name(folder.path()), 0);
    drop(journal);
    open_real(folder.path(), Options::default());
    assert_eq!(occurrences(folder.path(), b"ann@example.com"), 0);
}

/// Producers append, readers read, somebody seals, rewrites and trims: all at once.
#[test]
fn upkeep_goes_on_beside_appends_and_reads() {
    let folder = tempfile::tempdir().unwrap();
    let options = || Options { segment_bytes_max: 20_000, ..Options::default() };
    let journal = open_real(folder.path(), options());
    let end = PRODUCERS * APPENDS;
    let keep_up = || {
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
    // What was trimmed may be missed; all else is read in order, and blank or as it was.
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
    // Always at the beginning, where files go away.
    let look = || {
        let mut reader = journal.reader();
        while journal.end() < end {
            match reader.read(journal.begin(), 1) {
                Ok(_) | Err(ReadError::BelowBegin { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    let acknowledged = thread::scope(|scope| {
        scope.spawn(keep_up);
        scope.spawn(follow);
        scope.spawn(look);
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
fn on_the_writers_own_thread_nothing_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open_real(folder.path(), Options::default());
    let (sender, receiver) = mpsc::channel();
    let itself = journal.clone();
    journal.append(b"a", count(1), Box::new(move |_| sender.send(itself.seal()).unwrap()));
    assert_eq!(receiver.recv().unwrap(), Err(WriterError::OnWriterThread));
    assert_eq!(journal.seal(), Ok(1));
}

/// The folder is another's only once the rewrite has ended.
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

/// Readers that look at the beginning while it goes away under them.
#[test]
fn a_segment_that_goes_away_is_never_taken_for_damage() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open_real(folder.path(), Options { segment_bytes_max: 1, ..Options::default() });
    for _ in 0..300 {
        append_wait(&journal, b"a segment of its own").unwrap();
    }
    let last = journal.end() - 1;
    let all_look = Barrier::new(4);
    let look = || {
        all_look.wait();
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
        (0..3).for_each(|_| drop(scope.spawn(look)));
        all_look.wait();
        for before in 1..=last {
            assert_eq!(journal.trim(before).unwrap(), before);
        }
    });
}
