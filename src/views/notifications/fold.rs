//! Folds events into notifications: each event queues one. A correction removes the notification of the event that it
//! undoes, unless an attempt to deliver it has begun. Changes keep the order of the log, because an id may occur again after its
//! event was undone. The fold uses no I/O and no clock.

use std::fmt::Write as _;
use std::sync::Arc;

use event::limits::{CONTENT_BYTES_MAX, CONTENTS_TOGETHER_BYTES_MAX};
use event::{Fields, Millis, Value};

use super::{ID_PREFIX, MessagePart, Notifications, Recipient};
use crate::destinations::{Destination, Notice};
use crate::store::{
    Cell, NewDelivery, NotificationChange, NotificationChanges, NotificationStatus, QueuedNotification,
};
use crate::views::{Event, Folded};

/// What a notification is made of, besides the values of its fields.
struct EventOfNotification<'a> {
    /// The id of the notification.
    id: &'a str,
    position: u64,
    received: Millis,
    text: &'a str,
}

impl Notifications {
    pub fn fold(&self, view: &str, fields: &Fields, events: &[Event<'_>]) -> Folded {
        let (wanted, mut values) = (self.wanted(), Vec::new());
        let (mut changes, mut refused) = (Vec::with_capacity(events.len()), Vec::new());
        let mut bytes = 0;
        for (index, event) in events.iter().enumerate() {
            if bytes > CONTENTS_TOGETHER_BYTES_MAX {
                return Folded { is_too_large: true, ..Folded::default() };
            }
            let id = Self::id_of(&event.id);
            if event.corrects.is_some() {
                changes.push(NotificationChange::Cancel { id });
                continue;
            }
            if let Err(error) = fields.read(&event.text, &wanted, &mut values) {
                refused.push((index, error.to_string()));
                continue;
            }
            let (values, of_filter) = values.split_at(wanted.len() - self.reads.filter.fields().len());
            if self.reads.filter.matches(of_filter) {
                let source = EventOfNotification {
                    id: &id,
                    position: event.position,
                    received: event.received,
                    text: &event.text,
                };
                match self.queued(view, &source, values) {
                    Ok(notification) => {
                        let contents = notification.deliveries.iter().map(|delivery| delivery.content.len());
                        bytes += contents.sum::<usize>();
                        changes.push(NotificationChange::Queue(notification));
                    }
                    Err(reason) => refused.push((index, reason)),
                }
            }
        }
        let notifications = NotificationChanges { tables: self.tables.clone(), changes };
        Folded { notifications: Some(notifications), refused, ..Folded::default() }
    }

    /// Returns the fields to read: the type, the recipient and the payload if they are fields, those of the message, and
    /// at the end those of the filter.
    pub(super) fn wanted(&self) -> Vec<usize> {
        let mut wanted = vec![self.reads.event_type];
        if let Recipient::Field(field) = &self.reads.to {
            wanted.push(*field);
        }
        wanted.extend(self.reads.payload);
        for part in &self.reads.message {
            if let MessagePart::Field(field) = part
                && !wanted.contains(field)
            {
                wanted.push(*field);
            }
        }
        wanted.extend(self.reads.filter.fields());
        wanted
    }

    /// Returns whether an event passes the filter, and so has a notification.
    pub fn notifies(&self, fields: &Fields, text: &str) -> bool {
        let mut values = Vec::new();
        // An event that cannot be read has a dead letter, and is not passed here.
        let read = fields.read(text, self.reads.filter.fields(), &mut values);
        read.is_ok() && self.reads.filter.matches(&values)
    }

    /// Makes the notification `id` of an edited event, whether it matches the filter or not.
    pub fn edited(
        &self,
        view: &str,
        fields: &Fields,
        text: &str,
        (id, position, received): (&str, u64, Millis),
    ) -> Result<QueuedNotification, String> {
        let (wanted, mut values) = (self.wanted(), Vec::new());
        fields.read(text, &wanted, &mut values).map_err(|error| error.to_string())?;
        let source = EventOfNotification { id, position, received, text };
        self.queued(view, &source, &values[..wanted.len() - self.reads.filter.fields().len()])
    }

    fn queued(
        &self,
        view: &str,
        source: &EventOfNotification<'_>,
        values: &[Value<'_>],
    ) -> Result<QueuedNotification, String> {
        let row = self.row(source, values);
        let deliveries = self.deliveries(view, source, &row)?;
        Ok(QueuedNotification {
            id: source.id.to_owned(),
            position: source.position,
            row: row.into(),
            deliveries,
        })
    }

    fn row(&self, source: &EventOfNotification<'_>, values: &[Value<'_>]) -> [Cell; 13] {
        let text = |value: &Value<'_>| {
            let mut text = String::new();
            push_value(&mut text, value);
            text
        };
        let (recipient, payload_at) = match &self.reads.to {
            Recipient::Field(_) => (text(&values[1]), 2),
            Recipient::Fixed(recipient) => (recipient.clone(), 1),
        };
        let payload = match (self.reads.payload, values.get(payload_at)) {
            (None, _) => source.text.to_owned(),
            (Some(_), Some(Value::Any(raw))) => (*raw).to_owned(),
            (Some(_), _) => "null".to_owned(),
        };
        let received = || Cell::Time(source.received);
        let event_id = source.id.strip_prefix(ID_PREFIX).unwrap_or(source.id);
        [
            Cell::Text(source.id.to_owned()),
            Cell::Text(event_id.to_owned()),
            Cell::Text(text(&values[0])),
            Cell::Text(payload),
            Cell::Text(NotificationStatus::Queued.as_str().to_owned()),
            Cell::Integer(0),
            Cell::Null,
            received(),
            received(),
            Cell::Text(recipient),
            Cell::Text(self.message(values)),
            Cell::Text(self.channel()),
            received(),
        ]
    }

