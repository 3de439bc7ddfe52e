//! The fold of statistics: a batch in, one row out for each number that changes. A correction counts -1 for
//! the event that it takes back. No I/O, no clock.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use event::{Day, Fields, Millis, Value};

use super::{ABSENT, ALL, ALL_TIME, Reads, Stats, member};
use crate::store::{Cell, Table, Verb, Write};
use crate::views::{Event, Folded};

impl Stats {
    pub fn fold(&self, fields: &Fields, events: &[Event<'_>]) -> Folded {
        let places = Places::of(&self.reads);
        let mut sums = Sums { reads: &self.reads, counts: HashMap::new(), visits: HashMap::new() };
        let mut refused = Vec::new();
        let mut values = Vec::with_capacity(places.wanted.len());
        for (index, event) in events.iter().enumerate() {
            let read = fields.read(&event.text, &places.wanted, &mut values);
            match read.map_err(|error| error.to_string()).and_then(|()| places.facts(&values, event.received))
            {
                Ok(facts) => sums.add(&facts, if event.takes_back.is_some() { -1 } else { 1 }),
                Err(reason) => refused.push((index, reason)),
            }
        }
        Folded { writes: self.writes(sums), refused, ..Folded::default() }
    }

    /// Sorted by key, so that each page of a table is met once.
    fn writes(&self, sums: Sums<'_, '_>) -> Vec<Write> {
        let (mut totals, mut counts) = (Vec::new(), Vec::new());
        for ((group, field, day, value), n) in sums.counts {
            let rows = if field == ALL { &mut totals } else { &mut counts };
            rows.push(((group, field, day, value), n));
        }
        let count = |((group, field, day, value), n): (Count<'_, '_>, i64)| {
            [text(group), text(field.into()), Cell::Integer(day), text(value), Cell::Integer(n)]
        };
        let mut writes = vec![
            write(&self.tables.totals, Verb::Tally, totals, count),
            write(&self.tables.counts, Verb::Tally, counts, count),
        ];
        if let Some(distinct) = &self.tables.distinct {
            let visit = |((name, day, group, field, value), n): (Named<'_, '_>, i64)| {
                let [group, field, value] = [text(group), text(field.into()), text(value)];
                [group, field, value, Cell::Bytes(name), Cell::Integer(day), Cell::Integer(n)]
            };
            let visits = sums.visits.into_iter().map(named).collect();
            writes.push(write(&distinct.members, Verb::Visit, visits, visit));
        }
        writes
    }
}

fn write<K: Ord, const N: usize>(
    table: &Arc<Table>,
    verb: Verb,
    mut rows: Vec<(K, i64)>,
    row: impl Fn((K, i64)) -> [Cell; N],
) -> Write {
    rows.retain(|(_, n)| *n != 0);
    rows.sort_unstable();
    let cells = rows.into_iter().flat_map(row).collect();
    Write { table: Arc::clone(table), verb, cells }
}

fn text(text: Cow<'_, str>) -> Cell {
    Cell::Text(text.into_owned())
}

/// Group, field, day, value.
type Count<'e, 's> = (Cow<'e, str>, &'s str, i64, Cow<'e, str>);
/// Group, field, value, member, day.
type Visit<'e, 's> = (Cow<'e, str>, &'s str, Cow<'e, str>, Cow<'e, str>, i64);

/// The member's name, day, group, field, value: in the order of the key of members.
type Named<'e, 's> = (Vec<u8>, i64, Cow<'e, str>, &'s str, Cow<'e, str>);

fn named<'e, 's>(((group, field, value, member, day), n): (Visit<'e, 's>, i64)) -> (Named<'e, 's>, i64) {
    let name = member::name([&group, field, &value, &member]);
    ((name, day, group, field, value), n)
}

/// What a batch adds up to.
struct Sums<'e, 's> {
    reads: &'s Reads,
    counts: HashMap<Count<'e, 's>, i64>,
    visits: HashMap<Visit<'e, 's>, i64>,
}

impl<'e> Sums<'e, '_> {
    fn add(&mut self, facts: &Facts<'e>, n: i64) {
        let Facts { group, day, member, counted } = facts;
        for day in [ALL_TIME, *day] {
            *self.counts.entry((group.clone(), ALL, day, ABSENT.into())).or_default() += n;
            for (field, value) in self.reads.counts.iter().zip(counted) {
                *self.counts.entry((group.clone(), &field.name, day, value.clone())).or_default() += n;
            }
        }
        let Some(member) = member else { return };
        let all = (group.clone(), ALL, ABSENT.into(), member.clone(), *day);
        *self.visits.entry(all).or_default() += n;
        for (field, value) in self.reads.counts.iter().zip(counted).filter(|(field, _)| field.distinct) {
            let visit = (group.clone(), field.name.as_str(), value.clone(), member.clone(), *day);
            *self.visits.entry(visit).or_default() += n;
        }
    }
}

/// What one event says.
struct Facts<'e> {
    group: Cow<'e, str>,
    day: i64,
    member: Option<Cow<'e, str>>,
    /// In the order of the fields that are counted.
    counted: Vec<Cow<'e, str>>,
}

/// Which fields are read, each once, and where among them each is found.
struct Places {
    wanted: Vec<usize>,
    group: usize,
    distinct: Option<usize>,
    time: Option<usize>,
    counts: Vec<usize>,
}

impl Places {
    fn of(reads: &Reads) -> Self {
        let mut wanted = Vec::new();
        let mut place = |field: usize| {
            wanted.iter().position(|known| *known == field).unwrap_or_else(|| {
                wanted.push(field);
                wanted.len() - 1
            })
        };
        let (group, distinct) = (place(reads.group), reads.distinct.map(&mut place));
        let time = reads.time.map(&mut place);
        let counts = reads.counts.iter().map(|counted| place(counted.field)).collect();
        Self { wanted, group, distinct, time, counts }
    }

