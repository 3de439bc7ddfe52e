//! Folds events into notifications: each event queues one. A correction removes the notification of the event that it
//! undoes, unless its delivery was attempted. Rows keep the order of the log, because an id may occur again after its
//! event was undone. The fold uses no I/O and no clock.

use std::fmt::Write as _;

use event::{Fields, Value};

use super::{MessagePart, NotificationStatus, Notifications};
use crate::store::{Cell, Verb, Write};
use crate::views::{Event, Folded};

impl Notifications {
    pub fn fold(&self, fields: &Fields, events: &[Event<'_>]) -> Folded {
        let wanted = self.wanted();
        let mut values = Vec::with_capacity(wanted.len());
        let mut folded = Folded::default();
        for (index, event) in events.iter().enumerate() {
            if event.corrects.is_some() {
                let id = Cell::Text(Self::id_of(&event.id));
                let row = [id, Cell::Text(NotificationStatus::Queued.as_str().to_owned())];
                self.write(&mut folded, Verb::Remove, row);
                continue;
            }
            match fields.read(&event.text, &wanted, &mut values) {
                Ok(()) => self.write(&mut folded, Verb::InsertNew, self.row(event, &values)),
                Err(error) => folded.refused.push((index, error.to_string())),
            }
        }
        folded
    }

    /// Returns the fields to read: the recipient, the type, the payload if it is a field, and the fields of the
    /// message.
    pub(super) fn wanted(&self) -> Vec<usize> {
        let mut wanted = vec![self.reads.to, self.reads.event_type];
        wanted.extend(self.reads.payload);
        for part in &self.reads.message {
            if let MessagePart::Field(field) = part
                && !wanted.contains(field)
            {
                wanted.push(*field);
            }
        }
        wanted
    }

    fn row(&self, event: &Event<'_>, values: &[Value<'_>]) -> [Cell; 13] {
        let text = |value: &Value<'_>| {
            let mut text = String::new();
            push_value(&mut text, value);
            Cell::Text(text)
        };
        let payload = match (self.reads.payload, values.get(2)) {
            (None, _) => event.text.to_string(),
            (Some(_), Some(Value::Any(raw))) => (*raw).to_owned(),
            (Some(_), _) => "null".to_owned(),
        };
        let received = || Cell::Time(event.received);
        [
            Cell::Text(Self::id_of(&event.id)),
            Cell::Text(event.id.to_string()),
            text(&values[1]),
            Cell::Text(payload),
            Cell::Text(NotificationStatus::Queued.as_str().to_owned()),
            Cell::Integer(0),
            Cell::Null,
            received(),
            received(),
            text(&values[0]),
            Cell::Text(self.message(values)),
            Cell::Text(self.reads.channel.clone()),
            received(),
        ]
    }

    fn message(&self, values: &[Value<'_>]) -> String {
        let wanted = self.wanted();
        let mut message = String::new();
        for part in &self.reads.message {
            match part {
                MessagePart::Words(words) => message.push_str(words),
                MessagePart::Field(field) => {
                    let index = wanted.iter().position(|wanted| wanted == field);
                    if let Some(value) = index.and_then(|index| values.get(index)) {
                        push_value(&mut message, value);
                    }
                }
            }
        }
        message
    }

    /// Adds a row. Consecutive rows with the same verb are written together.
    fn write<const N: usize>(&self, folded: &mut Folded, verb: Verb, row: [Cell; N]) {
        match folded.writes.last_mut() {
            Some(write) if write.verb == verb => write.cells.extend(row),
            _ => {
                let table = if verb == Verb::Remove { &self.queued } else { &self.table };
                folded.writes.push(Write { table: table.clone(), verb, cells: row.into() });
            }
        }
    }
}

/// Appends a value as readable text. An absent value appends nothing.
fn push_value(into: &mut String, value: &Value<'_>) {
    // Writing to a `String` does not fail.
    let _ = match value {
        Value::Absent => Ok(()),
        Value::Text(text) => into.write_str(text),
        Value::Any(raw) => into.write_str(raw),
        Value::Integer(value) => write!(into, "{value}"),
        Value::Decimal(value) => write!(into, "{value}"),
        Value::Boolean(value) => write!(into, "{value}"),
        Value::Time(value) => into.write_str(&value.to_text()),
    };
}

#[cfg(test)]
mod tests {
    use event::{EventId, Field, Kind, Millis};

    use super::*;
    use crate::views::notifications::NotificationFields;

    fn stream() -> Fields {
        let field =
            |name: &str, kind, required| Field { name: name.to_owned(), kind, required, one_of: Vec::new() };
        let fields = vec![
            field("payload", Kind::Any, false),
            field("payload.email", Kind::text(50), true),
            field("payload.sum", Kind::AMOUNT, false),
            field("sort", Kind::text(9), true),
        ];
        Fields::new(fields, 1)
    }

    fn notifications(payload: Option<usize>) -> Notifications {
        let message = vec![
            MessagePart::Words("Thanks for ".to_owned()),
            MessagePart::Field(2),
            MessagePart::Words("!".to_owned()),
        ];
        Notifications::new(
            "outbox",
            NotificationFields { to: 1, event_type: 3, payload, message, channel: "log".to_owned() },
        )
    }

    fn event(number: u8, text: &str, corrects: Option<u64>) -> Event<'_> {
        Event {
            position: 0,
            id: EventId::from_bytes([number; 16]),
            text: text.into(),
            received: Millis(5),
            sent_from: Default::default(),
            retry_of: None,
            corrects,
        }
    }

    const ORDER: &str = r#"{"sort":"order","payload":{"email":"a@b.c","sum":10.50}}"#;

    #[test]
    fn a_notification_is_queued_with_an_unchanged_payload() {
        let folded = notifications(Some(0)).fold(&stream(), &[event(7, ORDER, None)]);
        let [write] = folded.writes.as_slice() else { panic!("{folded:?}", folded = folded.writes) };
        let text = |text: &str| Cell::Text(text.to_owned());
        let id = "07070707-0707-0707-0707-070707070707";
        let time = || Cell::Time(Millis(5));
        let row = [
            text(&format!("notif-{id}")),
            text(id),
            text("order"),
            text(r#"{"email":"a@b.c","sum":10.50}"#),
            text("QUEUED"),
            Cell::Integer(0),
            Cell::Null,
            time(),
            time(),
            text("a@b.c"),
            text("Thanks for 10.5!"),
            text("log"),
            time(),
        ];
        assert_eq!((write.verb, write.cells.as_slice()), (Verb::InsertNew, row.as_slice()));
        let whole = notifications(None).fold(&stream(), &[event(7, ORDER, None)]);
        assert_eq!(whole.writes[0].cells[3], text(ORDER));
    }

    #[test]
    fn corrections_keep_the_order_of_the_log_and_unreadable_events_are_refused() {
        let events = [
            event(1, ORDER, None),
            event(2, ORDER, None),
            event(1, ORDER, Some(0)),
            event(2, ORDER, Some(1)),
            event(1, ORDER, None),
            event(3, r#"{"sort":"order"}"#, None),
        ];
        let folded = notifications(None).fold(&stream(), &events);
        let written: Vec<(Verb, usize)> = folded
            .writes
            .iter()
            .map(|write| (write.verb, write.cells.len() / write.table.columns.len()))
            .collect();
        assert_eq!(written, [(Verb::InsertNew, 2), (Verb::Remove, 2), (Verb::InsertNew, 1)]);
        assert_eq!(folded.refused.len(), 1);
        assert!(folded.refused[0].1.contains("payload.email"), "{:?}", folded.refused);
    }
}
