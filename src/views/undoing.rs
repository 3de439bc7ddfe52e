//! Finds what a view has to undo for a correction. Usually that is the corrected event itself. If the view could not
//! apply the event at first, and its dead letter was retried unchanged, the view undoes the retry: exactly what it
//! applied.
//!
//! An erasure corrects an event and the retry of its dead letter separately. The first of the two corrections that the
//! view applies undoes the retry, and the other one has no effect.

use std::borrow::Cow;
use std::cell::RefCell;

use event::{EventId, LogId};
use tokio::runtime::Handle;

use super::batch::{BatchError, Event, EventSender};
use crate::log::{LogReader, ReadError};
use crate::store::{DEDUP_STORED_NAME, DeadLetter, NewDeadLetter, Store, StoreError};

/// Everything that is needed to find what a view has to undo.
pub struct Undoing<'a> {
    pub view: &'a str,
    pub log: LogId,
    pub store: &'a Store,
    pub runtime: &'a Handle,
    /// Reads the corrected events. They may be far from the batch.
    pub reader: &'a RefCell<LogReader>,
}

/// An event that the log holds, as a correction of it sees it.
struct LoggedEvent {
    event: Event<'static>,
    /// The view's dead letter of which the event is a retry.
    retry_of: Option<EventId>,
}

impl Undoing<'_> {
    /// Returns what the view has to undo for the correction at `by` of the event at `target`. Returns `None` if there
    /// is nothing to undo: the view never applied the event, the event is erased or deleted, or it is undone already.
    pub fn event(&self, target: u64, by: u64) -> Result<Option<Event<'static>>, BatchError> {
        if self.passed(target)? {
            return self.retry(target, by);
        }
        let Some(LoggedEvent { mut event, retry_of }) = self.logged(target, by)? else { return Ok(None) };
        if let Some(id) = retry_of
            && let Some(dead_letter) = self.runtime.block_on(self.store.dead_letter(id))?
        {
            event.id = dead_letter.event_id;
            let original = dead_letter.position;
            let unchanged =
                dead_letter.log == self.log && self.text(original)?.as_deref() == Some(&event.text);
            if unchanged && self.undone_before(original, by)? {
                return Ok(None);
            }
        }
        Ok(Some(event))
    }

    /// Returns whether the view undid the retry at `position` because the original event of its dead letter was
    /// corrected. `applied` is the position of the view.
    pub fn undid_retry(&self, retry: &Event<'_>, applied: u64) -> Result<bool, BatchError> {
        let Some(id) = retry.retry_of else { return Ok(false) };
        let dead_letter = self.runtime.block_on(self.store.dead_letter(id))?;
        let Some(DeadLetter { position, .. }) = dead_letter.filter(|letter| letter.log == self.log) else {
            return Ok(false);
        };
        let unchanged = self.text(position)?.as_deref() == Some(&retry.text);
        Ok(unchanged && self.undone_before(position, applied)?)
    }

    /// Returns the retry that the view applied in place of the event at `target`, which it had passed over.
    fn retry(&self, target: u64, by: u64) -> Result<Option<Event<'static>>, BatchError> {
        let id = NewDeadLetter::id(self.view, self.log, target);
        let Some(dead_letter) = self.runtime.block_on(self.store.dead_letter(id))? else { return Ok(None) };
        let retry = self.runtime.block_on(self.store.retry_position(&dead_letter))?;
        let Some((_, retry)) = retry.filter(|(log, retry)| *log == self.log && *retry < by) else {
            return Ok(None);
        };
        if self.passed(retry)? || self.undone_before(retry, by)? {
            return Ok(None);
        }
        let Some(LoggedEvent { event, .. }) = self.logged(retry, by)? else { return Ok(None) };
        let unchanged = self.text(target)?.as_deref() == Some(&event.text);
        Ok(unchanged.then_some(Event { id: dead_letter.event_id, ..event }))
    }

    /// Returns whether the view passed over the event at `position` because it could not apply it.
    fn passed(&self, position: u64) -> Result<bool, StoreError> {
        let passed = self.store.passed_positions(self.view, self.log, position, position + 1);
        self.runtime.block_on(passed).map(|passed| !passed.is_empty())
    }

    /// Returns whether a correction before position `before` corrects the event at `position`, and the view could
    /// apply that correction.
    fn undone_before(&self, position: u64, before: u64) -> Result<bool, StoreError> {
        let by = self.runtime.block_on(self.store.corrected_by(self.log, position))?;
        match by.filter(|by| *by < before) {
            Some(by) => self.passed(by).map(|passed| !passed),
            None => Ok(false),
        }
    }

    fn text(&self, position: u64) -> Result<Option<Cow<'static, str>>, ReadError> {
        Ok(self.logged(position, position)?.map(|logged| logged.event.text))
    }

    /// Reads the event at `target`, which the correction at `by` undoes. Returns `None` if the event was erased or
    /// deleted by retention, or is a retry of another view's dead letter.
    fn logged(&self, target: u64, by: u64) -> Result<Option<LoggedEvent>, ReadError> {
        let mut reader = self.reader.borrow_mut();
        let records = match reader.read(target, 1) {
            Err(ReadError::BelowBegin { .. }) => return Ok(None),
            records => records?,
        };
        for record in records.iter() {
            let record = record?;
            let Some(header) = &record.header else { continue };
            let retry = header.retry.filter(|retry| retry.view != DEDUP_STORED_NAME);
            if retry.is_some_and(|retry| retry.view != self.view) {
                continue;
            }
            for entry in record.entries() {
                let (at, entry) = entry.map_err(|error| ReadError::Damaged(error.to_string()))?;
                if at != target || entry.erased() {
                    continue;
                }
                let event = Event {
                    position: by,
                    id: entry.client.map_or_else(|| EventId::at(self.log, target), |(id, _)| id),
                    text: Cow::Owned(entry.text.to_owned()),
                    received: header.received,
                    // No fold reads it from an event that is undone.
                    sent_from: EventSender::default(),
                    retry_of: None,
                    corrects: Some(target),
                };
                return Ok(Some(LoggedEvent { event, retry_of: retry.map(|retry| retry.dead_letter) }));
            }
        }
        Ok(None)
    }
}
