//! A query about statistics as readers write it: days and numbers as texts, which may not fit the view.

use event::Day;
use event::limits::TOP_VALUES_MAX;
use serde::Deserialize;

use super::{Frequent, Stats, StatsQuery};

const TOP_VALUES_DEFAULT: usize = 10;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StatsParameters {
    pub from: Option<String>,
    pub to: Option<String>,
    pub by: Option<String>,
    pub top: Option<usize>,
}

/// A parameter that does not fit the view.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {reason}")]
pub struct ParameterError {
    pub name: &'static str,
    pub reason: String,
}

impl StatsParameters {
    pub fn query<'q>(&'q self, stats: &Stats, group: &'q str) -> Result<StatsQuery<'q>, ParameterError> {
        let limit = self.top.unwrap_or(TOP_VALUES_DEFAULT);
        if !(1..=TOP_VALUES_MAX).contains(&limit) {
            return Err(invalid("top", format!("must be between 1 and {TOP_VALUES_MAX}")));
        }
        if let Some(by) = self.by.as_ref().filter(|by| stats.counted(by).is_none()) {
            return Err(invalid("by", format!("field `{by}` is not counted")));
        }
        let frequent = self.by.as_ref().map(|by| Frequent { by, limit });
        Ok(StatsQuery { group, days: self.days()?, frequent })
    }

    /// A range with one end extends to the first or last day.
    fn days(&self) -> Result<Option<(Day, Day)>, ParameterError> {
        let day = |name, text: &Option<String>| {
            let day = text.as_deref().map(str::parse::<Day>).transpose();
            day.map_err(|error| invalid(name, error.to_string()))
        };
        let (from, to) = (day("from", &self.from)?, day("to", &self.to)?);
        if from.is_none() && to.is_none() {
            return Ok(None);
        }
        let (from, to) = (from.unwrap_or(Day::FIRST), to.unwrap_or(Day::LAST));
        if from > to { Err(invalid("to", "is before `from`".to_owned())) } else { Ok(Some((from, to))) }
    }
}

fn invalid(name: &'static str, reason: String) -> ParameterError {
    ParameterError { name, reason }
}
