//! The alerts that were raised and are not over, with what was sent of them. They are kept in a file of the data folder, so
//! that a restart repeats none and forgets none.

use std::collections::BTreeMap;
use std::path::Path;

use event::Millis;
use event::limits::ALERT_LOOKS_UNTIL_OVER;
use serde::{Deserialize, Serialize};

use super::condition::Conditions;
use super::dead_letter_growth::DeadLetterGrowth;
use super::message::AlertMessage;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AlertState {
    pub raised: BTreeMap<String, RaisedAlert>,
    pub dead_letters: DeadLetterGrowth,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaisedAlert {
    pub condition: String,
    pub message: String,
    /// What is sent once it is over.
    over: String,
    pub since: Millis,
    /// The destination has taken it.
    pub is_sent: bool,
    /// When the condition ended. The destination has not been told yet.
    pub over_at: Option<Millis>,
    /// Looks in a row at which the condition did not hold.
    #[serde(skip)]
    looks_without: u32,
}

impl AlertState {
    /// Returns an empty state if there is no file yet.
    pub fn read(file: &Path) -> Self {
        match std::fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(file = %file.display(), %error, "the state of the alerts cannot be read; conditions that hold are sent again");
                Self::default()
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::default(),
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "the state of the alerts cannot be read; conditions that hold are sent again");
                Self::default()
            }
        }
    }

    pub fn write(&self, file: &Path) -> std::io::Result<()> {
        event::write_private(file, &serde_json::to_string(self)?, || {})
    }

    pub fn holds(&self, condition: &str) -> bool {
        self.raised.get(condition).is_some_and(|alert| alert.over_at.is_none())
    }

    /// Raises what holds, and ends what does not hold any more.
    pub fn note(&mut self, conditions: Conditions, now: Millis) {
        for (condition, alert) in &mut self.raised {
            let is_certain =
                !conditions.holding.contains_key(condition) && !conditions.unknown.contains(condition);
            alert.looks_without = if is_certain { alert.looks_without + 1 } else { 0 };
            if alert.looks_without >= ALERT_LOOKS_UNTIL_OVER && alert.over_at.is_none() {
                tracing::info!(condition, text = alert.over, "alert is over");
                alert.over_at = Some(now);
            }
        }
        // Nobody was told of these.
        self.raised.retain(|_, alert| alert.is_sent || alert.over_at.is_none());
        for (condition, holding) in conditions.holding {
            match self.raised.get_mut(&condition) {
                // Its end was not sent yet, so it just continues.
                Some(alert) => {
                    (alert.over_at, alert.message, alert.over) = (None, holding.message, holding.over);
                }
                None => {
                    tracing::warn!(condition, text = holding.message, "alert");
                    let alert = RaisedAlert {
                        condition: condition.clone(),
                        message: holding.message,
                        over: holding.over,
                        since: now,
                        is_sent: false,
                        over_at: None,
                        looks_without: 0,
                    };
                    self.raised.insert(condition, alert);
                }
            }
        }
    }

    /// Returns the next alert to send: those that begin before those that are over.
    pub fn next_to_send(&self) -> Option<AlertMessage> {
        let begins = self.raised.values().find(|alert| !alert.is_sent);
        let alert = begins.or_else(|| self.raised.values().find(|alert| alert.over_at.is_some()))?;
        let RaisedAlert { condition, since, over_at, .. } = alert;
        let (phase, text) = match over_at {
            None => ("raised", &alert.message),
            Some(_) => ("over", &alert.over),
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

    /// Notes that the destination has taken an alert.
    pub fn note_sent(&mut self, sent: &AlertMessage) {
        let of_this = |alert: &RaisedAlert| alert.condition == sent.condition && alert.since == sent.since;
        match self.raised.get_mut(&sent.condition).filter(|alert| of_this(alert)) {
            Some(alert) if sent.phase == "raised" => alert.is_sent = true,
            Some(_) => drop(self.raised.remove(&sent.condition)),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(holding: &[&str], unknown: &[&str]) -> Conditions {
        let mut conditions = Conditions::default();
        for name in holding {
            conditions.add(name, format!("{name} holds"), "over");
        }
        conditions.unknown.extend(unknown.iter().map(|name| (*name).to_owned()));
        conditions
    }

    fn send(state: &mut AlertState) -> Option<String> {
        let next = state.next_to_send()?;
        state.note_sent(&next);
        Some(next.id)
    }

    #[test]
    fn an_alert_is_sent_once_and_once_more_when_it_is_over() {
        let mut state = AlertState::default();
        state.note(look(&["disk", "view-paused a"], &[]), Millis(5));
        assert_eq!(send(&mut state).as_deref(), Some("alert-disk-5-raised"));
        assert_eq!(send(&mut state).as_deref(), Some("alert-view-paused-a-5-raised"));
        for _ in 0..10 {
            state.note(look(&["disk"], &["view-paused a"]), Millis(6));
            assert_eq!(send(&mut state), None);
        }
        for _ in 1..ALERT_LOOKS_UNTIL_OVER {
            state.note(look(&["disk"], &[]), Millis(7));
            assert_eq!(send(&mut state), None);
        }
        state.note(look(&["disk"], &[]), Millis(8));
        assert_eq!(send(&mut state).as_deref(), Some("alert-view-paused-a-5-over"));
        state.note(look(&["disk", "view-paused a"], &[]), Millis(9));
        assert_eq!(send(&mut state).as_deref(), Some("alert-view-paused-a-9-raised"), "it began again");
    }

    #[test]
    fn the_end_of_an_alert_that_was_not_sent_is_not_sent_either() {
        let mut state = AlertState::default();
        state.note(look(&["disk"], &[]), Millis(5));
        for _ in 0..ALERT_LOOKS_UNTIL_OVER {
            state.note(look(&[], &[]), Millis(6));
        }
        assert_eq!(send(&mut state), None);
    }

    #[test]
    fn an_alert_that_holds_again_before_its_end_was_sent_continues() {
        let mut state = AlertState::default();
        state.note(look(&["disk"], &[]), Millis(5));
        send(&mut state);
        for _ in 0..ALERT_LOOKS_UNTIL_OVER {
            state.note(look(&[], &[]), Millis(6));
        }
        assert!(!state.holds("disk"));
        state.note(look(&["disk"], &[]), Millis(7));
        assert!(state.holds("disk"));
        assert_eq!(send(&mut state), None);
    }

    #[test]
    fn a_restart_repeats_no_alert_and_forgets_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("alerts.json");
        let mut state = AlertState::read(&file);
        state.note(look(&["disk"], &[]), Millis(5));
        state.write(&file).expect("written");
        let mut state = AlertState::read(&file);
        assert_eq!(send(&mut state).as_deref(), Some("alert-disk-5-raised"));
        state.write(&file).expect("written");
        let mut state = AlertState::read(&file);
        state.note(look(&["disk"], &[]), Millis(9));
        assert_eq!(send(&mut state), None);
        for _ in 0..ALERT_LOOKS_UNTIL_OVER {
            state.note(look(&[], &[]), Millis(9));
        }
        assert_eq!(send(&mut state).as_deref(), Some("alert-disk-5-over"));
    }
}
