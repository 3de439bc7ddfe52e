//! Folds events into rows of a table: one row for each event, in the order of the log. A correction removes the row
//! of the event that it undoes. The fold uses no I/O and no clock.

use event::{Fields, Value};

use super::{ColumnSource, EnvelopeField, RowTable};
use crate::store::{CellRef, RowChanges};
use crate::views::{Event, Folded};

/// An estimate of the texts of a row. A batch reserves memory by it, so that it does not have to grow repeatedly.
const ROW_BYTES_EXPECTED: usize = 64;

impl RowTable {
    pub fn fold(&self, fields: &Fields, events: &[Event<'_>]) -> Folded {
        let mut changes = RowChanges::new(&self.table);
        changes.added.reserve(events.len(), events.len() * ROW_BYTES_EXPECTED);
        changes.from.reserve(events.len());
        let mut refused = Vec::new();
        let mut values = Vec::with_capacity(self.wanted.len());
        for (index, event) in events.iter().enumerate() {
            if let Some(position) = event.corrects {
                changes.removed.push(position);
                continue;
            }
            match fields.read(&event.text, &self.wanted, &mut values) {
                Ok(()) => {
                    let mut values = values.iter();
                    for source in &self.sources {
                        match source {
                            ColumnSource::Envelope(envelope) => changes.added.push(&envelope.of(event)),
                            ColumnSource::Field { default, .. } => match (values.next(), default) {
                                (Some(Value::Absent) | None, Some(default)) => {
                                    changes.added.push(&default.of(event));
                                }
                                (Some(value), _) => changes.added.push(value),
                                (None, None) => changes.added.push(CellRef::Null),
                            },
                        }
                    }
                    changes.from.push((event.position, event.received));
                }
                Err(error) => refused.push((index, error.to_string())),
            }
        }
        let rows = (!changes.is_empty()).then_some(changes);
        Folded { rows, refused, ..Folded::default() }
    }
}

impl EnvelopeField {
    fn of<'e>(self, event: &'e Event<'_>) -> Value<'e> {
        let text = |text: Option<&'e str>| text.map_or(Value::Absent, |text| Value::Text(text.into()));
        match self {
            Self::Received => Value::Time(event.received),
            Self::Id => Value::Text(event.id.to_string().into()),
            Self::Client => text(event.sent_from.client.as_deref()),
            Self::UserAgent => text(event.sent_from.user_agent.as_deref()),
            Self::Address => match event.sent_from.address {
                Some(address) => Value::Text(address.to_string().into()),
                None => Value::Absent,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use event::{EventId, Field, Kind, Millis, SentFrom};

    use super::*;

    fn stream() -> Fields {
        let field =
            |name: &str, kind, required| Field { name: name.to_owned(), kind, required, one_of: Vec::new() };
        Fields::new(
            vec![
                field("at", Kind::Time, false),
                field("more", Kind::Any, false),
                field("path", Kind::text(9), false),
                field("price", Kind::AMOUNT, true),
                field("site", Kind::text(9), true),
            ],
            4,
        )
    }

    fn table() -> RowTable {
        let field = |field, default| ColumnSource::Field { field, default };
        let columns = [
            ("site", field(4, None)),
            ("came", ColumnSource::Envelope(EnvelopeField::Received)),
            ("path", field(2, None)),
            ("at", field(0, Some(EnvelopeField::Received))),
            ("price", field(3, None)),
            ("more", field(1, None)),
            ("ip", ColumnSource::Envelope(EnvelopeField::Address)),
            ("event", ColumnSource::Envelope(EnvelopeField::Id)),
            ("client", ColumnSource::Envelope(EnvelopeField::Client)),
            ("program", ColumnSource::Envelope(EnvelopeField::UserAgent)),
        ]
        .map(|(name, source)| (name.to_owned(), source));
        RowTable::new("t", "id", &columns, &stream())
    }

    fn event(position: u64, text: &str, corrects: Option<u64>) -> Event<'_> {
        Event {
            position,
            id: EventId::from_bytes([0; 16]),
            text: text.into(),
            received: Millis(position as i64),
            sent_from: SentFrom {
                address: Some([10, 0, 0, 7].into()),
                client: Some("c-1"),
                user_agent: None,
            }
            .into(),
            retry_of: None,
            corrects,
        }
    }

    #[test]
    fn columns_are_filled_as_declared_and_absent_values_get_their_default_or_null() {
        let table = table();
        let names: Vec<(&str, bool)> =
            table.table().columns.iter().map(|column| (column.name.as_str(), column.null)).collect();
        let filled = ["site", "came", "at", "price", "event"];
        assert!(names.iter().all(|(name, null)| *null != filled.contains(name)), "{names:?}");
        let events = [
            event(
                5,
                r#"{"site":"s","at":"2025-11-01","path":"/p","price":10.50,"more":{"x":[1e400]}}"#,
                None,
            ),
            event(6, r#"{"site":"s","path":"","price":1}"#, None),
            event(7, r#"{"site":"s"}"#, None),
        ];
        let folded = table.fold(&stream(), &events);
        let changes = folded.rows.expect("rows");
        let id = "00000000-0000-0000-0000-000000000000";
        let text = CellRef::Text;
        let decimal = |text: &str| CellRef::Decimal(text.parse().expect("a number"));
        let time = |millis| CellRef::Time(Millis(millis));
        let rows: Vec<CellRef<'_>> = changes.added.cells().collect();
        assert_eq!(
            rows[..10],
            [
                text("s"),
                time(5),
                text("/p"),
                time(1_761_955_200_000),
                decimal("10.5"),
                text(r#"{"x":[1e400]}"#),
                text("10.0.0.7"),
                text(id),
                text("c-1"),
                CellRef::Null,
            ]
        );
        let absent = || CellRef::Null;
        assert_eq!(
            rows[10..18],
            [text("s"), time(6), absent(), time(6), decimal("1"), absent(), text("10.0.0.7"), text(id)]
        );
        assert_eq!(changes.from, [(5, Millis(5)), (6, Millis(6))]);
        assert_eq!(folded.refused, [(2, "price: is missing".to_owned())]);
    }

    #[test]
    fn a_correction_removes_the_row_of_its_event() {
        let good = r#"{"site":"s","price":1}"#;
        let events = [event(5, good, None), event(6, good, Some(2)), event(7, good, Some(5))];
        let changes = table().fold(&stream(), &events).rows.expect("changes");
        assert_eq!((changes.added.len(), changes.removed), (1, vec![2, 5]));
        assert!(table().fold(&stream(), &[]).rows.is_none());
    }
}
