//! A copy that is made from a snapshot, while the log is written, opens as a log that was stopped at that point.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use journal::{Disk, Journal, OpenError, Options, Snapshot};
use support::{append_wait, open_real, read_all};

fn options() -> Options {
    Options { segment_bytes_max: 2_000, ..Options::default() }
}

fn copy(snapshot: &Snapshot, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for segment in &snapshot.segments {
        let bytes = std::fs::read(&segment.path).unwrap();
        std::fs::write(to.join(&segment.name), &bytes[..segment.bytes as usize]).unwrap();
    }
    std::fs::write(to.join(Snapshot::MARK_NAME), snapshot.mark(snapshot.begin())).unwrap();
}

#[test]
fn copies_of_a_log_under_load_end_where_their_snapshot_says() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open_real(&folder.path().join("log"), options());
    let mut copies = vec![journal.snapshot().unwrap()];
    std::thread::scope(|scope| {
        let producer =
            scope.spawn(|| (0..2_000_u32).all(|n| append_wait(&journal, &n.to_le_bytes()).is_ok()));
        while !producer.is_finished() {
            copies.push(journal.snapshot().unwrap());
        }
        assert!(producer.join().unwrap());
    });
    copies.push(journal.snapshot().unwrap());
    assert_eq!((copies[0].end, copies[copies.len() - 1].end), (0, 2_000));
    let every = copies.len().div_ceil(20);
    let last = copies.len() - 1;
    for (index, snapshot) in
        copies.iter().enumerate().filter(|(index, _)| index % every == 0 || *index == last)
    {
        let to = folder.path().join(index.to_string());
        copy(snapshot, &to);
        let opened = Journal::open(Disk::real(), &to, options()).unwrap();
        let recovery = opened.recovery;
        assert!(recovery.clean_stop && recovery.torn_bytes_cut == 0, "{recovery:?}");
        assert_eq!((recovery.begin, recovery.end), (snapshot.begin(), snapshot.end));
        assert_eq!(opened.journal.id(), journal.id());
        assert_eq!(read_all(&opened.journal, 10_000).unwrap().len() as u64, snapshot.end);
        assert_eq!(append_wait(&opened.journal, b"goes on").unwrap(), snapshot.end);
    }
}

#[test]
fn a_copy_with_a_segment_cut_by_one_byte_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open_real(&folder.path().join("log"), options());
    assert!((0..200_u32).all(|n| append_wait(&journal, &n.to_le_bytes()).is_ok()));
    let snapshot = journal.snapshot().unwrap();
    for (index, segment) in
        [0, snapshot.segments.len() - 1].map(|at| &snapshot.segments[at]).iter().enumerate()
    {
        let to = folder.path().join(index.to_string());
        copy(&snapshot, &to);
        let file = std::fs::OpenOptions::new().write(true).open(to.join(&segment.name)).unwrap();
        file.set_len(segment.bytes - 1).unwrap();
        let refused = Journal::open(Disk::real(), &to, options()).err().unwrap();
        assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused}");
    }
}