    fn facts<'e>(&self, values: &[Value<'e>], received: Millis) -> Result<Facts<'e>, String> {
        let group =
            shown(&values[self.group]).ok_or_else(|| "has no value to be counted under".to_owned())?;
        let time = match self.time.map(|place| &values[place]) {
            Some(Value::Time(time)) => *time,
            _ => received,
        };
        let value = |place: &usize| shown(&values[*place]).unwrap_or(ABSENT.into());
        Ok(Facts {
            group,
            day: Day::of(time).number(),
            member: self.distinct.and_then(|place| shown(&values[place])),
            counted: self.counts.iter().map(value).collect(),
        })
    }
}

/// A value as it is counted; `None` where there is none.
fn shown<'e>(value: &Value<'e>) -> Option<Cow<'e, str>> {
    match value {
        Value::Absent => None,
        Value::Text(text) => Some(text.clone()),
        Value::Any(text) => Some(Cow::Borrowed(text)),
        Value::Integer(value) => Some(value.to_string().into()),
        Value::Decimal(value) => Some(value.to_string().into()),
        Value::Time(time) => Some(time.to_text().into()),
        Value::Boolean(value) => Some(if *value { "true" } else { "false" }.into()),
    }
}

#[cfg(test)]
mod tests {
    use event::{EventId, Field, Kind};

    use super::super::{CountedField, Stats};
    use super::*;

    fn stream() -> Fields {
        let text = Kind::text(9);
        let field = |(name, kind, required): (&str, Kind, bool)| Field {
            name: name.to_owned(),
            kind,
            required,
            one_of: Vec::new(),
        };
        let list = [
            ("site", text, true),
            ("path", text, false),
            ("user", Kind::Integer { min: 0, max: 9 }, false),
            ("at", Kind::Time, false),
        ];
        Fields::new(list.map(field).into(), 0)
    }

