//! Finds the event that a correction undoes, before the correction is admitted. So views need not check whether the
//! event exists, and the sender of a correction learns why it is refused.

use event::limits::{DEDUP_WAIT_DURATION_MAX, LOG_LOOKUPS_AT_ONCE_MAX};
use event::{BodyHash, EventId, Progress};
use tokio::sync::Semaphore;

use super::{IdScope, Refusal};
use crate::log::{CorrectionGuard, EventLog, HistoryGuard, ReadError};
use crate::store::{DEDUP_STORED_NAME, DeadLetter, DeadLetterStatus, NewDeadLetter, Skipped, Store};

/// Finds events by the ids that clients use.
pub struct CorrectionTargets {
    log: EventLog,
    store: Store,
    progress: Progress,
    permits: Semaphore,
}

/// Prevents changes to the events that corrections undo, until it is dropped.
pub struct TargetGuard {
    _history: HistoryGuard,
    _correction: CorrectionGuard,
}

/// The event at a position.
struct CorrectionTarget {
    stream: String,
    client: Option<EventId>,
    correction: bool,
    /// It is a dead letter that was sent again.
    dead_letter: bool,
    erased: bool,
    /// It is the only event of its request.
    alone: bool,
    hash: BodyHash,
}

const NOT_FOUND: &str = "is not an event of this stream";
const IS_REPEAT: &str = "is a repeat, which never counted; correct the first event instead";
const OF_SEVERAL: &str = "is the `Idempotency-Key` of lines or of several events; use the event's own id";

impl CorrectionTargets {
    pub fn new(log: EventLog, store: Store, progress: Progress) -> Self {
        Self { log, store, progress, permits: Semaphore::new(LOG_LOOKUPS_AT_ONCE_MAX) }
    }

    /// Locks the events that corrections undo, so that retention does not delete them and their dead letters are not
    /// retried. The caller keeps the guard from before it looks an event up until the correction is in the log.
    pub async fn lock(&self) -> TargetGuard {
        let correction = self.log.correction_lock().lock_for_correction().await;
        TargetGuard { _correction: correction, _history: self.log.history_lock().hold().await }
    }

    /// Waits until the deduplicator has read all acknowledged events. Before that, an event may not be found by its
    /// id.
    pub async fn wait_for_dedup(&self) -> Result<(), Refusal> {
        if self.progress.dedup_reached(self.log.end(), DEDUP_WAIT_DURATION_MAX).await {
            Ok(())
        } else {
            Err(Refusal::dedup_behind())
        }
    }

    /// Returns the position of the event that a correction with this id undoes. The id is the event's own, its
    /// client's, or the `Idempotency-Key` of a request with one event. The inner error says why the event cannot be
    /// corrected.
    pub async fn position(&self, ids: IdScope<'_>, id: &str) -> Result<Result<u64, String>, Refusal> {
        let named = match self.named(ids, id).await? {
            Some(named) => named,
            None => match self.named_by_key(ids, id).await? {
                Ok(named) => named,
                Err(reason) => return Ok(Err(reason.to_owned())),
            },
        };
        let Some(found) = self.event_at(named).await? else { return Ok(Err(NOT_FOUND.to_owned())) };
        if found.stream != ids.stream {
            return Ok(Err(NOT_FOUND.to_owned()));
        }
        let reason = match (self.store.skipped(self.log.id(), named).await?, &found) {
            (_, CorrectionTarget { correction: true, .. }) => "is a correction, which cannot be corrected",
            (_, CorrectionTarget { dead_letter: true, .. }) => {
                "is a dead letter that was sent again; use the id of the original event"
            }
            (None, _) => return Ok(self.counted(named, &found).await?.map_err(str::to_owned)),
            // The views have applied the retry of its dead letter instead.
            (Some(Skipped { same_body: false, .. }), _) => match self.retried_conflict(named).await? {
                Some((retry, found)) => return Ok(self.counted(retry, &found).await?.map_err(str::to_owned)),
                None => "never counted, because its id was used before for another event",
            },
            // An event that was sent several times under its id counts at its first position only.
            (Some(Skipped { first_log, first_position, .. }), CorrectionTarget { client: Some(id), .. })
                if first_log == self.log.id() =>
            {
                match self.event_at(first_position).await? {
                    Some(first) if first.client == Some(*id) => {
                        return Ok(self.counted(first_position, &first).await?.map_err(str::to_owned));
                    }
                    _ => IS_REPEAT,
                }
            }
            (Some(_), _) => IS_REPEAT,
        };
        Ok(Err(reason.to_owned()))
    }

