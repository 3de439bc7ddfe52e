//! Admission: the decision about events and their senders, without a transport. Every way in offers its events here;
//! each is admitted and appended to the log, or refused with all its faults. Nothing of a refused event is stored.

mod access_keys;
mod check_event;
mod correction_targets;
mod corrections;
mod first_key;
mod id_scope;
mod key;
mod key_cache;
mod key_watch;
mod last_use;
mod reader;
mod recent_ids;
mod refusal;
mod stored_keys;
mod unapplied;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use event::limits::QUICK_BODY_BYTES_MAX;
use event::{EventId, Fields, Millis, Progress, SentFrom};

use crate::log::{Entry, EventLog, Header, RecordBuilder, Shape};
use crate::store::Store;

pub use access_keys::{KeyError, Keys, weak_key};
pub use check_event::{Checked, CheckedEvent, EventChecker, Offer, OfferName, expect_distinct};
pub use correction_targets::{CorrectionTargets, TargetGuard};
pub use corrections::Corrections;
pub use id_scope::{EventName, IdScope, ScopeName};
pub use key::{Credentials, HeldKey, Key, NewKey, Scope};
pub use key_watch::{KeyWatch, next_revocation};
pub use reader::{Grant, Reader, Watched};
pub use recent_ids::{Durable, RecentIds};
pub use refusal::{Denied, EventFault, EventIndex, KeyFault, Refusal};
pub use unapplied::{NotApplied, WrittenEvents};

pub use crate::log::UploadLines;
pub use crate::store::DeadLetterSummary;

/// All that admission needs.
pub struct Admission {
    pub keys: Keys,
    pub log: EventLog,
    pub streams: BTreeMap<String, StreamIntake>,
    pub progress: Progress,
    pub recent_ids: RecentIds,
    pub correction_targets: CorrectionTargets,
}

/// A declared stream and its counter of accepted events.
pub struct StreamIntake {
    pub fields: Arc<Fields>,
    accepted: metrics::Counter,
}

impl StreamIntake {
    pub fn new(name: &str, fields: &Arc<Fields>) -> Self {
        let accepted = metrics::counter!("millrace_accepted_total", "stream" => name.to_owned());
        Self { fields: Arc::clone(fields), accepted }
    }
}

/// The circumstances of a request, besides its events.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The stream, and the scope in which the sender's ids are unique.
    pub ids: IdScope<'a>,
    /// How long ids are remembered, if the source says so.
    pub window: Option<Duration>,
    pub sent_from: SentFrom<'a>,
    /// The W3C trace context.
    pub trace: Option<&'a str>,
    /// Names all events of the request that have no id. An event whose `id` differs is refused.
    pub idempotency_key: Option<&'a str>,
}

/// The position of the first appended event, and the ids of all of them.
#[derive(Debug)]
pub struct Appended {
    pub position: u64,
    pub ids: Vec<EventId>,
    /// The indexes of events that are certainly repeats.
    pub repeats: Vec<usize>,
}

/// One admitted event.
pub struct Admitted {
    pub id: EventId,
    /// The event is certainly a repeat. Otherwise it may be one that is not recognised yet.
    pub repeat: bool,
}

/// Events that are ready to be appended.
pub struct EncodedEvents(RecordBuilder);

impl EncodedEvents {
    pub fn count(&self) -> u64 {
        u64::from(self.0.count())
    }
}

impl Admission {
    /// Returns the declared fields of a stream.
    pub fn fields(&self, stream: &str) -> Result<&Fields, Refusal> {
        self.stream(stream).map(|stream| stream.fields.as_ref())
    }

    fn store(&self) -> &Store {
        self.recent_ids.store()
    }

    fn stream(&self, name: &str) -> Result<&StreamIntake, Refusal> {
        self.streams.get(name).ok_or_else(|| Refusal::NotFound(format!("there is no stream `{name}`")))
    }

    /// Admits one event and appends it: the short way for sources that bring one event a request.
    pub async fn admit_one(&self, context: &Context<'_>, offer: Offer<'_, '_>) -> Result<Admitted, Refusal> {
        self.queue_one(context, offer).await?.await
    }

