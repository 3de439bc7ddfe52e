//! Contract 3's reading side, `GET /stats?site_id=...&date=2025-11-01`: totals, distinct users and the most
//! frequent values, in the contract's words. The names of group and values are those of their fields.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use event::{Day, FieldError};
use serde_json::json;

use super::{At, Shape};
use crate::admit::Refusal;
use crate::views::{Asked, Counted, Frequent, Summary};

const DATE: &str = "date";
const TOP_VALUES: usize = 3;

type Parameters = Vec<(String, String)>;

pub async fn read(
    State(at): State<At>,
    parameters: Result<Query<Parameters>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    at.read.answer(numbers(&at, parameters, &headers).await)
}

async fn numbers(
    at: &At,
    parameters: Result<Query<Parameters>, QueryRejection>,
    headers: &HeaderMap,
) -> Result<String, Refusal> {
    let At { reading, read } = at;
    let view = reading.view(&read.view)?;
    let (Some(stats), Shape::Stats { top }) = (view.view.stats(), &read.shape) else {
        return Err(Refusal::NoRoute);
    };
    let (unreadable, parameters) = match parameters {
        Ok(Query(parameters)) => (None, parameters),
        Err(error) => (Some(Refusal::from(error)), Vec::new()),
    };
    let name = stats.group_name();
    let group = given(&parameters, name);
    // Who asks comes before what is wrong with the question.
    let row = group.as_ref().ok().copied().flatten().unwrap_or_default();
    reading.keys.admit_row(headers, &view.view.stream, row, read.open)?;
    unreadable.map_or(Ok(()), Err)?;
    let group = group?.ok_or_else(|| wrong("", &format!("{name} is not found")))?;
    let day = given(&parameters, DATE)?.map(str::parse::<Day>).transpose();
    let day = day.map_err(|error| wrong(DATE, &error.to_string()))?;
    let frequent = Some(Frequent { by: top, limit: TOP_VALUES });
    let summary =
        stats.summary(&reading.store, &Asked { group, days: day.map(|day| (day, day)), frequent }).await;
    let summary = reading.rows_of(&read.view, summary).await?;
    Ok(answer((name, group), day, top, &summary))
}

/// A parameter; empty text counts as absent.
fn given<'p>(parameters: &'p Parameters, name: &str) -> Result<Option<&'p str>, Refusal> {
    let mut values = parameters.iter().filter(|(known, value)| known == name && !value.is_empty());
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(wrong(name, "is given twice")),
        (value, None) => Ok(value.map(|(_, value)| value.as_str())),
    }
}

fn wrong(field: &str, reason: &str) -> Refusal {
    Refusal::Invalid(FieldError { field: field.to_owned(), reason: reason.to_owned() })
}

/// Written out, so that keys stand in the contract's order.
fn answer((name, group): (&str, &str), day: Option<Day>, top: &str, summary: &Summary) -> String {
    let date = day.map_or_else(|| "all".to_owned(), |day| day.to_string());
    let value =
        |counted: &Counted| format!(r#"{{{}:{},"views":{}}}"#, json!(top), json!(counted.value), counted.n);
    format!(
        r#"{{{}:{},"{DATE}":{},"total_views":{},"unique_users":{},{}:[{}]}}"#,
        json!(name),
        json!(group),
        json!(date),
        summary.total,
        summary.distinct,
        json!(format!("top_{top}s")),
        summary.top.iter().map(value).collect::<Vec<_>>().join(",")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_the_contracts_byte_for_byte() {
        let counted = |value: Option<&str>, n| Counted { value: value.map(str::to_owned), n, distinct: None };
        let top = vec![counted(Some("/pricing"), 2), counted(None, 1)];
        let summary = Summary { total: 3, distinct: 2, top };
        assert_eq!(
            answer(("site_id", "site-111"), None, "path", &summary),
            r#"{"site_id":"site-111","date":"all","total_views":3,"unique_users":2,"top_paths":[{"path":"/pricing","views":2},{"path":null,"views":1}]}"#
        );
    }
}
