//! Points in the code where a test can abort or delay the process from outside. Without the feature `failpoints`,
//! they compile to nothing.
//!
//! The environment variable `MILLRACE_FAILPOINTS` contains a list such as
//! `journal.synced=abort@7;journal.sync=sleep:5;store.claim=skip`:
//!
//! | action | what happens |
//! |---|---|
//! | `abort@N` (`abort` is `abort@1`) | the process aborts at the N-th hit |
//! | `sleep:MS` | every hit sleeps MS milliseconds |
//! | `skip` | [`skips`] returns true, and the caller skips the step |
//!
//! The failpoints of the journal, roughly in the order in which a process reaches them:
//!
//! | name | what has happened, or happens next |
//! |---|---|
//! | `journal.recover_copied` | the intact part of the last segment is in a synced temporary file |
//! | `journal.recover_renamed` | the file has the segment's name; the folder is not synced |
//! | `journal.recovered` | the folder is synced; the durable mark is not written |
//! | `journal.mark_created`, `journal.mark_renamed` | the same two steps for the durable mark |
//! | `journal.await_durable` | an append waits until it is durable; if skipped, it is acknowledged when it is queued |
//! | `journal.room_made` | preallocated zeros are written, as far as the disk had space; they are not synced |
//! | `journal.write`, `journal.written` | before and after the write of a group |
//! | `journal.sync`, `journal.synced` | before and after the sync of a group |
//! | `journal.marked` | the durable mark is written; no append is acknowledged |
//! | `journal.acknowledged` | all appends of the group are acknowledged |
//! | `journal.seal` | the active segment will be sealed; the next one is not created |
//! | `journal.room_given_back` | the segment is truncated after its last frame |
//! | `journal.segment_created` | the next segment is a synced temporary file |
//! | `journal.segment_renamed` | it has its final name; the folder is not synced |
//! | `journal.sealed` | a segment was sealed on request |
//! | `journal.rewrite_created` | the new content of a sealed segment is in a synced temporary file |
//! | `journal.rewrite_renamed` | the file has the segment's name; the folder is not synced |
//! | `journal.rewritten` | the folder is synced; the call has not returned |
//! | `journal.trim_marked` | the new beginning of the log is durable; no file is removed |
//! | `journal.trim_removed` | a segment below it is removed; the folder is not synced |
//! | `journal.trimmed` | the folder is synced; the call has not returned |
//! | `journal.cut_back` | the disk is full; the partly written group will be cut off |
//! | `journal.stop` | all appends are synced; the clean stop is not recorded |
//! | `journal.repair_created`, `journal.repair_renamed` | the same two steps for a file that a repair writes |

#[cfg(feature = "failpoints")]
pub use live::{hit, skips};

/// Marks a failpoint. Does nothing without the feature.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn hit(_name: &'static str) {}

/// Returns true if a test wants the step to be skipped. Always false without the feature.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn skips(_name: &'static str) -> bool {
    false
}

#[cfg(feature = "failpoints")]
mod live {
    use std::collections::HashMap;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    enum Action {
        Abort { at: u64, hits: AtomicU64 },
        Sleep(Duration),
        Skip,
    }

    static ACTIONS: OnceLock<HashMap<String, Action>> = OnceLock::new();

    fn actions() -> &'static HashMap<String, Action> {
        ACTIONS.get_or_init(|| {
            let text = std::env::var("MILLRACE_FAILPOINTS").unwrap_or_default();
            text.split(';')
                .filter(|entry| !entry.trim().is_empty())
                .map(|entry| match parse(entry.trim()) {
                    Some((name, action)) => (name.to_owned(), action),
                    // If a misspelt entry were ignored, the test that sets it could not fail.
                    None => panic!("MILLRACE_FAILPOINTS: `{entry}` is not a failpoint; write NAME=ACTION"),
                })
                .collect()
        })
    }

    fn parse(entry: &str) -> Option<(&str, Action)> {
        let (name, action) = entry.split_once('=')?;
        let action = if action == "skip" {
            Action::Skip
        } else if let Some(milliseconds) = action.strip_prefix("sleep:") {
            Action::Sleep(Duration::from_millis(milliseconds.parse().ok()?))
        } else {
            let at = match action.strip_prefix("abort")? {
                "" => 1,
                at => at.strip_prefix('@')?.parse().ok()?,
            };
            Action::Abort { at, hits: AtomicU64::new(0) }
        };
        Some((name, action))
    }

    /// Marks a failpoint, where a test can abort or delay the process.
    pub fn hit(name: &'static str) {
        match actions().get(name) {
            Some(Action::Abort { at, hits }) => {
                if hits.fetch_add(1, Ordering::Relaxed) + 1 == *at {
                    std::process::abort();
                }
            }
            Some(Action::Sleep(time)) => std::thread::sleep(*time),
            Some(Action::Skip) | None => {}
        }
    }

    /// Returns true if a test wants the step to be skipped.
    pub fn skips(name: &'static str) -> bool {
        matches!(actions().get(name), Some(Action::Skip))
    }
}