    /// Admits one event, which has its place in the log's order then. Returns a future that waits until it is durable.
    pub async fn queue_one<'a>(
        &'a self,
        context: &'a Context<'a>,
        offer: Offer<'_, '_>,
    ) -> Result<impl Future<Output = Result<Admitted, Refusal>> + 'a, Refusal> {
        let stream = self.stream(context.ids.stream)?;
        let name = check_event::name_of(&stream.fields, context, 0, offer)?;
        if let Some(name) = name {
            self.expect_unused(std::iter::once(name)).await?;
        }
        let shape = Shape { ids: name.is_some(), ..Shape::default() };
        let header = context.header(shape, None);
        let mut record = RecordBuilder::new(&header, shape, offer.text.len());
        record.push(&Entry { client: name, text: offer.text, ..Entry::default() });
        let (append, received) = (self.log.append(&record), header.received);
        Ok(async move {
            let position = append.await?;
            self.count_accepted(context, position, 1);
            Ok(match name {
                Some(name) => {
                    let durable = Durable { position, received, window: context.window };
                    Admitted {
                        id: name.0,
                        repeat: self.recent_ids.note(name, durable, self.progress.skipped()),
                    }
                }
                None => Admitted { id: EventId::at(self.log.id(), position), repeat: false },
            })
        })
    }

    /// Appends checked events as one record, and waits until it is durable. `corrections` are those among them.
    pub async fn append(
        &self,
        context: &Context<'_>,
        checked: &Checked<'_>,
        corrections: Corrections,
    ) -> Result<Appended, Refusal> {
        self.queue(context, checked, corrections).await
    }

    /// Queues checked events for the log as one record, which has its place in the log's order then. Returns a future
    /// that waits until it is durable.
    pub fn queue<'a>(
        &'a self,
        context: &'a Context<'_>,
        checked: &'a Checked<'_>,
        corrections: Corrections,
    ) -> impl Future<Output = Result<Appended, Refusal>> + Send + 'a {
        let entries = &checked.entries;
        let bytes = entries.iter().map(|entry| entry.text.len()).sum();
        let (record, received) = run_sized(bytes, || context.record(entries, None));
        let append = self.log.append_holding(&record, corrections.into_lock());
        async move { Ok(self.appended(context, entries, received, append.await?)) }
    }

    fn appended(
        &self,
        context: &Context<'_>,
        entries: &[Entry<'_>],
        received: Millis,
        position: u64,
    ) -> Appended {
        self.count_accepted(context, position, entries.len() as u64);
        let mut repeats = Vec::new();
        let id = |(index, entry): (usize, &Entry<'_>)| {
            let at = position + index as u64;
            let Some(name) = entry.client else { return EventId::at(self.log.id(), at) };
            let durable = Durable { position: at, received, window: context.window };
            if self.recent_ids.note(name, durable, self.progress.skipped()) {
                repeats.push(index);
            }
            name.0
        };
        let ids = entries.iter().enumerate().map(id).collect();
        Appended { position, ids, repeats }
    }

    /// Encodes checked lines as one record; `None` if there are none. `upload` says which lines of a file they are.
    pub fn encode(
        &self,
        context: &Context<'_>,
        checked: &Checked<'_>,
        upload: Option<UploadLines>,
    ) -> Option<EncodedEvents> {
        (!checked.is_empty()).then(|| EncodedEvents(context.record(&checked.entries, upload).0))
    }

    /// Queues encoded events for the log at once, and returns a future that waits until they are durable. `corrections`
    /// are those among them.
    pub fn append_encoded(
        &self,
        events: &EncodedEvents,
        corrections: Corrections,
    ) -> impl Future<Output = Result<u64, Refusal>> + Send + use<> {
        let append = self.log.append_holding(&events.0, corrections.into_lock());
        async move { Ok(append.await?) }
    }

    /// Refuses a name that another event was given recently. The deduplicator knows all names, and turns what gets
    /// past this check into a dead letter.
    pub async fn expect_unused(&self, names: impl Iterator<Item = EventName>) -> Result<(), Refusal> {
        if self.recent_ids.conflict(names).await { Err(Refusal::id_reused()) } else { Ok(()) }
    }

    /// Counts events that are durable from `position` on.
    pub fn count_accepted(&self, context: &Context<'_>, position: u64, events: u64) {
        let stream = context.ids.stream;
        if let Some(intake) = self.streams.get(stream) {
            intake.accepted.increment(events);
        }
        tracing::debug!(stream, position, events, traceparent = context.trace, "accepted");
    }
}

/// Runs work whose time grows with `bytes`. Large work moves the thread's other requests to another thread first.
pub fn run_sized<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes > QUICK_BODY_BYTES_MAX { tokio::task::block_in_place(work) } else { work() }
}

impl<'a> Context<'a> {
    fn header(&self, shape: Shape, upload: Option<UploadLines>) -> Header<'a> {
        Header {
            stream: self.ids.stream,
            received: Millis::now(),
            sent_from: self.sent_from,
            upload,
            retry: None,
            trace: self.trace,
            window: self.window.filter(|_| shape.ids || shape.lines),
        }
    }

    /// Encodes a record, and returns it with its time of receipt.
    fn record(&self, entries: &[Entry<'_>], upload: Option<UploadLines>) -> (RecordBuilder, Millis) {
        let shape = Shape {
            ids: entries.iter().any(|entry| entry.client.is_some()),
            lines: upload.is_some(),
            corrections: entries.iter().any(|entry| entry.corrects.is_some()),
        };
        let bytes = entries.iter().map(|entry| entry.text.len() + 32).sum();
        let header = self.header(shape, upload);
        let mut record = RecordBuilder::new(&header, shape, bytes);
        entries.iter().for_each(|entry| record.push(entry));
        (record, header.received)
    }
}
