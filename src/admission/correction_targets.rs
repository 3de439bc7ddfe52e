//! What a correction takes back. It is found, and looked at, before the correction is let in: so that no
//! view has to ask whether there is such an event, and whoever sends a correction learns what is wrong.

use event::limits::{DEDUP_WAIT_DURATION_MAX, LOG_LOOKS_AT_ONCE_MAX};
use event::{EventId, Progress};
use tokio::sync::Semaphore;

use super::{IdScope, Refusal};
use crate::log::{Correcting, EventLog, HistoryHeld, ReadError};
use crate::store::{DeadLetterStatus, Store};

/// Finds events by the ids that people know them by.
pub struct CorrectionTargets {
    log: EventLog,
    store: Store,
    progress: Progress,
    turns: Semaphore,
}

/// What is found stays as it is until this is dropped.
pub struct TargetsHeld {
    _past: HistoryHeld,
    _taking_back: Correcting,
}

/// What there is at a position.
struct CorrectionTarget {
    stream: String,
    client: Option<EventId>,
    correction: bool,
    letter: bool,
    erased: bool,
    /// It is the only event of its request.
    alone: bool,
}

const NOT_THERE: &str = "is no event of this stream";
const OF_SEVERAL: &str = "is the `Idempotency-Key` of lines or of several events; use the event's own id";

impl CorrectionTargets {
    pub fn new(log: EventLog, store: Store, progress: Progress) -> Self {
        Self { log, store, progress, turns: Semaphore::new(LOG_LOOKS_AT_ONCE_MAX) }
    }

    /// To be held from before a target is looked up until the correction is in the log: what was found is not
    /// given up in between, nor a letter of it sent again.
    pub async fn held(&self) -> TargetsHeld {
        let taking_back = self.log.correction_lock().take_back().await;
        TargetsHeld { _taking_back: taking_back, _past: self.log.history_lock().hold().await }
    }

    /// To be awaited before ids are looked up: what was acknowledged is known by its id once the gate has
    /// come to it.
    pub async fn settled(&self) -> Result<(), Refusal> {
        match self.progress.dedup_reached(self.log.end(), DEDUP_WAIT_DURATION_MAX).await {
            true => Ok(()),
            false => Err(Refusal::dedup_behind()),
        }
    }

    /// The position of the event that may be taken back by this id: an event's own, its client's, or the
    /// `Idempotency-Key` that it came under alone. The inner error says why not.
    pub async fn position(&self, ids: IdScope<'_>, id: &str) -> Result<Result<u64, String>, Refusal> {
        let named = match self.named(ids, id).await? {
            Some(named) => named,
            None => match self.named_by_key(ids, id).await? {
                Ok(named) => named,
                Err(reason) => return Ok(Err(reason.to_owned())),
            },
        };
        let Some(found) = self.look(named).await? else { return Ok(Err(NOT_THERE.to_owned())) };
        // One that was sent again under its id counts at its first place only.
        let (position, found) = match found.client {
            Some(client) => match self.first(client).await? {
                Some(first) if first != named => match self.look(first).await? {
                    Some(found) => (first, found),
                    None => return Ok(Err(NOT_THERE.to_owned())),
                },
                _ => (named, found),
            },
            None => (named, found),
        };
        let reason = match found {
            found if found.stream != ids.stream => NOT_THERE,
            CorrectionTarget { correction: true, .. } => "is a correction itself, and stays",
            CorrectionTarget { letter: true, .. } => {
                "is a dead letter sent again; the event that it was has an id of its own"
            }
            CorrectionTarget { erased: true, .. } => "is erased",
            _ if self.store.skipped(self.log.id(), position).await?.is_some() => {
                "is a repeat that never counted; take back the first of them"
            }
            _ if self.was_mended(position).await? => {
                "was a dead letter and applied when it was sent again; send what makes up for it"
            }
            _ => return Ok(Ok(position)),
        };
        Ok(Err(reason.to_owned()))
    }

    /// Where the event with this id is, as far as ids tell.
    async fn named(&self, ids: IdScope<'_>, text: &str) -> Result<Option<u64>, Refusal> {
        if let Ok(id) = text.parse::<EventId>() {
            if let Some(position) = id.position_in(self.log.id()) {
                return Ok(Some(position));
            }
            if let Some(position) = self.first(id).await? {
                return Ok(Some(position));
            }
        }
        self.first(ids.event(text)).await
    }

    /// The place of the event that a request under this `Idempotency-Key` brought, if it was a single one.
    async fn named_by_key(&self, ids: IdScope<'_>, key: &str) -> Result<Result<u64, &'static str>, Refusal> {
        let at = |index| self.first(ids.event_by_key(key, index));
        if let Some(position) = at(0).await? {
            let alone = self.look(position).await?.is_some_and(|found| found.alone);
            return Ok(if alone { Ok(position) } else { Err(OF_SEVERAL) });
        }
        // The first of them had an id of its own.
        if at(1).await?.is_some() {
            return Ok(Err(OF_SEVERAL));
        }
        let lines = self.store.upload_lines(ids.upload_by_key(key), 0, 1).await?;
        Ok(Err(if lines.is_empty() { NOT_THERE } else { OF_SEVERAL }))
    }

    async fn first(&self, id: EventId) -> Result<Option<u64>, Refusal> {
        let first = self.store.first_position(id).await?;
        Ok(first.filter(|(log, _)| *log == self.log.id()).map(|(_, position)| position))
    }

    /// A letter that views have, or will have, in the text it was mended to.
    async fn was_mended(&self, position: u64) -> Result<bool, Refusal> {
        let dead_letters = self.store.dead_letters_at(self.log.id(), position).await?;
        Ok(dead_letters
            .iter()
            .any(|letter| matches!(letter.status, DeadLetterStatus::Applied | DeadLetterStatus::Retrying)))
    }

    async fn look(&self, position: u64) -> Result<Option<CorrectionTarget>, Refusal> {
        if position < self.log.begin() || position >= self.log.end() {
            return Ok(None);
        }
        let _turn = self.turns.acquire().await.map_err(|_| Refusal::Stopping)?;
        let log = self.log.clone();
        let read = tokio::task::spawn_blocking(move || look(&log, position)).await;
        Ok(read.unwrap_or(Ok(None))?)
    }
}

fn look(log: &EventLog, wanted: u64) -> Result<Option<CorrectionTarget>, ReadError> {
    let mut reader = log.reader();
    for record in reader.read(wanted, 1)?.iter() {
        let record = record?;
        let Some(header) = &record.header else { continue };
        for (position, entry) in record.entries().flatten() {
            if position == wanted {
                return Ok(Some(CorrectionTarget {
                    stream: header.stream.to_owned(),
                    client: entry.client.map(|(id, _)| id),
                    correction: entry.corrects.is_some(),
                    letter: header.retry.is_some(),
                    erased: entry.erased(),
                    alone: record.count == 1,
                }));
            }
        }
    }
    Ok(None)
}