    /// Returns the position of an event that dedup did not skip, or the reason why it cannot be corrected.
    async fn counted(
        &self,
        position: u64,
        found: &CorrectionTarget,
    ) -> Result<Result<u64, &'static str>, Refusal> {
        Ok(if found.erased {
            Err("is erased")
        } else if self.was_retried_with_another_text(position, found).await? {
            Err("was a dead letter and was retried with another text; send an event that compensates for it")
        } else {
            Ok(position)
        })
    }

    /// Returns the position of the event with this id, whether or not it may be corrected.
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

    /// Returns the position of the event of a request with this `Idempotency-Key`. The inner error says that the
    /// request had no such event, or several.
    async fn named_by_key(&self, ids: IdScope<'_>, key: &str) -> Result<Result<u64, &'static str>, Refusal> {
        let at = |index| self.first(ids.event_by_key(key, index));
        if let Some(position) = at(0).await? {
            let alone = self.event_at(position).await?.is_some_and(|found| found.alone);
            return Ok(if alone { Ok(position) } else { Err(OF_SEVERAL) });
        }
        // The first event of the request had its own id.
        if at(1).await?.is_some() {
            return Ok(Err(OF_SEVERAL));
        }
        let lines = self.store.upload_lines(ids.upload_by_key(key), 0, 1).await?;
        Ok(Err(if lines.is_empty() { NOT_FOUND } else { OF_SEVERAL }))
    }

    async fn first(&self, id: EventId) -> Result<Option<u64>, Refusal> {
        let first = self.store.first_position(id).await?;
        Ok(first.filter(|(log, _)| *log == self.log.id()).map(|(_, position)| position))
    }

    /// Returns the retry of an event that reused an id for another body.
    async fn retried_conflict(&self, position: u64) -> Result<Option<(u64, CorrectionTarget)>, Refusal> {
        let id = NewDeadLetter::id(DEDUP_STORED_NAME, self.log.id(), position);
        let Some(dead_letter) = self.store.dead_letter(id).await? else { return Ok(None) };
        let Some(retry) = self.retry_position(&dead_letter).await? else { return Ok(None) };
        Ok(self.event_at(retry).await?.map(|found| (retry, found)))
    }

    /// Returns whether a view has applied another text than that of the event, because somebody edited its dead letter.
    /// A correction could not undo that, because it stands for the event as it was sent.
    async fn was_retried_with_another_text(
        &self,
        position: u64,
        found: &CorrectionTarget,
    ) -> Result<bool, Refusal> {
        for dead_letter in self.store.dead_letters_at(self.log.id(), position).await? {
            if matches!(dead_letter.status, DeadLetterStatus::Open | DeadLetterStatus::Dropped) {
                continue;
            }
            match self.retry_position(&dead_letter).await? {
                Some(retry) => match self.event_at(retry).await? {
                    Some(retry) if retry.hash == found.hash => {}
                    _ => return Ok(true),
                },
                // After a crash, a dead letter may be `retrying` although its retry is not in the log.
                None if dead_letter.status == DeadLetterStatus::Retrying => {}
                // The retry is in the log of another node.
                None => return Ok(true),
            }
        }
        Ok(false)
    }

    /// Returns the position of the last retry of a dead letter in this log.
    async fn retry_position(&self, dead_letter: &DeadLetter) -> Result<Option<u64>, Refusal> {
        if dead_letter.status == DeadLetterStatus::Retrying {
            // The retry may have been appended just before the caller took the lock.
            self.wait_for_dedup().await?;
        }
        let retry = self.store.retry_position(dead_letter).await?;
        Ok(retry.filter(|(log, _)| *log == self.log.id()).map(|(_, position)| position))
    }

    async fn event_at(&self, position: u64) -> Result<Option<CorrectionTarget>, Refusal> {
        if position < self.log.begin() || position >= self.log.end() {
            return Ok(None);
        }
        let _permit = self.permits.acquire().await.map_err(|_| Refusal::Stopping)?;
        let log = self.log.clone();
        let read = tokio::task::spawn_blocking(move || read_event(&log, position)).await;
        Ok(read.unwrap_or(Ok(None))?)
    }
}

fn read_event(log: &EventLog, wanted: u64) -> Result<Option<CorrectionTarget>, ReadError> {
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
                    dead_letter: header.retry.is_some(),
                    erased: entry.erased(),
                    alone: record.count == 1,
                    hash: BodyHash::of(entry.text.as_bytes()),
                }));
            }
        }
    }
    Ok(None)
}
