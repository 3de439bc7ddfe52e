//! The read of contract 3, `GET /stats?site_id=...&date=2025-11-01`: totals, distinct users and the most frequent
//! values, in the contract's words. The names of group and values are those of their fields.

use event::{Day, FieldError, FieldErrors};
use serde_json::json;

use super::super::JsonText;
use super::ContractReader;
use crate::config::ReadShape;
use crate::http::{ApiError, Query};
use crate::views::{Counted, Frequent, StatsQuery, Summary};

const DATE: &str = "date";
const TOP_VALUES: usize = 3;

type Parameters = Vec<(String, String)>;

pub async fn read(
    reader: ContractReader,
    Query(parameters): Query<Parameters>,
) -> Result<JsonText, ApiError> {
    let ContractReader { api, read, .. } = &reader;
    let (Some(stats), ReadShape::Stats { top }) = (reader.view().view.stats(), &read.shape) else {
        return Err(ApiError::NoRoute);
    };
    let name = stats.group_name();
    let group = given(&parameters, name)?.ok_or_else(|| invalid("", &format!("{name} is not found")))?;
    let day = given(&parameters, DATE)?.map(str::parse::<Day>).transpose();
    let day = day.map_err(|error| invalid(DATE, &error.to_string()))?;
    let frequent = Some(Frequent { by: top, limit: TOP_VALUES });
    let query = StatsQuery { group, days: day.map(|day| (day, day)), frequent };
    let summary = stats.summary(&api.store, &query).await;
    let summary = api.rows_of(&read.view, summary).await?;
    Ok(JsonText(answer((name, group), day, top, &summary)))
}

/// Returns a parameter. Empty text counts as absent.
fn given<'p>(parameters: &'p Parameters, name: &str) -> Result<Option<&'p str>, ApiError> {
    let mut values = parameters.iter().filter(|(known, value)| known == name && !value.is_empty());
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(invalid(name, "is given twice")),
        (value, None) => Ok(value.map(|(_, value)| value.as_str())),
    }
}

fn invalid(field: &str, reason: &str) -> ApiError {
    FieldErrors::from(FieldError { field: field.to_owned(), reason: reason.to_owned() }).into()
}

/// Written by hand, so that the keys have the contract's order.
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