    /// Renders the notification for each destination.
    fn deliveries(
        &self,
        view: &str,
        source: &EventOfNotification<'_>,
        row: &[Cell; 13],
    ) -> Result<Vec<NewDelivery>, String> {
        let text = |index: usize| match &row[index] {
            Cell::Text(text) => text.as_str(),
            _ => "",
        };
        let notice = Notice {
            id: text(0),
            event_id: text(1),
            event_type: text(2),
            payload: text(3),
            recipient: text(9),
            message: text(10),
            view,
            created: source.received,
            event: source.text,
        };
        let delivery = |destination: &Arc<Destination>| {
            let content = destination.render(&notice)?;
            let lane = match content.host().filter(|_| destination.has_many_hosts()) {
                Some(host) => format!("{} {host}", destination.name),
                None => destination.name.clone(),
            };
            let content = serde_json::to_string(&content).map_err(|error| error.to_string())?;
            if content.len() > CONTENT_BYTES_MAX {
                return Err(format!(
                    "destination `{}`, the notification is larger than {CONTENT_BYTES_MAX} bytes",
                    destination.name
                ));
            }
            Ok(NewDelivery { destination: destination.name.clone(), lane, content })
        };
        self.destinations.iter().map(delivery).collect()
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
    use event::{EventId, Field, Kind};

    use super::*;
    use crate::destinations::RetrySchedule;
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
        let filter = event::Filter::default();
        let reads = NotificationFields { to: Recipient::Field(1), event_type: 3, payload, message, filter };
        Notifications::new("outbox", reads, vec![Arc::new(Destination::log(RetrySchedule::default()))])
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

    fn queued(payload: Option<usize>, events: &[Event<'_>]) -> Vec<NotificationChange> {
        let folded = notifications(payload).fold("v", &stream(), events);
        folded.notifications.expect("changes").changes
    }

    const ORDER: &str = r#"{"sort":"order","payload":{"email":"a@b.c","sum":10.50}}"#;

    #[test]
    fn a_notification_is_queued_with_an_unchanged_payload() {
        let folded = queued(Some(0), &[event(7, ORDER, None)]);
        let [NotificationChange::Queue(one)] = folded.as_slice() else { panic!("{folded:?}") };
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
        assert_eq!(one.row, row);
        let content = r#"{"kind":"log","type":"order","recipient":"a@b.c","message":"Thanks for 10.5!"}"#;
        let name = || "log".to_owned();
        assert_eq!(
            one.deliveries,
            [NewDelivery { destination: name(), lane: name(), content: content.to_owned() }]
        );
        let whole = queued(None, &[event(7, ORDER, None)]);
        assert!(matches!(&whole[0], NotificationChange::Queue(one) if one.row[3] == text(ORDER)));
    }

    #[test]
    fn events_whose_notifications_are_too_large_together_are_folded_in_smaller_parts() {
        let mut large = notifications(None);
        large.reads.message.push(MessagePart::Words("a".repeat(100_000)));
        let events: Vec<Event<'_>> = (0..100).map(|number| event(number, ORDER, None)).collect();
        let fold = |events| large.fold("v", &stream(), events).is_too_large;
        assert!(fold(&events));
        assert!(!fold(&events[..50]) && !fold(&events[50..]) && !fold(&events[..1]));
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
        let folded = notifications(None).fold("v", &stream(), &events);
        let changes = folded.notifications.expect("changes").changes;
        let queues: Vec<bool> =
            changes.iter().map(|change| matches!(change, NotificationChange::Queue(_))).collect();
        assert_eq!(queues, [true, true, false, false, true]);
        assert_eq!(folded.refused.len(), 1);
        assert!(folded.refused[0].1.contains("payload.email"), "{:?}", folded.refused);
    }
}
