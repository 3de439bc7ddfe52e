//! The statistics of a group in the form in which readers get them.

use serde::Serialize;

use super::{Stats, StatsQuery, Summary};

#[derive(Serialize)]
pub struct GroupStats {
    group: String,
    total: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    distinct: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top: Option<Vec<CountedValue>>,
}

#[derive(Serialize)]
pub struct CountedValue {
    value: Option<String>,
    count: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    distinct: Option<i64>,
}

impl GroupStats {
    pub fn new(stats: &Stats, query: &StatsQuery<'_>, summary: Summary) -> Self {
        let top = summary.top.into_iter();
        let top = top.map(|counted| CountedValue {
            value: counted.value,
            count: counted.n,
            distinct: counted.distinct,
        });
        Self {
            group: query.group.to_owned(),
            total: summary.total,
            from: query.days.map(|(from, _)| from.to_string()),
            to: query.days.map(|(_, to)| to.to_string()),
            distinct: stats.counts_distinct().then_some(summary.distinct),
            by: query.frequent.as_ref().map(|frequent| frequent.by.to_owned()),
            top: query.frequent.as_ref().map(|_| top.collect()),
        }
    }
}