    fn stats(distinct: bool) -> Stats {
        let path = CountedField { field: 1, name: "path".to_owned(), distinct };
        let (group, group_name) = (0, "site".to_owned());
        Stats::new("t", Reads { group, group_name, distinct: Some(2), time: Some(3), counts: vec![path] })
    }

    fn fold(stats: &Stats, events: &[(&'static str, bool)]) -> (Vec<Vec<String>>, Vec<usize>) {
        let event = |(position, (text, takes_back)): (usize, &(&'static str, bool))| Event {
            position: position as u64,
            id: EventId::from_bytes([0; 16]),
            text: (*text).into(),
            takes_back: takes_back.then_some(0),
            received: Millis(86_400_000),
            origin: None,
            letter: None,
        };
        let events: Vec<Event<'_>> = events.iter().enumerate().map(event).collect();
        let folded = stats.fold(&stream(), &events);
        let rows = |write: &Write| {
            let row = |row: &[Cell]| {
                let cells = row.iter().map(|cell| match cell {
                    Cell::Text(text) if text.is_empty() => "-".to_owned(),
                    Cell::Text(text) => text.clone(),
                    Cell::Integer(number) => number.to_string(),
                    Cell::Bytes(name) => hex(name),
                    other => panic!("{other:?}"),
                });
                cells.collect::<Vec<_>>().join(" ")
            };
            write.rows().map(row).collect()
        };
        (folded.writes.iter().map(rows).collect(), folded.refused.iter().map(|(index, _)| *index).collect())
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Rows of visits, as a fold makes them: in the order of their members' names.
    fn visits(of: &[(&str, &str, &str, &str, &str)]) -> Vec<String> {
        let named = |(group, field, value, member, rest): &(&str, &str, &str, &str, &str)| {
            let name = member::name([group, field, value, member]);
            let shown = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
            (name.clone(), [shown(group), shown(field), shown(value), hex(&name), shown(rest)].join(" "))
        };
        let mut rows: Vec<_> = of.iter().map(named).collect();
        rows.sort();
        rows.into_iter().map(|(_, row)| row).collect()
    }

    #[test]
    fn equal_keys_are_one_row_in_order_and_what_cannot_be_read_is_named() {
        let (rows, refused) = fold(
            &stats(false),
            &[
                (r#"{"site":"b","path":"/x","user":1,"at":"2025-11-01T23:00:00-02:00"}"#, false),
                (r#"{"site":"a","path":"","user":null}"#, false),
                (r#"{"site":"a","path":"/x","user":1}"#, false),
                (r#"{"path":"/x"}"#, false),
                (r#"{"site":"a","path":"/x","user":1}"#, false),
            ],
        );
        assert_eq!(rows[0], ["a - 0 - 3", "a - 19700102 - 3", "b - 0 - 1", "b - 20251102 - 1"]);
        let counts = ["a path 0 - 1", "a path 0 /x 2", "a path 19700102 - 1", "a path 19700102 /x 2"];
        assert_eq!(rows[1][..4], counts);
        let came = [("a", "", "", "1", "19700102 2"), ("b", "", "", "1", "20251102 1")];
        assert_eq!(rows[2], visits(&came));
        assert_eq!(refused, [3]);
    }

    #[test]
    fn a_correction_takes_back_what_its_event_counted() {
        let event = r#"{"site":"a","path":"/x","user":1,"at":"2025-11-01"}"#;
        let (rows, _) = fold(&stats(true), &[(event, true)]);
        assert_eq!(rows[0], ["a - 0 - -1", "a - 20251101 - -1"]);
        assert_eq!(rows[1], ["a path 0 /x -1", "a path 20251101 /x -1"]);
        let went = [("a", "", "", "1", "20251101 -1"), ("a", "path", "/x", "1", "20251101 -1")];
        assert_eq!(rows[2], visits(&went));
        let (rows, _) = fold(&stats(true), &[(event, false), (event, true)]);
        assert!(rows.iter().all(Vec::is_empty), "{rows:?}");
    }
}
