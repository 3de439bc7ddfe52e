//! Decides which conditions hold, from the facts about the server. It uses no clock and no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use event::limits::NEW_DEAD_LETTERS_COUNTED_MAX;
use event::{Applied, Stalled};

use crate::log::DiskBytes;
use crate::store::{DEDUP_NAME, NewDeadLetters, StoreState};

/// The facts about the server at a moment.
pub struct Facts {
    pub views: BTreeMap<String, ViewFacts>,
    pub store: StoreState,
    /// `None` if the system cannot tell.
    pub disk: Option<DiskBytes>,
    /// `None` if the store does not answer.
    pub new_dead_letters: Option<NewDeadLetters>,
}

pub struct ViewFacts {
    pub applied: Applied,
    pub lag: Duration,
    /// The lag beyond which an alert is raised.
    pub lag_max: Duration,
}

/// A condition that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The text of the alert: what happened, and what to do.
    pub message: String,
    /// The text that is sent once the condition is over.
    pub over_message: String,
    /// A view is behind. It often catches up within a few checks.
    pub is_lag: bool,
}

/// The result of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The conditions that hold, by name.
    pub holding: BTreeMap<String, Holding>,
    /// Those of which nothing is known at the moment.
    pub unknown: BTreeSet<String>,
}

const STORE_AWAY: &str = "store-away";
const DISK: &str = "disk-nearly-full";
pub const DEAD_LETTERS: &str = "dead-letters";
/// The disk is nearly full below this multiple of the reserve, and not any more from this one on.
const DISK_RESERVES: [u64; 2] = [2, 3];

impl Conditions {
    /// Checks the facts. `held` tells which conditions held before.
    pub fn of(facts: &Facts, held: impl Fn(&str) -> bool) -> Self {
        let mut conditions = Self::default();
        for (name, view) in &facts.views {
            conditions.check_view(name, view, facts.store == StoreState::Up, &held);
        }
        let events = match &facts.store {
            StoreState::Up => None,
            StoreState::Down { reason, .. } => Some((reason, "they are applied later")),
            StoreState::Wrong { reason } => Some((reason, "they are applied once this is corrected")),
        };
        if let Some((reason, then)) = events {
            let message = format!("The database cannot be used: {reason}. Events are accepted; {then}.");
            conditions.add(STORE_AWAY, message, "The database can be used again.".to_owned());
        }
        conditions.check_disk(facts.disk, held(DISK));
        conditions.check_dead_letters(facts.new_dead_letters);
        conditions
    }

    fn check_view(&mut self, name: &str, view: &ViewFacts, store_is_up: bool, held: impl Fn(&str) -> bool) {
        let (paused, behind) = (format!("view-paused {name}"), format!("view-behind {name}"));
        let title = if name == DEDUP_NAME { "Dedup".to_owned() } else { format!("View `{name}`") };
        match &view.applied.stalled {
            Some(Stalled::Paused(reason)) => {
                let message = format!("{title} is paused: {reason}");
                self.add(&paused, message, format!("{title} is not paused any more."));
                // The pause is the reason for its lag.
                self.unknown.insert(behind);
                return;
            }
            // A view that cannot read its position from the store may be paused as soon as it can.
            Some(Stalled::Waiting(_)) => drop(self.unknown.insert(paused)),
            None if !view.applied.known => drop(self.unknown.insert(paused)),
            None => {}
        }
        // It has to catch up well, so that a lag around the bound is not many alerts.
        let most = if held(&behind) { view.lag_max / 2 } else { view.lag_max };
        if !view.applied.known || !store_is_up {
            self.unknown.insert(behind);
        } else if view.lag > most {
            let [lag, most] = [view.lag, view.lag_max].map(in_words);
            let message =
                format!("{title} is {lag} behind, more than {most}. `millrace status` shows its state.");
            self.add(&behind, message, format!("{title} has nearly caught up."));
            self.holding.get_mut(&behind).into_iter().for_each(|holding| holding.is_lag = true);
        }
    }

