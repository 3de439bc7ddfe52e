//! Queries of statistics: the numbers of one group, over all time or over a range of days.

use event::Day;

use super::{ABSENT, ALL, ALL_TIME, Distinct, Stats};
use crate::store::{Cell, Select, Store, StoreError, quote};

/// A query about one group.
#[derive(Clone, Debug)]
pub struct StatsQuery<'a> {
    pub group: &'a str,
    /// The first and the last day, both included; `None` means all time.
    pub days: Option<(Day, Day)>,
    pub frequent: Option<Frequent<'a>>,
}

/// The most frequent values of a field.
#[derive(Clone, Debug)]
pub struct Frequent<'a> {
    pub by: &'a str,
    pub limit: usize,
}

/// The numbers of one group. They are zero for a group without events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub total: i64,
    /// The number of distinct members; 0 if they are not counted.
    pub distinct: i64,
    pub top: Vec<Counted>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// `None` stands for events without a value.
    pub value: Option<String>,
    pub n: i64,
    pub distinct: Option<i64>,
}

impl StatsQuery<'_> {
    /// Returns true if the query adds up several days for every value. This takes long if there are many values.
    pub fn is_long(&self) -> bool {
        self.frequent.is_some() && self.days.is_some_and(|(first, last)| first != last)
    }
}

impl Stats {
    /// Reads the numbers of a group in one snapshot.
    pub async fn summary(&self, store: &Store, query: &StatsQuery<'_>) -> Result<Summary, StoreError> {
        let answers = store.rows_together(self.selects(store, query)).await?;
        self.summary_of(query, &mut answers.into_iter())
    }

    /// Returns the queries of the database whose answers are the numbers of a group. They belong into one snapshot.
    pub fn selects(&self, store: &Store, query: &StatsQuery<'_>) -> Vec<Select> {
        let distinct = self.tables.distinct.as_ref();
        let mut selects = vec![self.total(query)];
        selects.extend(distinct.map(|distinct| distinct.members(query, ALL, ABSENT)));
        if let Some(frequent) = &query.frequent {
            let top = self.most_frequent(store, query, frequent);
            let with_members = self
                .distinct_by(frequent)
                .map(|distinct| distinct.members_of_values(query, frequent.by, top.clone()));
            selects.push(top);
            selects.extend(with_members);
        }
        selects
    }

    /// Reads the numbers of a group from the next answers to these queries.
    pub fn summary_of(
        &self,
        query: &StatsQuery<'_>,
        answers: &mut impl Iterator<Item = Vec<Vec<Cell>>>,
    ) -> Result<Summary, StoreError> {
        let mut next = || answers.next().unwrap_or_default();
        let mut summary = Summary { total: number(next())?, ..Summary::default() };
        if self.tables.distinct.is_some() {
            summary.distinct = number(next())?;
        }
        if let Some(frequent) = &query.frequent {
            summary.top = next().into_iter().map(counted).collect::<Result<_, _>>()?;
            if self.distinct_by(frequent).is_some() {
                let members: Vec<Counted> = next().into_iter().map(counted).collect::<Result<_, _>>()?;
                for counted in &mut summary.top {
                    let of_value = members.iter().find(|members| members.value == counted.value);
                    counted.distinct = Some(of_value.map_or(0, |members| members.n));
                }
            }
        }
        Ok(summary)
    }

    /// Returns the tables of distinct members if they are counted for each value of the field, too.
    fn distinct_by(&self, frequent: &Frequent<'_>) -> Option<&Distinct> {
        let distinct = self.tables.distinct.as_ref()?;
        self.counted(frequent.by).filter(|by| by.distinct).map(|_| distinct)
    }

    fn total(&self, query: &StatsQuery<'_>) -> Select {
        let table = quote(&self.tables.counts.name);
        let (first, last) = bounds(query);
        let sql = format!(
            "SELECT SUM(n) FROM {table} WHERE grp = ? AND field = ? AND day BETWEEN ? AND ? AND value = ?"
        );
        let parameters = [text(query.group), text(ALL), first, last, text(ABSENT)];
        Select { sql, parameters: parameters.into() }
    }

