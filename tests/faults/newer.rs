//! Tables or a log that a newer millrace wrote. The start is refused with one line, and nothing is changed.

use std::path::Path;

use crate::harness::servers::Kind;
use crate::rig::{Rig, shared};

on_each_server!(a_store_or_log_of_a_newer_millrace_is_refused_in_one_line);

/// Starts millrace and returns the only log line above `INFO` with which it refuses to start.
fn refusal(rig: &mut Rig) -> String {
    let log = rig.app.try_restart_with(|_| {}).unwrap_err();
    let lines: Vec<&str> = log.lines().filter(|line| !line.contains("\"level\":\"INFO\"")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(!log.contains("secret"), "{log}");
    lines[0].to_owned()
}

/// Changes the headers of the log's files to format version 2, with valid checksums.
fn set_version_2(journal: &Path) {
    for entry in std::fs::read_dir(journal).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "seg") {
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[8] = 2;
            let checksum = crc32(bytes[..12].iter().chain(&bytes[16..48]));
            bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
            std::fs::write(&path, bytes).unwrap();
        }
    }
}

fn crc32<'b>(bytes: impl Iterator<Item = &'b u8>) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
    !bytes.fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

fn a_store_or_log_of_a_newer_millrace_is_refused_in_one_line(kind: Kind) {
    let server = shared(kind);
    let mut rig = Rig::new(server);
    rig.load(|| rig.wait_for_progress("revenue"));
    rig.app.settle();
    assert_eq!(rig.app.stop(), Some(0));
    let version = server.sql(&rig.url, "SELECT value FROM millrace_meta WHERE name = 'schema'");
    server.sql(&rig.url, "UPDATE millrace_meta SET value = '1000' WHERE name = 'schema'");
    let message = refusal(&mut rig);
    assert!(message.contains("1000") && message.contains("use a newer millrace"), "{message}");
    server.sql(&rig.url, &format!("UPDATE millrace_meta SET value = '{version}' WHERE name = 'schema'"));

    set_version_2(&rig.app.data().join("journal"));
    let message = refusal(&mut rig);
    assert!(message.contains("version 2") && message.contains("newer"), "{message}");
}
