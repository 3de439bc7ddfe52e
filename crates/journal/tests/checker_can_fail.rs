//! Tests the checker of the crash tests. On a disk whose syncs do nothing, it must find lost events within a few
//! runs.
#![allow(clippy::unwrap_used)]

mod support;

use support::crash_run::{Break, run};

fn first_failure(broken: Break) -> Option<(u64, String)> {
    (0..50).find_map(|seed| Some((seed, run(seed, broken).err()?)))
}

#[test]
fn without_file_syncs_the_checker_finds_loss() {
    let failure = first_failure(Break::FileSyncs);
    assert!(failure.is_some(), "50 runs without file syncs passed");
}

#[test]
fn without_folder_syncs_the_checker_finds_loss() {
    let failure = first_failure(Break::FolderSyncs);
    assert!(failure.is_some(), "50 runs without folder syncs passed");
}
