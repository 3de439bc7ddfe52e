//! `BATCH_SIZE` and `BATCH_INTERVAL` of the replaced inventory service, as the setting `batch` of the preset's view.

use std::fmt;
use std::time::Duration;

use event::limits::{BATCH_AGE_MAX, BATCH_AGE_MIN, BATCH_EVENTS_MAX};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Config, Preset};
use crate::views::BatchRule;

/// The number of events, then the time in milliseconds.
pub const VARIABLES: [&str; 2] = ["BATCH_SIZE", "BATCH_INTERVAL"];

/// The preset whose view has the batches. The view has the same name.
const PRESET: &str = "inventory";

/// The values that the documentation of the replaced service names.
const SIZE_DEFAULT: usize = 100;
const INTERVAL_DEFAULT: Duration = Duration::from_secs(5);

/// The values of the two variables. A variable that is not set, or not valid, has its documented value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegacyBatch {
    size: Option<usize>,
    interval: Option<Duration>,
}

impl LegacyBatch {
    /// Returns the batches that the variables name; `None` if no variable is set and valid. The second value says which
    /// variables are not valid.
    pub fn from_variables(set: impl Fn(&str) -> Option<String>) -> (Option<Self>, Vec<String>) {
        let [size, interval] = VARIABLES;
        let mut unusable = Vec::new();
        let mut number = |name: &str, what: &str, min: u128, max: u128| {
            let number = set(name)?.parse::<u64>().ok();
            let number = number.filter(|number| (min..=max).contains(&u128::from(*number)));
            if number.is_none() {
                unusable.push(format!("`{name}` is not a number of {what} from {min} to {max}"));
            }
            number
        };
        let size = number(size, "events", 1, BATCH_EVENTS_MAX as u128);
        let [min, max] = [BATCH_AGE_MIN, BATCH_AGE_MAX].map(|age| age.as_millis());
        let interval = number(interval, "milliseconds", min, max);
        let batch =
            Self { size: size.map(|size| size as usize), interval: interval.map(Duration::from_millis) };
        ((size.is_some() || interval.is_some()).then_some(batch), unusable)
    }

    /// Returns the variables that are set and valid.
    pub fn used(&self) -> impl Iterator<Item = &'static str> + use<> {
        let used = [self.size.is_some(), self.interval.is_some()];
        VARIABLES.into_iter().zip(used).filter(|(_, used)| *used).map(|(name, _)| name)
    }

    fn rule(&self) -> BatchRule {
        let events = self.size.unwrap_or(SIZE_DEFAULT);
        BatchRule { events, age: self.interval.unwrap_or(INTERVAL_DEFAULT) }
    }

    /// Returns the setting as a file, unless the preset is not on or the user's file has the setting.
    pub fn setting(&self, presets: &[Preset], user: &DeTable<'_>) -> Option<String> {
        let is_on = presets.iter().any(|preset| preset.name == PRESET);
        let BatchRule { events, age } = self.rule();
        let age = age.as_millis();
        (is_on && !sets_batch(user))
            .then(|| format!("[view.{PRESET}]\nbatch = {{ events = {events}, age = \"{age}ms\" }}\n"))
    }

    /// Returns the reason why the variables have no effect in a configuration, if that is so.
    pub fn unused_in(&self, config: &Config) -> Option<&'static str> {
        if config.presets.iter().all(|preset| preset.name != PRESET) {
            return Some("preset `inventory` is not on");
        }
        let view = config.views.get(PRESET)?;
        (view.batch != Some(self.rule())).then_some("`[view.inventory] batch` is set")
    }
}

impl fmt::Display for LegacyBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BatchRule { events, age } = self.rule();
        write!(f, "{events} events or {} ms", age.as_millis())
    }
}

/// Returns whether the user's file decides the batches. A view that is no section is an error, which is reported as it is.
fn sets_batch(user: &DeTable<'_>) -> bool {
    let views = match user.get("view").map(Spanned::get_ref) {
        None => return false,
        Some(DeValue::Table(views)) => views,
        Some(_) => return true,
    };
    match views.get(PRESET).map(Spanned::get_ref) {
        None => false,
        Some(DeValue::Table(view)) => view.contains_key("batch"),
        Some(_) => true,
    }
}
