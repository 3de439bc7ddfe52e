//! `batch` of a view: how many events wait for each other, and for how long.

use std::time::Duration;

use event::limits::{BATCH_AGE_DEFAULT, BATCH_AGE_MAX, BATCH_AGE_MIN, BATCH_EVENTS_MAX};
use event::parse_short_duration;
use serde::Deserialize;

/// When a view applies its waiting events: as soon as there are `events` of them, or the oldest one has waited for
/// `age`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchRule {
    /// Also the most events that are applied together.
    pub events: usize,
    pub age: Duration,
}

/// The setting as it is written.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchSection {
    events: Option<BatchEvents>,
    age: Option<BatchAge>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "i64")]
struct BatchEvents(usize);

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct BatchAge(Duration);

impl BatchSection {
    /// Fails if the section sets nothing. Without `events`, only the age decides.
    pub fn rule(&self) -> Result<BatchRule, String> {
        if self.events.is_none() && self.age.is_none() {
            return Err(format!(
                "has an empty `batch`; set `events` (1 to {BATCH_EVENTS_MAX}), `age` (1ms to 1h), or both"
            ));
        }
        Ok(BatchRule {
            events: self.events.map_or(BATCH_EVENTS_MAX, |events| events.0),
            age: self.age.map_or(BATCH_AGE_DEFAULT, |age| age.0),
        })
    }
}

impl TryFrom<i64> for BatchEvents {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        let events = usize::try_from(number).ok().filter(|events| (1..=BATCH_EVENTS_MAX).contains(events));
        let wrong =
            || format!("expected a number of events from 1 to {BATCH_EVENTS_MAX}, but found {number}");
        events.map(Self).ok_or_else(wrong)
    }
}

impl TryFrom<String> for BatchAge {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let age = parse_short_duration(&text)?;
        if (BATCH_AGE_MIN..=BATCH_AGE_MAX).contains(&age) {
            Ok(Self(age))
        } else {
            Err(format!("expected a duration from 1ms to 1h, but found `{text}`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Overrides};

    /// Loads a view of each kind with this setting. Returns the rules, or the errors without their places.
    fn load(batch: &str) -> Result<Vec<Option<BatchRule>>, Vec<String>> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.toml");
        let stream = "[stream.s]\nkey = \"k\"\nfields.k = { type = \"text\", required = true }\n\
                      fields.t = { type = \"text\", required = true }\n\
                      fields.n = { type = \"integer\", required = true }\n";
        let kinds = [
            ("ledger", "amount = \"n\""),
            ("stats", "group = \"k\""),
            ("table", ""),
            ("notifications", "to = \"k\"\ntype = \"t\"\nmessage = \"m\""),
        ];
        let views = kinds
            .map(|(kind, rest)| format!("[view.{kind}]\nkind = \"{kind}\"\nfrom = \"s\"\n{rest}\n{batch}\n"));
        std::fs::write(&path, format!("{stream}{}", views.concat())).expect("written");
        match Config::load(Some(&path), &Overrides::default()) {
            Ok(config) => Ok(config.views.values().map(|view| view.batch).collect()),
            Err(errors) => {
                let reason = |line: &str| line.split_once(": ").map(|(_, reason)| reason.to_owned());
                Err(errors.to_string().lines().filter_map(reason).collect())
            }
        }
    }

    #[test]
    fn each_kind_of_view_can_have_batches_and_each_part_has_a_default() {
        let rule = |events, age| Ok(vec![Some(BatchRule { events, age }); 4]);
        let seconds = Duration::from_secs;
        assert_eq!(load("batch = { events = 100, age = \"5s\" }"), rule(100, seconds(5)));
        assert_eq!(load("batch = { events = 7 }"), rule(7, BATCH_AGE_DEFAULT));
        assert_eq!(load("batch = { age = \"1h\" }"), rule(BATCH_EVENTS_MAX, seconds(3600)));
        assert_eq!(load("batch = { age = \"1ms\" }"), rule(BATCH_EVENTS_MAX, Duration::from_millis(1)));
        assert_eq!(load(""), Ok(vec![None; 4]));
    }

    #[test]
    fn a_wrong_batch_is_an_error_that_names_what_is_allowed() {
        let cases = [
            (
                "{}",
                "view `table` has an empty `batch`; set `events` (1 to 32768), `age` (1ms to 1h), or both",
            ),
            (
                "{ events = 0 }",
                "view `table`, `batch.events`: expected a number of events from 1 to 32768, but found 0",
            ),
            (
                "{ events = 32769 }",
                "view `table`, `batch.events`: expected a number of events from 1 to 32768, but found 32769",
            ),
            (
                "{ age = \"0ms\" }",
                "view `table`, `batch.age`: expected a duration from 1ms to 1h, but found `0ms`",
            ),
            (
                "{ age = \"2h\" }",
                "view `table`, `batch.age`: expected a duration from 1ms to 1h, but found `2h`",
            ),
            (
                "{ age = \"5\" }",
                "view `table`, `batch.age`: `5` is not a duration such as `500ms`, `5s` or `1m`",
            ),
            ("{ event = 5 }", "view `table`, `batch` has no setting `event`; did you mean `events`?"),
        ];
        for (batch, expected) in cases {
            let errors = load(&format!("batch = {batch}")).expect_err(batch);
            assert_eq!(errors.len(), 4, "{batch}: {errors:?}");
            assert!(errors.iter().any(|error| error.starts_with(expected)), "{batch}: {errors:?}");
        }
    }
}
