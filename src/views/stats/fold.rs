//! Folds a batch into statistics: one row for each number that changes. A correction counts -1 for the event that it
//! undoes. The fold uses no I/O and no clock.

use std::borrow::Cow;
use std::sync::Arc;

use event::{Day, Fields, Millis, Value};

use super::sums::{Facts, Rows, Sums};
use super::{ABSENT, Distinct, Stats, StatsFields};
use crate::store::{Table, Verb, Visits, Write};
use crate::views::{Event, Folded};

impl Stats {
    pub fn fold(&self, fields: &Fields, events: &[Event<'_>]) -> Folded {
        let slots = FieldSlots::of(&self.reads);
        let mut sums = Sums::new(&self.reads);
        let mut refused = Vec::new();
        let mut values = Vec::with_capacity(slots.wanted.len());
        for (index, event) in events.iter().enumerate() {
            let read = fields.read(&event.text, &slots.wanted, &mut values);
            match read.map_err(|error| error.to_string()).and_then(|()| slots.facts(&values, event.received))
            {
                Ok(facts) => sums.add(facts, if event.corrects.is_some() { -1 } else { 1 }),
                Err(reason) => refused.push((index, reason)),
            }
        }
        let Rows { totals, counts, visits } = sums.rows();
        let write = |table: &Arc<Table>, cells| Write { table: Arc::clone(table), verb: Verb::Tally, cells };
        let tables = &self.tables;
        let visits_of = |distinct: &Distinct| Visits::new(&distinct.members, &distinct.day_gaps, visits);
        let visits = tables.distinct.as_ref().map(visits_of);
        let writes = vec![write(&tables.totals, totals), write(&tables.counts, counts)];
        Folded { writes, visits, refused, ..Folded::default() }
    }
}

/// The fields to read, each of them once, and the index of each use among them.
struct FieldSlots {
    wanted: Vec<usize>,
    group: usize,
    distinct: Option<usize>,
    time: Option<usize>,
    counts: Vec<usize>,
}

impl FieldSlots {
    fn of(reads: &StatsFields) -> Self {
        let mut wanted = Vec::new();
        let mut slot = |field: usize| {
            wanted.iter().position(|known| *known == field).unwrap_or_else(|| {
                wanted.push(field);
                wanted.len() - 1
            })
        };
        let (group, distinct) = (slot(reads.group), reads.distinct.map(&mut slot));
        let time = reads.time.map(&mut slot);
        let counts = reads.counts.iter().map(|counted| slot(counted.field)).collect();
        Self { wanted, group, distinct, time, counts }
    }

    fn facts<'v, 'e: 'v>(
        &'v self,
        values: &'v [Value<'e>],
        received: Millis,
    ) -> Result<Facts<'e, impl Iterator<Item = Cow<'e, str>> + use<'v, 'e>>, String> {
        let group = counted_text(&values[self.group])
            .ok_or_else(|| "the event has no value in the field that groups the statistics".to_owned())?;
        let time = match self.time.map(|slot| &values[slot]) {
            Some(Value::Time(time)) => *time,
            _ => received,
        };
        let value = move |slot: &usize| counted_text(&values[*slot]).unwrap_or(Cow::Borrowed(ABSENT));
        Ok(Facts {
            group,
            day: Day::of(time).number(),
            member: self.distinct.and_then(|slot| counted_text(&values[slot])),
            counted: self.counts.iter().map(value),
        })
    }
}

/// Returns the text under which a value is counted, or `None` if the value is absent.
fn counted_text<'e>(value: &Value<'e>) -> Option<Cow<'e, str>> {
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

    use super::super::{CountedField, member};
    use super::*;
    use crate::store::{Cell, Visit};

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
        Stats::new(
            "t",
            StatsFields { group, group_name, distinct: Some(2), time: Some(3), counts: vec![path] },
        )
    }

    fn fold(stats: &Stats, events: &[(&'static str, bool)]) -> (Vec<Vec<String>>, Vec<usize>) {
        let event = |(position, (text, corrects)): (usize, &(&'static str, bool))| Event {
            position: position as u64,
            id: EventId::from_bytes([0; 16]),
            text: (*text).into(),
            corrects: corrects.then_some(0),
            received: Millis(86_400_000),
            sent_from: Default::default(),
            retry_of: None,
        };
        let events: Vec<Event<'_>> = events.iter().enumerate().map(event).collect();
        let folded = stats.fold(&stream(), &events);
        let row = |cells: &[Cell]| {
            let cells = cells.iter().map(|cell| match cell {
                Cell::Text(text) if text.is_empty() => "-".to_owned(),
                Cell::Text(text) => text.clone(),
                Cell::Integer(number) => number.to_string(),
                other => panic!("{other:?}"),
            });
            cells.collect::<Vec<_>>().join(" ")
        };
        let visit = |Visit { member, day, added, group }: &Visit| {
            format!("{} {} {day} {added}", row(group), event::hex(member))
        };
        let mut rows: Vec<Vec<String>> =
            folded.writes.iter().map(|write| write.rows().map(row).collect()).collect();
        rows.push(folded.visits.expect("visits").changes().iter().map(visit).collect());
        (rows, folded.refused.iter().map(|(index, _)| *index).collect())
    }

    /// The rows of visits as a fold makes them, in the order of their members' keys.
    fn visits(of: &[(&str, &str, &str, &str, &str)]) -> Vec<String> {
        let keyed = |(group, field, value, member, rest): &(&str, &str, &str, &str, &str)| {
            let key = member::key([group, field, value, member]);
            let shown = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
            (key, [shown(group), shown(field), shown(value), event::hex(&key), shown(rest)].join(" "))
        };
        let mut rows: Vec<_> = of.iter().map(keyed).collect();
        rows.sort();
        rows.into_iter().map(|(_, row)| row).collect()
    }

    #[test]
    fn equal_keys_become_one_row_and_unreadable_events_are_refused() {
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
        let added = [("a", "", "", "1", "19700102 2"), ("b", "", "", "1", "20251102 1")];
        assert_eq!(rows[2], visits(&added));
        assert_eq!(refused, [3]);
    }

    #[test]
    fn a_correction_subtracts_what_its_event_added() {
        let event = r#"{"site":"a","path":"/x","user":1,"at":"2025-11-01"}"#;
        let (rows, _) = fold(&stats(true), &[(event, true)]);
        assert_eq!(rows[0], ["a - 0 - -1", "a - 20251101 - -1"]);
        assert_eq!(rows[1], ["a path 0 /x -1", "a path 20251101 /x -1"]);
        let removed = [("a", "", "", "1", "20251101 -1"), ("a", "path", "/x", "1", "20251101 -1")];
        assert_eq!(rows[2], visits(&removed));
        let (rows, _) = fold(&stats(true), &[(event, false), (event, true)]);
        assert!(rows.iter().all(Vec::is_empty), "{rows:?}");
    }
}
