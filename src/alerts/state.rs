//! The alerts that were raised and are not over, with what was sent of them. They are kept in a file of the data folder, so
//! that a restart repeats none and forgets none.

use std::collections::BTreeMap;
use std::path::Path;

use event::Millis;
use event::limits::{ALERT_CHECKS_UNTIL_BEHIND, ALERT_CHECKS_UNTIL_OVER, DEAD_LETTERS_QUIET_DURATION};
use serde::{Deserialize, Serialize};

use super::condition::{Conditions, DEAD_LETTERS, Holding};
use super::message::AlertMessage;
use crate::store::NewDeadLetters;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AlertState {
    pub raised: BTreeMap<String, RaisedAlert>,
    /// Open dead letters that were added up to this time are not new.
    pub dead_letters_known_until: Millis,
}

/// An alert that was raised. The text is not changed later, because each attempt sends the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RaisedAlert {
    pub message: String,
    over_message: String,
    pub since: Millis,
    pub told: Told,
    /// When the condition ended. The destination has to be told.
    pub over_at: Option<Millis>,
    /// The destination may have been told of the end.
    over_attempted: bool,
}

/// How much the destination knows of an alert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    #[default]
    No,
    /// An attempt was begun. Its outcome is not known, or it failed.
    Attempted,
    Yes,
}

/// The number of checks in a row at which a condition differed from what is raised, for each that did.
#[derive(Debug, Default)]
pub struct Streaks(BTreeMap<String, u32>);

impl AlertState {
    /// Returns an empty state if the file does not exist yet.
    pub fn read(file: &Path) -> Self {
        let text = match std::fs::read_to_string(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Self::default(),
            text => text.map_err(|error| error.to_string()),
        };
        let state = text.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()));
        state.unwrap_or_else(|error| {
            tracing::warn!(file = %file.display(), error, "the state of the alerts cannot be read; conditions that hold are sent again");
            Self::default()
        })
    }

    pub fn write(&self, file: &Path) -> std::io::Result<()> {
        event::write_private(file, &serde_json::to_string(self)?, || {})
    }

    pub fn holds(&self, condition: &str) -> bool {
        self.raised.get(condition).is_some_and(|alert| alert.over_at.is_none())
    }

    /// Returns the number of new dead letters. None is new any more if the destination was told of them, and no other one was
    /// added for a long time since then.
    pub fn count_new(&mut self, found: NewDeadLetters, now: Millis) -> NewDeadLetters {
        let told = self.raised.get(DEAD_LETTERS).filter(|alert| alert.told == Told::Yes);
        let quiet = DEAD_LETTERS_QUIET_DURATION.as_millis() as i64;
        if told.is_none_or(|alert| now.0 - found.newest.max(alert.since).0 < quiet) {
            return found;
        }
        self.dead_letters_known_until = self.dead_letters_known_until.max(found.newest);
        NewDeadLetters { count: 0, ..found }
    }

    /// Raises what holds, and ends what does not hold any more.
    pub fn note(&mut self, conditions: &Conditions, streaks: &mut Streaks, now: Millis) {
        let Conditions { holding, unknown } = conditions;
        self.raised.retain(|condition, alert| {
            if holding.contains_key(condition) && !alert.over_attempted {
                // The destination was not told of the end, so the alert just continues.
                alert.over_at = None;
            }
            let has_ended = !holding.contains_key(condition) && !unknown.contains(condition);
            if alert.over_at.is_some() || !streaks.reach(condition, has_ended, ALERT_CHECKS_UNTIL_OVER) {
                return true;
            }
            tracing::info!(condition, text = alert.over_message, "alert is over");
            alert.over_at = Some(now);
            // Nobody was told of it, so nobody has to be told of its end.
            alert.told != Told::No
        });
        for (condition, Holding { message, over_message, is_lag }) in holding {
            let checks = if *is_lag { ALERT_CHECKS_UNTIL_BEHIND } else { 1 };
            if self.raised.contains_key(condition) || !streaks.reach(condition, true, checks) {
                continue;
            }
            tracing::warn!(condition, text = message, "alert");
            let (message, over_message) = (message.clone(), over_message.clone());
            let alert = RaisedAlert { message, over_message, since: now, ..RaisedAlert::default() };
            self.raised.insert(condition.clone(), alert);
        }
        streaks
            .0
            .retain(|condition, _| self.raised.contains_key(condition) || holding.contains_key(condition));
    }

    /// Returns the next alert to send: those that begin before those that are over. `may_send` selects the conditions.
    pub fn next_to_send(&self, may_send: impl Fn(&str) -> bool) -> Option<AlertMessage> {
        let begins = |alert: &RaisedAlert| alert.over_at.is_none() && alert.told != Told::Yes;
        let find = |needs: &dyn Fn(&RaisedAlert) -> bool| {
            self.raised.iter().find(|(condition, alert)| needs(alert) && may_send(condition))
        };
        let (condition, alert) = find(&begins).or_else(|| find(&|alert| alert.over_at.is_some()))?;
        let RaisedAlert { message, over_message, since, over_at, .. } = alert;
        let (phase, text) = match over_at {
            None => ("raised", message),
            Some(_) => ("over", over_message),
        };
        Some(AlertMessage {
            id: format!("alert-{}-{}-{phase}", condition.replace(' ', "-"), since.0),
            phase,
            condition: condition.clone(),
            text: text.clone(),
            since: *since,
            created: over_at.unwrap_or(*since),
        })
    }

    /// Notes that an attempt to send a message begins.
    pub fn note_attempt(&mut self, message: &AlertMessage) {
        if let Some(alert) = self.raised.get_mut(&message.condition) {
            match alert.over_at {
                None if alert.told == Told::No => alert.told = Told::Attempted,
                None => {}
                Some(_) => alert.over_attempted = true,
            }
        }
    }

    /// Notes that the destination has taken a message.
    pub fn note_sent(&mut self, message: &AlertMessage) {
        let of_this = |alert: &&mut RaisedAlert| alert.since == message.since;
        match self.raised.get_mut(&message.condition).filter(of_this) {
            Some(alert) if message.phase == "raised" => alert.told = Told::Yes,
            Some(_) => drop(self.raised.remove(&message.condition)),
            None => {}
        }
    }
}

