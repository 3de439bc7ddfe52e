//! Shows what a view would write for one event, without writing it.

use event::{EventId, Fields, Millis};
use serde_json::{Map, Value, json};

use super::{Event, View};
use crate::destinations::Content;
use crate::store::{Cell, CellRef, NotificationChange, Table};

impl View {
    /// Returns the rows that the view would write for an event, or the notification that it would queue. Fails with the
    /// reason if it could not apply the event.
    pub fn preview(&self, fields: &Fields, text: &str, id: EventId) -> Result<Value, String> {
        let event = Event {
            position: 0,
            id,
            text: text.into(),
            received: Millis::now(),
            sent_from: Default::default(),
            retry_of: None,
            corrects: None,
        };
        let folded = self.fold(fields, &[event]);
        if let Some((_, reason)) = folded.refused.into_iter().next() {
            return Err(reason);
        }
        let mut rows = Vec::new();
        for write in &folded.writes {
            rows.extend(write.rows().map(|row| shown(&write.table, row)));
        }
        if let Some(changes) = &folded.rows {
            let cells: Vec<Cell> = changes.added.cells().map(CellRef::to_cell).collect();
            rows.extend(
                cells.chunks_exact(changes.table.columns.len()).map(|row| shown(&changes.table, row)),
            );
        }
        for change in folded.notifications.iter().flat_map(|notifications| &notifications.changes) {
            if let NotificationChange::Queue(one) = change {
                let sent = one.deliveries.iter().map(|delivery| {
                    let content: Value =
                        serde_json::from_str(&Content::shown(&delivery.content)).unwrap_or_default();
                    (delivery.destination.clone(), content)
                });
                rows.push(json!({ "notification": one.id, "send": sent.collect::<Map<_, _>>() }));
            }
        }
        Ok(json!({ "write": rows }))
    }
}

fn shown(table: &Table, row: &[Cell]) -> Value {
    let columns = table.columns.iter().zip(row);
    let values = columns.map(|(column, cell)| (column.name.clone(), value(cell)));
    json!({ "table": table.name, "row": values.collect::<Map<_, _>>() })
}

/// Returns a value as JSON. Amounts are texts, so that they keep all their digits.
fn value(cell: &Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Text(text) => text.as_str().into(),
        Cell::Integer(number) => (*number).into(),
        Cell::Decimal(amount) => amount.to_string().into(),
        Cell::Time(time) => time.to_text().into(),
        Cell::Bytes(bytes) => event::hex(bytes).into(),
    }
}
