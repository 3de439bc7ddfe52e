//! `/v1/views/{view}/stats`: what a view of statistics counted for one group, in all or over a range of days.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use event::Day;
use event::limits::TOP_VALUES_MAX;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Reading, answer};
use crate::admit::Refusal;
use crate::views::{Asked, Counted, Frequent, Stats, Summary};

const TOP_VALUES_DEFAULT: usize = 10;

pub fn routes(reading: &Arc<Reading>) -> Router {
    Router::new().route("/v1/views/{view}/stats", get(read)).with_state(Arc::clone(reading))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    group: String,
    from: Option<String>,
    to: Option<String>,
    by: Option<String>,
    top: Option<usize>,
}

async fn read(
    State(reading): State<Arc<Reading>>,
    Path(name): Path<String>,
    question: Result<Query<Question>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    answer(numbers(&reading, &name, question, &headers).await)
}

async fn numbers(
    reading: &Reading,
    name: &str,
    question: Result<Query<Question>, QueryRejection>,
    headers: &HeaderMap,
) -> Result<Value, Refusal> {
    let view = reading.view_for(headers, name)?;
    let group = question.as_ref().map_or("", |question| &question.group);
    reading.keys.admit_row(headers, &view.view.stream, group, false)?;
    let stats = view.view.stats();
    let stats = stats.ok_or_else(|| Refusal::NotFound(format!("view `{name}` is no view of statistics")))?;
    let Query(question) = question?;
    let asked = question.asked(stats)?;
    let _turn = match asked.is_long() {
        true => Some(reading.ranges.acquire().await.map_err(|_| Refusal::Stopping)?),
        false => None,
    };
    let summary = stats.summary(&reading.store, &asked).await;
    Ok(told(stats, &asked, &reading.rows_of(name, summary).await?))
}

impl Question {
    fn asked(&self, stats: &Stats) -> Result<Asked<'_>, Refusal> {
        let limit = self.top.unwrap_or(TOP_VALUES_DEFAULT);
        if !(1..=TOP_VALUES_MAX).contains(&limit) {
            return Err(wrong("top", format!("must be between 1 and {TOP_VALUES_MAX}")));
        }
        if let Some(by) = self.by.as_ref().filter(|by| stats.counted(by).is_none()) {
            return Err(wrong("by", format!("field `{by}` is not counted")));
        }
        let frequent = self.by.as_ref().map(|by| Frequent { by, limit });
        Ok(Asked { group: &self.group, days: self.days()?, frequent })
    }

    /// A range that is open on one side goes to the end of time there.
    fn days(&self) -> Result<Option<(Day, Day)>, Refusal> {
        let day = |name, text: &Option<String>| {
            let day = text.as_deref().map(str::parse::<Day>).transpose();
            day.map_err(|error| wrong(name, error.to_string()))
        };
        match (day("from", &self.from)?, day("to", &self.to)?) {
            (None, None) => Ok(None),
            (from, to) => {
                let (from, to) = (from.unwrap_or(Day::FIRST), to.unwrap_or(Day::LAST));
                if from > to {
                    Err(wrong("to", "lies before `from`".to_owned()))
                } else {
                    Ok(Some((from, to)))
                }
            }
        }
    }
}

fn wrong(name: &'static str, reason: String) -> Refusal {
    Refusal::Parameter { name, reason }
}

fn told(stats: &Stats, asked: &Asked<'_>, summary: &Summary) -> Value {
    let mut told = json!({ "group": asked.group, "total": summary.total });
    if let Some((from, to)) = asked.days {
        told["from"] = json!(from.to_string());
        told["to"] = json!(to.to_string());
    }
    if stats.counts_distinct() {
        told["distinct"] = json!(summary.distinct);
    }
    if let Some(frequent) = &asked.frequent {
        let value = |counted: &Counted| match counted.distinct {
            Some(distinct) => json!({ "value": counted.value, "count": counted.n, "distinct": distinct }),
            None => json!({ "value": counted.value, "count": counted.n }),
        };
        told["by"] = json!(frequent.by);
        told["top"] = json!(summary.top.iter().map(value).collect::<Vec<_>>());
    }
    told
}