    fn most_frequent(&self, store: &Store, query: &StatsQuery<'_>, frequent: &Frequent<'_>) -> Select {
        let table = self.tables.counts.as_ref();
        let (first, last) = bounds(query);
        if let (Some(ranking), false) = (&table.ranking, query.is_long()) {
            return store.top(
                table,
                ranking,
                vec![text(query.group), text(frequent.by), first],
                frequent.limit,
            );
        }
        let sql = format!(
            "SELECT value, SUM(n) AS n FROM {} WHERE grp = ? AND field = ? AND day BETWEEN ? AND ? \
             GROUP BY value ORDER BY 2 DESC, value = '', value LIMIT {}",
            quote(&table.name),
            frequent.limit
        );
        Select { sql, parameters: vec![text(query.group), text(frequent.by), first, last] }
    }
}

impl Distinct {
    /// Selects the number of distinct members in a range of days. Each member counts on its first day in the range,
    /// whose previous day (column `before`) lies before the range.
    fn members(&self, query: &StatsQuery<'_>, field: &str, value: &str) -> Select {
        let table = quote(&self.day_gaps.name);
        let (first, last) = bounds(query);
        // The number of all members is stored under day 0, with day 0 as the previous day.
        let earlier = if query.days.is_some() { first.clone() } else { Cell::Integer(ALL_TIME + 1) };
        let sql = format!(
            "SELECT SUM(n) FROM {table} WHERE grp = ? AND field = ? AND value = ? AND day BETWEEN ? AND ? AND \"before\" < ?"
        );
        let parameters = [text(query.group), text(field), text(value), first, last, earlier];
        Select { sql, parameters: parameters.into() }
    }

    /// The same for each value that `top` selects.
    fn members_of_values(&self, query: &StatsQuery<'_>, field: &str, top: Select) -> Select {
        let table = quote(&self.day_gaps.name);
        let (first, last) = bounds(query);
        let earlier = if query.days.is_some() { first.clone() } else { Cell::Integer(ALL_TIME + 1) };
        // The parameters of `top` come first, because some databases number them.
        let sql = format!(
            "SELECT most.value, SUM(gaps.n) FROM ({}) AS most JOIN {table} AS gaps ON gaps.value = most.value \
             WHERE gaps.grp = ? AND gaps.field = ? AND gaps.day BETWEEN ? AND ? AND gaps.\"before\" < ? \
             GROUP BY most.value",
            top.sql
        );
        let mut parameters = top.parameters;
        parameters.extend([text(query.group), text(field), first, last, earlier]);
        Select { sql, parameters }
    }
}

