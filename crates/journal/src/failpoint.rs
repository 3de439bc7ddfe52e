//! Places where a test can break the process from outside. Without the feature
//! `failpoints` all of it compiles to nothing.
//!
//! `MILLRACE_FAILPOINTS` holds a list such as
//! `journal.synced=abort@7;journal.sync=sleep:5;store.claim=skip`:
//!
//! | action | what happens |
//! |---|---|
//! | `abort@N` (`abort` is `abort@1`) | the process aborts at the N-th hit |
//! | `sleep:MS` | every hit sleeps so many milliseconds |
//! | `skip` | [`skips`] answers true: the caller leaves the step out |
//!
//! The journal's names, in the order a life meets them:
//!
//! | name | where |
//! |---|---|
//! | `journal.recover_copied` | the intact part of the last segment is in a synced temporary |
//! | `journal.recover_renamed` | it has taken the segment's name; folder not yet synced |
//! | `journal.recovered` | the folder is synced, the durable mark not yet written |
//! | `journal.mark_created`, `journal.mark_renamed` | the same two steps of the durable mark |
//! | `journal.room_made` | zeros lie ahead of the log, as far as there was room, not yet synced |
//! | `journal.write`, `journal.written` | before and after a group's write |
//! | `journal.sync`, `journal.synced` | before and after a group's sync |
//! | `journal.marked` | the durable mark is written, nobody acknowledged |
//! | `journal.acknowledged` | after a group's waiters were called |
//! | `journal.seal` | a segment is full, its successor not yet begun |
//! | `journal.room_given_back` | the segment ends with its last frame |
//! | `journal.segment_created` | the successor is a synced temporary |
//! | `journal.segment_renamed` | it has its name; folder not yet synced |
//! | `journal.sealed` | a segment was sealed because somebody asked |
//! | `journal.rewrite_created` | a sealed segment's new form is a synced temporary |
//! | `journal.rewrite_renamed` | it has taken the segment's name; folder not yet synced |
//! | `journal.rewritten` | the folder is synced, nobody told |
//! | `journal.trim_marked` | the log's new beginning is durable, all files still there |
//! | `journal.trim_removed` | a segment below it is removed; folder not yet synced |
//! | `journal.trimmed` | the folder is synced, nobody told |
//! | `journal.cut_back` | a group did not fit the disk and is about to be cut off |
//! | `journal.stop` | all is synced, the clean stop not yet recorded |
//! | `journal.repair_created`, `journal.repair_renamed` | the same two steps of a file that a repair writes |

#[cfg(feature = "failpoints")]
pub use live::{hit, skips};

/// Marks a place; does nothing.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn hit(_name: &'static str) {}

/// Whether a test wants the step left out; never.
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
                    // A misspelt failpoint that did nothing would be a test that cannot fail.
                    None => panic!("MILLRACE_FAILPOINTS holds `{entry}`, which is no failpoint"),
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

    /// Marks a place where a test may abort or delay the process.
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

    /// Whether a test wants the step left out.
    pub fn skips(name: &'static str) -> bool {
        matches!(actions().get(name), Some(Action::Skip))
    }
}
