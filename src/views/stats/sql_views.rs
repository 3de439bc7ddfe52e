//! The SQL views through which people read statistics. They contain the same numbers as the API.

use super::{ABSENT, ALL, ALL_TIME, Distinct, Stats};
use crate::store::{SqlValue, SqlView, quote};

/// The period of the numbers in an SQL view.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Period {
    Day,
    AllTime,
}

impl Stats {
    pub(super) fn sql_views(&self) -> Vec<SqlView> {
        let mut sql_views = vec![self.totals("daily", Period::Day), self.totals("total", Period::AllTime)];
        if !self.reads.counts.is_empty() {
            sql_views.push(self.values("daily_values", Period::Day));
            sql_views.push(self.values("total_values", Period::AllTime));
        }
        sql_views
    }

    /// Declares the SQL view with the totals of each group.
    fn totals(&self, name: &str, period: Period) -> SqlView {
        let mut columns = group_and_day(period);
        columns.push(("total".to_owned(), SqlValue::Count("c.n".to_owned())));
        if let Some(distinct) = &self.tables.distinct {
            columns.push(("distinct_count".to_owned(), SqlValue::Count(distinct_count(distinct))));
        }
        self.sql_view(name, columns, &format!("c.field = '{ALL}' AND c.value = '{ABSENT}'"), period)
    }

    /// Declares the SQL view with the counts of each value.
    fn values(&self, name: &str, period: Period) -> SqlView {
        let mut columns = group_and_day(period);
        columns.push(("field".to_owned(), SqlValue::Plain("c.field".to_owned())));
        columns.push(("value".to_owned(), SqlValue::Plain(format!("NULLIF(c.value, '{ABSENT}')"))));
        columns.push(("total".to_owned(), SqlValue::Count("c.n".to_owned())));
        let fields = self.reads.counts.iter().filter(|counted| counted.distinct);
        let fields: Vec<String> =
            fields.map(|counted| format!("'{}'", counted.name.replace('\'', "''"))).collect();
        if let (Some(distinct), false) = (&self.tables.distinct, fields.is_empty()) {
            let count =
                format!("CASE WHEN c.field IN ({}) THEN {} END", fields.join(", "), distinct_count(distinct));
            columns.push(("distinct_count".to_owned(), SqlValue::Count(count)));
        }
        self.sql_view(name, columns, &format!("c.field <> '{ALL}'"), period)
    }

    fn sql_view(
        &self,
        name: &str,
        columns: Vec<(String, SqlValue)>,
        condition: &str,
        period: Period,
    ) -> SqlView {
        let days = match period {
            Period::Day => format!("c.day <> {ALL_TIME}"),
            Period::AllTime => format!("c.day = {ALL_TIME}"),
        };
        SqlView {
            name: format!("{}_{name}", self.prefix),
            columns,
            from: format!("{} AS c WHERE {condition} AND {days}", quote(&self.tables.counts.name)),
            only_for_text_amounts: false,
        }
    }
}

fn group_and_day(period: Period) -> Vec<(String, SqlValue)> {
    let mut columns = vec![("group_key".to_owned(), SqlValue::Plain("c.grp".to_owned()))];
    if period == Period::Day {
        columns.push(("day".to_owned(), SqlValue::Day("c.day".to_owned())));
    }
    columns
}

/// Returns the number of distinct members of a row's period. Each member has one previous day, so a single day counts
/// each of its members once. All time is stored as day 0.
fn distinct_count(distinct: &Distinct) -> String {
    format!(
        "coalesce((SELECT SUM(s.n) FROM {} AS s WHERE s.grp = c.grp AND s.field = c.field AND s.value = c.value AND s.day = c.day), 0)",
        quote(&distinct.day_gaps.name)
    )
}
