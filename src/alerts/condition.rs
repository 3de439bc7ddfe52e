//! Decides which conditions hold, from what is known of the server. It uses no clock and no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use event::{Applied, Stalled};

use crate::log::DiskBytes;
use crate::store::{DEDUP_NAME, StoreState};

/// What is known of the server at a moment.
pub struct Facts {
    pub views: BTreeMap<String, ViewFacts>,
    pub store: StoreState,
    /// `None` if the system cannot tell.
    pub disk: Option<DiskBytes>,
}

pub struct ViewFacts {
    pub applied: Applied,
    pub lag: Duration,
    /// The lag beyond which somebody is told.
    pub lag_max: Duration,
}

/// A condition that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// What is the matter, and what to do.
    pub message: String,
    /// What is sent once it is over.
    pub over: String,
}

/// The result of a look at the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The conditions that hold, by name.
    pub holding: BTreeMap<String, Holding>,
    /// Those of which nothing is known at the moment.
    pub unknown: BTreeSet<String>,
}

const STORE_AWAY: &str = "store-away";
const DISK: &str = "disk-nearly-full";
/// The free space, as parts of the reserve, below which the disk is nearly full, and from which on it is not any more.
const DISK_RESERVES: [u64; 2] = [2, 3];

impl Conditions {
    /// Looks at the facts. `held` tells which conditions held before.
    pub fn of(facts: &Facts, held: impl Fn(&str) -> bool) -> Self {
        let mut conditions = Self::default();
        for (name, view) in &facts.views {
            conditions.look_at_view(name, view, &facts.store);
        }
        if let StoreState::Down { reason, .. } | StoreState::Wrong { reason } = &facts.store {
            let message =
                format!("The database cannot be used: {reason}. Events are accepted, and applied later.");
            conditions.add(STORE_AWAY, message, "The database can be used again.");
        }
        match facts.disk {
            Some(disk) => {
                let [begins, ends] = DISK_RESERVES.map(|parts| parts * disk.reserve());
                if disk.free < if held(DISK) { ends } else { begins } {
                    let [free, reserve] = [disk.free, disk.reserve()].map(|bytes| bytes >> 20);
                    let message = format!(
                        "The disk of the data folder is nearly full: {free} MiB are free. Below {reserve} MiB, new events are refused."
                    );
                    conditions.add(DISK, message, "The disk of the data folder has free space again.");
                }
            }
            None => drop(conditions.unknown.insert(DISK.to_owned())),
        }
        conditions
    }

    fn look_at_view(&mut self, name: &str, view: &ViewFacts, store: &StoreState) {
        let (paused, behind) = (format!("view-paused {name}"), format!("view-behind {name}"));
        let title = if name == DEDUP_NAME { "Dedup".to_owned() } else { format!("View `{name}`") };
        match &view.applied.stalled {
            Some(Stalled::Paused(reason)) => {
                self.add(
                    &paused,
                    format!("{title} is paused: {reason}"),
                    &format!("{title} is not paused any more."),
                );
                // The pause is the reason for its lag.
                self.unknown.insert(behind);
                return;
            }
            // A view that cannot read its position from the store may be paused as soon as it can.
            Some(Stalled::Waiting(_)) => drop(self.unknown.insert(paused)),
            None if !view.applied.known => drop(self.unknown.insert(paused)),
            None => {}
        }
        if !view.applied.known || *store != StoreState::Up {
            self.unknown.insert(behind);
        } else if view.lag > view.lag_max {
            let [lag, most] = [view.lag, view.lag_max].map(in_words);
            let message =
                format!("{title} is {lag} behind, more than {most}. `millrace status` shows its state.");
            self.add(&behind, message, &format!("{title} is less than {most} behind again."));
        }
    }

    pub fn add(&mut self, name: &str, message: String, over: &str) {
        self.holding.insert(name.to_owned(), Holding { message, over: over.to_owned() });
    }
}

/// Formats a duration for a sentence.
fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..=119 => format!("{seconds} seconds"),
        120..=7_199 => format!("{} minutes", seconds / 60),
        _ => format!("{} hours", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use event::Millis;

    use super::*;

    const GIB: u64 = 1 << 30;

    fn facts(applied: Applied, lag_seconds: u64) -> Facts {
        let lag = Duration::from_secs(lag_seconds);
        let view = ViewFacts { applied, lag, lag_max: Duration::from_secs(300) };
        let disk = Some(DiskBytes { free: 50 * GIB, total: 100 * GIB });
        Facts { views: BTreeMap::from([("sales".to_owned(), view)]), store: StoreState::Up, disk }
    }

    fn names(conditions: &Conditions) -> Vec<&str> {
        conditions.holding.keys().map(String::as_str).collect()
    }

    #[test]
    fn nothing_holds_while_all_is_well() {
        assert_eq!(Conditions::of(&facts(Applied::at(7), 300), |_| false), Conditions::default());
    }

    #[test]
    fn a_paused_view_is_one_condition_and_its_lag_is_none() {
        let paused = Applied { stalled: Some(Stalled::Paused("no table `t`".to_owned())), ..Applied::at(7) };
        let conditions = Conditions::of(&facts(paused, 9_000), |_| false);
        assert_eq!(names(&conditions), ["view-paused sales"]);
        let message = &conditions.holding["view-paused sales"].message;
        assert_eq!(message, "View `sales` is paused: no table `t`");
    }

    #[test]
    fn a_view_is_behind_beyond_the_bound_and_not_while_the_database_is_away() {
        let mut facts = facts(Applied::at(7), 301);
        assert_eq!(names(&Conditions::of(&facts, |_| false)), ["view-behind sales"]);
        facts.store = StoreState::Down { since: Millis(0), reason: "refused".to_owned() };
        let conditions = Conditions::of(&facts, |_| false);
        assert_eq!(names(&conditions), ["store-away"]);
        assert!(conditions.unknown.contains("view-behind sales"));
    }

    #[test]
    fn whether_a_view_is_paused_is_unknown_until_it_has_read_its_position() {
        let waiting = Applied { stalled: Some(Stalled::Waiting("away".to_owned())), ..Applied::at(7) };
        for applied in [Applied::default(), waiting] {
            let conditions = Conditions::of(&facts(applied, 0), |_| true);
            assert!(conditions.unknown.contains("view-paused sales"));
        }
    }

    #[test]
    fn a_disk_that_was_nearly_full_needs_more_space_until_that_is_over() {
        let mut facts = facts(Applied::at(7), 0);
        let mut holds = |free: u64, held: bool| {
            facts.disk = Some(DiskBytes { free: free << 20, total: 100 * GIB });
            names(&Conditions::of(&facts, |_| held)) == [DISK]
        };
        assert!(!holds(512, false) && holds(511, false));
        assert!(holds(767, true) && !holds(768, true));
    }
}
