//! Reads the events of one stream from the log, page by page.

use std::sync::Arc;

use event::Fields;
use event::limits::{PAGE_BYTES_MAX, TAIL_READ_BYTES_MAX};

use super::event_body::EventBody;
use crate::log::{EventLog, ReadError};
use crate::views::ParameterError;

/// Selects events of a stream.
#[derive(Clone)]
pub struct EventFilter {
    pub stream: String,
    /// The fields, the index of one of them, and the value that it must have.
    value: Option<(Arc<Fields>, usize, String)>,
    /// A correction is selected if the event is that it undoes. Otherwise it is not, because it has no fields.
    with_corrections: bool,
}

/// An event, and the text by which it was selected.
pub struct StreamEvent {
    pub body: EventBody,
    pub selected_by: String,
}

/// Some events of a stream, in the order of the log.
pub struct StreamPage {
    pub events: Vec<StreamEvent>,
    /// The position to continue from.
    pub next: u64,
    /// The bytes of the log that were searched for them.
    pub scanned: usize,
}

impl EventFilter {
    /// Selects the events with this value in `field`, or in the stream's key; or all events.
    pub fn new(
        stream: &str,
        fields: &Arc<Fields>,
        field: Option<&str>,
        value: Option<&str>,
    ) -> Result<Self, ParameterError> {
        let invalid = |name, reason: &str| ParameterError { name, reason: reason.to_owned() };
        let no_field = || invalid("field", "is not a text or integer field of this stream");
        let index = match field {
            Some(name) => fields.index_of(name).ok_or_else(no_field)?,
            None => fields.key(),
        };
        let value = match value {
            Some(_) if !fields.get(index).is_identity() => return Err(no_field()),
            Some(value) => Some((Arc::clone(fields), index, value.to_owned())),
            None if field.is_some() => return Err(invalid("value", "is missing")),
            None => None,
        };
        Ok(Self { stream: stream.to_owned(), value, with_corrections: false })
    }

    /// Returns a filter that selects all events of the stream.
    pub fn without_value(&self) -> Self {
        Self { stream: self.stream.clone(), value: None, with_corrections: self.with_corrections }
    }

    /// Returns the same filter, which also selects the corrections of selected events.
    pub fn with_corrections(&self) -> Self {
        Self { with_corrections: true, ..self.clone() }
    }

    /// Returns whether the filter selects all events of the stream.
    pub fn selects_all(&self) -> bool {
        self.value.is_none()
    }

    pub fn matches(&self, text: &str) -> bool {
        self.value.as_ref().is_none_or(|(fields, field, value)| fields.has_value(text, *field, value))
    }
}

/// Reads up to `events_max` events from `from` on, with texts of about `bytes_max` bytes. Searches a bounded part of the
/// log, so a page may be empty although there are more events. Blocks on the disk.
pub fn stream_page(
    log: &EventLog,
    filter: &EventFilter,
    from: u64,
    events_max: usize,
    bytes_max: usize,
) -> Result<StreamPage, ReadError> {
    let (mut page, mut shown) = (StreamPage { events: Vec::new(), next: from, scanned: 0 }, 0);
    let mut reader = log.reader();
    // Small reads, so that a page of ten events does not cost megabytes.
    while page.scanned < PAGE_BYTES_MAX {
        let begun = page.next;
        for record in reader.read(begun, TAIL_READ_BYTES_MAX)?.iter() {
            let record = record?;
            let ours = record.header.as_ref().filter(|header| header.stream == filter.stream);
            for (at, entry) in record.entries().flatten() {
                page.scanned += entry.text.len();
                let Some(header) = ours.filter(|_| at >= begun) else { continue };
                let target = entry.corrects.filter(|_| filter.with_corrections);
                let target = target.map(|target| text_at(log, target).unwrap_or_default());
                let selected_by = target.as_deref().unwrap_or(entry.text);
                if !filter.matches(selected_by) {
                    continue;
                }
                shown += entry.text.len() + target.as_ref().map_or(0, String::len);
                page.scanned += target.as_ref().map_or(0, String::len);
                if page.events.len() == events_max || (shown > bytes_max && !page.events.is_empty()) {
                    return Ok(page);
                }
                let body = EventBody::of(log.id(), at, header, &entry);
                page.events.push(StreamEvent { body, selected_by: selected_by.to_owned() });
                page.next = at + 1;
            }
            page.next = record.end();
        }
        if page.next == begun {
            break;
        }
    }
    Ok(page)
}

/// Returns the text of the event at a position; `None` if it is not in the log any more.
fn text_at(log: &EventLog, position: u64) -> Option<String> {
    let mut reader = log.reader();
    let records = reader.read(position, 1).ok()?;
    let mut entries =
        records.iter().flatten().flat_map(|record| record.entries().flatten().collect::<Vec<_>>());
    entries.find(|(at, _)| *at == position).map(|(_, entry)| entry.text.to_owned())
}
