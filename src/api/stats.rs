//! `/v1/views/{view}/stats`: the statistics of one group, over all time or over a range of days.

use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use event::Day;
use event::limits::TOP_VALUES_MAX;
use serde::{Deserialize, Serialize};

use super::Api;
use super::view_access::RowReader;
use crate::admission::Refusal;
use crate::http::{ApiError, Query};
use crate::views::{Frequent, Stats, StatsQuery, Summary};

const TOP_VALUES_DEFAULT: usize = 10;

pub fn routes(api: &Arc<Api>) -> Router {
    Router::new().route("/v1/views/{view}/stats", get(read)).with_state(Arc::clone(api))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    group: String,
    from: Option<String>,
    to: Option<String>,
    by: Option<String>,
    top: Option<usize>,
}

#[derive(Serialize)]
struct GroupStats {
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
struct CountedValue {
    value: Option<String>,
    count: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    distinct: Option<i64>,
}

async fn read(reader: RowReader, Query(parameters): Query<Parameters>) -> Result<Json<GroupStats>, ApiError> {
    let RowReader { api, name, .. } = &reader;
    let other_kind = || ApiError::not_found(format!("view `{name}` is not a view of statistics"));
    let stats = reader.view().view.stats().ok_or_else(other_kind)?;
    let query = parameters.query(stats)?;
    let _permit = if query.is_long() {
        Some(api.long_ranges.acquire().await.map_err(|_| Refusal::Stopping)?)
    } else {
        None
    };
    let summary = stats.summary(&api.store, &query).await;
    let summary = api.rows_of(name, summary).await?;
    Ok(Json(GroupStats::new(stats, &query, summary)))
}

impl Parameters {
    fn query(&self, stats: &Stats) -> Result<StatsQuery<'_>, ApiError> {
        let limit = self.top.unwrap_or(TOP_VALUES_DEFAULT);
        if !(1..=TOP_VALUES_MAX).contains(&limit) {
            return Err(invalid("top", format!("must be between 1 and {TOP_VALUES_MAX}")));
        }
        if let Some(by) = self.by.as_ref().filter(|by| stats.counted(by).is_none()) {
            return Err(invalid("by", format!("field `{by}` is not counted")));
        }
        let frequent = self.by.as_ref().map(|by| Frequent { by, limit });
        Ok(StatsQuery { group: &self.group, days: self.days()?, frequent })
    }

    /// A range with one end extends to the first or last day.
    fn days(&self) -> Result<Option<(Day, Day)>, ApiError> {
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

fn invalid(name: &'static str, reason: String) -> ApiError {
    ApiError::Parameter { name, reason }
}

impl GroupStats {
    fn new(stats: &Stats, query: &StatsQuery<'_>, summary: Summary) -> Self {
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