/// Returns the first and the last day as they are stored.
fn bounds(query: &StatsQuery<'_>) -> (Cell, Cell) {
    let day = |day: Day| Cell::Integer(day.number());
    let all = || (Cell::Integer(ALL_TIME), Cell::Integer(ALL_TIME));
    query.days.map_or_else(all, |(first, last)| (day(first), day(last)))
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

/// Returns the sum that a query selected. The sum over no rows is null, and counts as 0.
fn number(rows: Vec<Vec<Cell>>) -> Result<i64, StoreError> {
    match rows.first().and_then(|row| row.first()) {
        None | Some(Cell::Null) => Ok(0),
        Some(sum) => sum.integer().ok_or_else(|| {
            StoreError::Blocked("a statistics table contains a count that is not an integer".to_owned())
        }),
    }
}

fn counted(row: Vec<Cell>) -> Result<Counted, StoreError> {
    let wrong = "a statistics table contains a row that millrace cannot decode";
    match <[Cell; 2]>::try_from(row) {
        Ok([Cell::Text(value), sum]) => {
            let n = sum.integer().ok_or_else(|| StoreError::Blocked(wrong.to_owned()))?;
            Ok(Counted { value: Some(value).filter(|value| value != ABSENT), n, distinct: None })
        }
        _ => Err(StoreError::Blocked(wrong.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use event::{EventId, Field, Fields, Kind, LogId, Millis};

    use super::*;
    use crate::store::Claim;
    use crate::views::Event;
    use crate::views::stats::{CountedField, StatsFields};

    const DAY: i64 = 86_400_000;

    /// One event: site, path, user, day, and true if a correction undoes it later.
    type Visit = (u8, u8, u8, i64, bool);

    fn fields() -> Fields {
        let text = Kind::text(9);
        let field =
            |name: &str| Field { name: name.to_owned(), kind: text, required: false, one_of: Vec::new() };
        Fields::new(["site", "path", "user"].map(field).into(), 0)
    }

    fn stats() -> Stats {
        let path = CountedField { field: 1, name: "path".to_owned(), distinct: true };
        let (group, group_name) = (0, "site".to_owned());
        Stats::new("t", StatsFields { group, group_name, distinct: Some(2), time: None, counts: vec![path] })
    }

    /// Returns a value for a number. 0 is the empty text, which counts as absent.
    fn name(number: u8) -> String {
        if number == 0 { String::new() } else { number.to_string() }
    }

    fn event((site, path, user, day, _): &Visit, corrects: bool) -> Event<'static> {
        let text = format!(r#"{{"site":"s{site}","path":"{}","user":"{}"}}"#, name(*path), name(*user));
        Event {
            position: 0,
            id: EventId::from_bytes([0; 16]),
            text: text.into(),
            received: Millis(day * DAY),
            sent_from: Default::default(),
            retry_of: None,
            corrects: corrects.then_some(0),
        }
    }

    /// Returns the expected result, counted over all events.
    fn expected(visits: &[Visit], site: u8, days: Option<(i64, i64)>) -> Summary {
        let matches = |visit: &&Visit| {
            visit.0 == site && !visit.4 && days.is_none_or(|(from, to)| (from..=to).contains(&visit.3))
        };
        let visits: Vec<&Visit> = visits.iter().filter(matches).collect();
        let mut paths: BTreeMap<u8, (i64, BTreeSet<u8>)> = BTreeMap::new();
        let mut users = BTreeSet::new();
        for (_, path, user, _, _) in &visits {
            let (n, of_path) = paths.entry(*path).or_default();
            *n += 1;
            of_path.extend(Some(*user).filter(|user| *user > 0));
            users.extend(Some(*user).filter(|user| *user > 0));
        }
        let counted = |(path, (n, users)): (u8, (i64, BTreeSet<u8>))| Counted {
            value: Some(name(path)).filter(|name| !name.is_empty()),
            n,
            distinct: Some(users.len() as i64),
        };
        let mut top: Vec<Counted> = paths.into_iter().map(counted).collect();
        top.sort_by_key(|one| (-one.n, one.value.is_none(), one.value.clone()));
        top.truncate(3);
        Summary { total: visits.len() as i64, distinct: users.len() as i64, top }
    }

    async fn compare(visits: Vec<Visit>, batch: usize) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open("sqlite:", None, folder.path()).await.expect("opens");
        let (stats, fields) = (stats(), fields());
        let claim =
            |from, to| Claim { view: "v".to_owned(), log: LogId([7; 16]), from, to, definition: None };
        let tables = stats.view_tables();
        store.begin_view(claim(0, 0), tables).await.expect("begins");
        let mut events: Vec<Event<'_>> = visits.iter().map(|visit| event(visit, false)).collect();
        events.extend(visits.iter().filter(|visit| visit.4).map(|visit| event(visit, true)));
        for (at, events) in events.chunks(batch).enumerate() {
            let (plan, _) = stats.fold(&fields, events).into_plan(claim(at as u64, at as u64 + 1));
            store.apply(Arc::new(plan)).await.expect("applied");
        }
        for site in 0..2 {
            for days in [None, Some((1, 1)), Some((2, 2)), Some((1, 3)), Some((2, 5)), Some((1, 5))] {
                let day = |day: i64| Day::of(Millis(day * DAY));
                let group = format!("s{site}");
                let frequent = Some(Frequent { by: "path", limit: 3 });
                let query =
                    StatsQuery { group: &group, days: days.map(|(from, to)| (day(from), day(to))), frequent };
                let summary = stats.summary(&store, &query).await.expect("an answer");
                assert_eq!(summary, expected(&visits, site, days), "site {site}, days {days:?}");
            }
        }
        tokio::task::spawn_blocking(move || store.close()).await.expect("closes");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]
        #[test]
        fn statistics_equal_a_count_over_all_events(
            visits in proptest::collection::vec(
                (0_u8..2, 0_u8..6, 0_u8..5, 1_i64..6, proptest::bool::weighted(0.3)),
                1..60,
            ),
            batch in 1_usize..20,
        ) {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
            runtime.block_on(compare(visits, batch));
        }
    }
}
