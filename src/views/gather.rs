//! Gathers the waiting events of a view into one batch. They may be far apart in the log, because other streams lie
//! between them, which are not read.

use std::borrow::Cow;

use event::limits::{BATCH_BYTES_MAX, WAITING_READ_BYTES_MAX};

use super::batch::{Batch, BatchError, BatchLimits, BatchReader, Event, Wanted};
use super::batch_timing::Waiting;

impl BatchReader {
    /// Returns a batch of up to `events_max` waiting events. It has fewer if their texts are too large for one batch.
    /// It also ends before corrections and retried dead letters, which are read relative to the begin of their batch.
    pub fn gather(
        &mut self,
        wanted: Wanted<'_>,
        waiting: &Waiting,
        events_max: usize,
    ) -> Result<Batch<'static>, BatchError> {
        let begin = waiting.begin();
        let mut whole = self.piece(wanted, begin, waiting.counted(), events_max)?;
        let mut bytes = text_bytes(&whole);
        while whole.plain && whole.events.len() < events_max && bytes < BATCH_BYTES_MAX {
            let Some(next) = waiting.next_from(whole.span.end) else { break };
            let piece = self.piece(wanted, next, waiting.counted(), events_max - whole.events.len())?;
            if !piece.plain {
                break;
            }
            bytes += text_bytes(&piece);
            whole.append(piece);
        }
        Ok(whole)
    }

    fn piece(
        &mut self,
        wanted: Wanted<'_>,
        from: u64,
        until: u64,
        events_max: usize,
    ) -> Result<Batch<'static>, BatchError> {
        let read = self.records(from, WAITING_READ_BYTES_MAX)?;
        Ok(read.batch(wanted, BatchLimits { until, events_max })?.into_owned())
    }
}

fn text_bytes(batch: &Batch<'_>) -> usize {
    batch.events.iter().map(|event| event.text.len()).sum()
}

impl Batch<'_> {
    fn into_owned(self) -> Batch<'static> {
        let Self { events, span, hole, plain, traces } = self;
        let owned = |event: Event<'_>| Event {
            position: event.position,
            id: event.id,
            text: Cow::Owned(event.text.into_owned()),
            received: event.received,
            sent_from: event.sent_from.into_owned(),
            retry_of: event.retry_of,
            corrects: event.corrects,
        };
        Batch { events: events.into_iter().map(owned).collect(), span, hole, plain, traces }
    }
}

impl Batch<'static> {
    /// Adds the events of a later batch. Between the two there are only events of other streams.
    fn append(&mut self, later: Self) {
        self.events.extend(later.events);
        self.span.end = later.span.end;
        self.hole = self.hole.or(later.hole);
        self.plain &= later.plain;
        self.traces.append(later.traces);
    }
}
