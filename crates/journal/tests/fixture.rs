//! A log that was written by version 1. Every later version must be able to read it. `JOURNAL_FIXTURE_WRITE=1`
//! writes it again, which is never necessary for a released version.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};

use journal::simulation::SimDisk;
use journal::{Options, inspect, repair};
use support::{filled, folder, open, payload, read_all};

const ENTRIES: u64 = 16;

fn fixture_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

/// Writes a log of several segments whose fifth frame was replaced by a lost frame, and stops it cleanly.
fn written_now() -> SimDisk {
    let (disk, content) = filled(ENTRIES, true);
    let first = folder().join("00000000000000000000.seg");
    let mut bytes = disk.file(&first).unwrap();
    let at: usize = 48 + content[..4].iter().map(|entry| entry.payload.len() + 28).sum::<usize>();
    bytes[at + 28] ^= 1;
    disk.put(&first, bytes);
    let inspection = inspect(&disk.disk(), folder()).unwrap();
    let repaired = repair(&disk.disk(), folder(), &inspection).unwrap();
    for kept in repaired.kept {
        disk.take(&kept);
    }
    open(&disk, Options::default()).unwrap().stepper.close().unwrap();
    disk
}

fn write_fixture(disk: &SimDisk) {
    std::fs::create_dir_all(fixture_folder()).unwrap();
    for path in disk.files() {
        let to = fixture_folder().join(path.file_name().unwrap());
        std::fs::write(to, disk.file(&path).unwrap()).unwrap();
    }
}

#[test]
fn a_version_1_log_is_still_written_byte_for_byte() {
    let disk = written_now();
    if std::env::var_os("JOURNAL_FIXTURE_WRITE").is_some() {
        write_fixture(&disk);
    }
    for path in disk.files() {
        let fixture = std::fs::read(fixture_folder().join(path.file_name().unwrap())).unwrap();
        assert_eq!(disk.file(&path).unwrap(), fixture, "{}", path.display());
    }
    let files = std::fs::read_dir(fixture_folder()).unwrap().count();
    assert_eq!(files, disk.files().len());
}

#[test]
fn a_version_1_log_can_still_be_read() {
    let disk = SimDisk::new(1);
    for entry in std::fs::read_dir(fixture_folder()).unwrap() {
        let entry = entry.unwrap();
        let bytes = std::fs::read(entry.path()).unwrap();
        disk.put(&folder().join(entry.file_name()), bytes);
    }
    let log = open(&disk, Options::default()).unwrap();
    assert_eq!(log.journal.id().to_string(), FIXTURE_ID);
    assert!(log.recovery.clean_stop && log.recovery.segments > 1);
    assert_eq!(log.recovery.lost_events, 2);
    let found = read_all(&log.journal, 1000).unwrap();
    assert_eq!(found.len() as u64, ENTRIES);
    for (number, entry) in (0..).zip(&found) {
        assert_eq!(entry.lost, number == 4);
        assert_eq!(entry.count, 1 + number as u32 % 3);
        let expected = if entry.lost { Vec::new() } else { payload(number) };
        assert_eq!(entry.payload, expected);
    }
}

const FIXTURE_ID: &str = "1c663cf4d73c4c04d70d3259e4e1cb63";
