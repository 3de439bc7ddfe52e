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
}

/// Some events of a stream, in the order of the log.
pub struct StreamPage {
    pub events: Vec<EventBody>,
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
        Ok(Self { stream: stream.to_owned(), value })
    }

    /// Returns a filter that selects all events of the stream.
    pub fn without_value(&self) -> Self {
        Self { stream: self.stream.clone(), value: None }
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
                let Some(header) = ours.filter(|_| at >= begun && filter.matches(entry.text)) else {
                    continue;
                };
                shown += entry.text.len();
                if page.events.len() == events_max || (shown > bytes_max && !page.events.is_empty()) {
                    return Ok(page);
                }
                page.events.push(EventBody::of(log.id(), at, header, &entry));
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