    fn check_disk(&mut self, disk: Option<DiskBytes>, held: bool) {
        let Some(disk) = disk else {
            self.unknown.insert(DISK.to_owned());
            return;
        };
        let [begins, ends] = DISK_RESERVES.map(|times| times * disk.reserve());
        if disk.free < if held { ends } else { begins } {
            let [free, reserve] = [disk.free, disk.reserve()].map(|bytes| bytes >> 20);
            let message = format!(
                "The disk of the data folder is nearly full: {free} MiB are free. Below {reserve} MiB, new events are refused."
            );
            self.add(DISK, message, "The disk of the data folder has free space again.".to_owned());
        }
    }

    fn check_dead_letters(&mut self, new: Option<NewDeadLetters>) {
        let message = match new {
            None => {
                self.unknown.insert(DEAD_LETTERS.to_owned());
                return;
            }
            Some(NewDeadLetters { count: 0, .. }) => return,
            Some(NewDeadLetters { count: 1, .. }) => "There is a new dead letter.".to_owned(),
            Some(NewDeadLetters { count, .. }) if count >= NEW_DEAD_LETTERS_COUNTED_MAX as i64 => {
                format!("There are {count} or more new dead letters.")
            }
            Some(NewDeadLetters { count, .. }) => format!("There are {count} new dead letters."),
        };
        self.add(
            DEAD_LETTERS,
            format!("{message} `millrace dead-letter list` shows the reasons."),
            "There are no new dead letters any more: a person has decided about them, or none was added for an hour."
                .to_owned(),
        );
    }

    pub fn add(&mut self, name: &str, message: String, over_message: String) {
        self.holding.insert(name.to_owned(), Holding { message, over_message, is_lag: false });
    }
}

/// Formats a duration for a sentence.
fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [(seconds / 3600, "h"), (seconds % 3600 / 60, "min"), (seconds % 60, "s")];
    let shown: Vec<String> = parts
        .iter()
        .skip_while(|(number, unit)| *number == 0 && *unit != "s")
        .take(2)
        .filter(|(number, unit)| *number > 0 || (*unit == "s" && seconds == 0))
        .map(|(number, unit)| format!("{number} {unit}"))
        .collect();
    shown.join(" ")
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
        let views = BTreeMap::from([("sales".to_owned(), view)]);
        let new_dead_letters = Some(NewDeadLetters { count: 0, newest: Millis(0) });
        Facts { views, store: StoreState::Up, disk, new_dead_letters }
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
        let conditions = Conditions::of(&facts, |_| false);
        assert_eq!(names(&conditions), ["view-behind sales"]);
        let holding = &conditions.holding["view-behind sales"];
        let message = "View `sales` is 5 min 1 s behind, more than 5 min. `millrace status` shows its state.";
        assert!(holding.is_lag && holding.message == message, "{holding:?}");
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

    #[test]
    fn a_view_that_was_behind_has_to_catch_up_well() {
        let holds = |lag, held| !Conditions::of(&facts(Applied::at(7), lag), |_| held).holding.is_empty();
        assert!(!holds(300, false) && holds(151, true) && !holds(150, true));
    }

    #[test]
    fn new_dead_letters_are_counted() {
        let mut facts = facts(Applied::at(7), 0);
        let mut message = |count| {
            facts.new_dead_letters = Some(NewDeadLetters { count, newest: Millis(5) });
            let conditions = Conditions::of(&facts, |_| false);
            conditions.holding.get(DEAD_LETTERS).map(|holding| holding.message.clone()).unwrap_or_default()
        };
        assert!(message(1).starts_with("There is a new dead letter. "));
        assert!(message(7).starts_with("There are 7 new dead letters. "));
        assert!(message(10_000).starts_with("There are 10000 or more new dead letters. "));
        assert_eq!(message(0), "");
    }

    #[test]
    fn durations_are_written_in_two_units() {
        let words = |seconds| in_words(Duration::from_secs(seconds));
        assert_eq!(
            [0, 1, 60, 61, 3_600, 7_261].map(words),
            ["0 s", "1 s", "1 min", "1 min 1 s", "1 h", "2 h 1 min"]
        );
    }
}