impl Streaks {
    /// Notes whether a condition differs from what is raised. Returns whether it has for `checks` checks in a row.
    fn reach(&mut self, condition: &str, differs: bool, checks: u32) -> bool {
        let streak = self.0.entry(condition.to_owned()).or_default();
        *streak = if differs { *streak + 1 } else { 0 };
        let reached = *streak >= checks;
        if reached || !differs {
            self.0.remove(condition);
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The state with what the server remembers between two checks.
    #[derive(Default)]
    struct Watched {
        state: AlertState,
        streaks: Streaks,
    }

    impl Watched {
        fn check(&mut self, holding: &[&str], unknown: &[&str], now: i64) {
            let mut conditions = Conditions::default();
            for name in holding {
                conditions.add(name, format!("{name} holds"), "over".to_owned());
            }
            conditions.unknown.extend(unknown.iter().map(|name| (*name).to_owned()));
            self.state.note(&conditions, &mut self.streaks, Millis(now));
        }

        fn begin(&mut self) -> Option<AlertMessage> {
            let next = self.state.next_to_send(|_| true)?;
            self.state.note_attempt(&next);
            Some(next)
        }

        fn send(&mut self) -> Option<String> {
            let next = self.begin()?;
            self.state.note_sent(&next);
            Some(next.id)
        }

        fn end(&mut self, holding: &[&str], now: i64) {
            (0..ALERT_CHECKS_UNTIL_OVER).for_each(|_| self.check(holding, &[], now));
        }
    }

    #[test]
    fn an_alert_is_sent_once_and_once_more_when_it_is_over() {
        let mut watched = Watched::default();
        watched.check(&["disk", "view-paused a"], &[], 5);
        assert_eq!(watched.send().as_deref(), Some("alert-disk-5-raised"));
        assert_eq!(watched.send().as_deref(), Some("alert-view-paused-a-5-raised"));
        for _ in 0..10 {
            watched.check(&["disk"], &["view-paused a"], 6);
            assert_eq!(watched.send(), None);
        }
        for _ in 1..ALERT_CHECKS_UNTIL_OVER {
            watched.check(&["disk"], &[], 7);
            assert_eq!(watched.send(), None);
        }
        watched.check(&["disk"], &[], 8);
        assert_eq!(watched.send().as_deref(), Some("alert-view-paused-a-5-over"));
        watched.check(&["disk", "view-paused a"], &[], 9);
        assert_eq!(watched.send().as_deref(), Some("alert-view-paused-a-9-raised"), "it began again");
    }

    #[test]
    fn the_end_is_sent_unless_no_attempt_was_begun() {
        let mut watched = Watched::default();
        watched.check(&["disk"], &[], 5);
        watched.end(&[], 6);
        assert_eq!(watched.send(), None);
        watched.check(&["disk"], &[], 7);
        let attempt = watched.begin().expect("raised");
        watched.end(&[], 8);
        // The receiver has answered late.
        watched.state.note_sent(&attempt);
        assert_eq!(watched.send().as_deref(), Some("alert-disk-7-over"));
    }

    #[test]
    fn a_condition_that_holds_again_is_a_new_alert_if_its_end_may_have_arrived() {
        let mut watched = Watched::default();
        watched.check(&["disk"], &[], 5);
        watched.send();
        watched.end(&[], 6);
        watched.check(&["disk"], &[], 7);
        assert!(watched.state.holds("disk"), "nobody was told of the end");
        assert_eq!(watched.send(), None);
        watched.end(&[], 8);
        watched.begin().expect("over");
        watched.check(&["disk"], &[], 9);
        assert_eq!(watched.send().as_deref(), Some("alert-disk-5-over"));
        watched.check(&["disk"], &[], 10);
        assert_eq!(watched.send().as_deref(), Some("alert-disk-10-raised"));
    }

    #[test]
    fn an_alert_that_cannot_be_sent_does_not_hold_up_others() {
        let mut watched = Watched::default();
        watched.check(&["a", "b"], &[], 5);
        let next = watched.state.next_to_send(|condition| condition != "a").expect("another");
        assert_eq!(next.condition, "b");
    }

    #[test]
    fn dead_letters_stay_new_until_the_destination_was_told_and_none_was_added_for_an_hour() {
        const HOUR: i64 = 3_600_000;
        let mut watched = Watched::default();
        let old = NewDeadLetters { count: 3, newest: Millis(1) };
        let now = 10 * HOUR;
        assert_eq!(watched.state.count_new(old, Millis(now)), old, "nobody has been told");
        watched.check(&[DEAD_LETTERS], &[], now);
        assert_eq!(watched.state.count_new(old, Millis(now + HOUR)), old, "the destination is down");
        watched.send();
        assert_eq!(watched.state.count_new(old, Millis(now + HOUR - 1)), old);
        let later = NewDeadLetters { newest: Millis(now + 1), ..old };
        assert_eq!(watched.state.count_new(later, Millis(now + HOUR)), later);
        assert_eq!(watched.state.count_new(later, Millis(now + HOUR + 1)).count, 0);
        assert_eq!(watched.state.dead_letters_known_until, Millis(now + 1));
    }

    #[test]
    fn a_restart_repeats_no_alert_and_forgets_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("alerts.json");
        let restart = |watched: Watched| {
            watched.state.write(&file).expect("written");
            Watched { state: AlertState::read(&file), streaks: Streaks::default() }
        };
        let mut watched = Watched { state: AlertState::read(&file), streaks: Streaks::default() };
        watched.check(&["disk"], &[], 5);
        let mut watched = restart(watched);
        assert_eq!(watched.send().as_deref(), Some("alert-disk-5-raised"));
        let mut watched = restart(watched);
        watched.check(&["disk"], &[], 9);
        assert_eq!(watched.send(), None);
        watched.end(&[], 9);
        let mut watched = restart(watched);
        assert_eq!(watched.send().as_deref(), Some("alert-disk-5-over"));
    }

    /// The form of the file.
    #[test]
    fn a_file_of_an_earlier_version_can_be_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("alerts.json");
        let text = r#"{"raised":{"disk-nearly-full":{"message":"full","over_message":"free","since":5,"told":"attempted","over_at":null,"over_attempted":false}},"dead_letters_known_until":7}"#;
        std::fs::write(&file, text).expect("written");
        let state = AlertState::read(&file);
        let alert = &state.raised["disk-nearly-full"];
        assert_eq!((alert.message.as_str(), alert.since, alert.told), ("full", Millis(5), Told::Attempted));
        assert_eq!(state.dead_letters_known_until, Millis(7));
        state.write(&file).expect("written");
        assert_eq!(std::fs::read_to_string(&file).expect("read"), text);
    }
}
