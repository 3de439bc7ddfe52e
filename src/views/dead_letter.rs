//! Dead letters of views. If a view cannot apply an event, the transaction that moves its position past the event
//! also stores a dead letter. A retry goes through the log, with the original event or an edited one. Only the view
//! that refused the event folds the retry. A rebuild reads the same log and comes to the same result.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use event::limits::{DEAD_LETTER_TURN_DURATION_MAX, DEDUP_WAIT_DURATION_MAX};
use event::{BodyHash, EventId, FieldErrors, Fields, LogId, Millis, Progress};
use tokio::time::timeout;

use super::batch::Event;
use super::{Running, View};
use crate::log::{AppendError, Entry, EventLog, Header, RecordBuilder, Retry, Shape};
use crate::store::{
    DEDUP_STORED_NAME, DeadLetter, DeadLetterChange, DeadLetterStatus, NewDeadLetter, Store, StoreError,
    retry_id,
};

/// Returns the changes to dead letters for a plan: refused events become dead letters, and retries that the fold
/// accepted are applied.
pub fn changes(
    view: &View,
    log: LogId,
    events: &[Event<'_>],
    refused: &[(usize, String)],
) -> Vec<DeadLetterChange> {
    let mut changes: Vec<DeadLetterChange> = Vec::with_capacity(refused.len());
    let mut positions = HashSet::with_capacity(refused.len());
    for (index, reason) in refused {
        let event = &events[*index];
        positions.insert(event.position);
        // If a correction and its event are both refused, there is nothing to undo, and one dead letter is enough.
        if !event.corrects.is_some_and(|target| positions.contains(&target)) {
            changes.push(for_event(view, log, event, reason.clone()));
        }
    }
    for (index, event) in events.iter().enumerate() {
        if let (Some(id), false) = (event.retry_of, refused.iter().any(|(at, _)| *at == index)) {
            changes.push(DeadLetterChange::Applied { id, at: event.received });
        }
    }
    changes
}

/// The positions of events that became dead letters while their batch was applied. Corrections of these events have
/// nothing to undo. The batch reader knows only those dead letters that were in the store when the batch was read.
#[derive(Default)]
pub struct DeadLettered(HashSet<u64>);

impl DeadLettered {
    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn note(&mut self, changes: &[DeadLetterChange]) {
        self.0.extend(created(changes).into_iter().map(|(_, position)| position));
    }

    /// Returns the events of a part without the corrections that have nothing to undo.
    pub fn without_idle_corrections<'e, 'a>(&self, events: &'e [Event<'a>]) -> Cow<'e, [Event<'a>]> {
        let idle = |event: &Event<'_>| event.corrects.is_some_and(|target| self.0.contains(&target));
        if !self.0.is_empty() && events.iter().any(idle) {
            events.iter().filter(|event| !idle(event)).cloned().collect()
        } else {
            Cow::Borrowed(events)
        }
    }
}

/// Returns the dead letters that a plan creates or reopens, each with the position of its event.
pub fn created(changes: &[DeadLetterChange]) -> Vec<(EventId, u64)> {
    let dead_letter = |change: &DeadLetterChange| match change {
        DeadLetterChange::New(letter) => Some((letter.id, letter.position)),
        DeadLetterChange::Again { id, position, .. } => Some((*id, *position)),
        DeadLetterChange::Applied { .. } => None,
    };
    changes.iter().filter_map(dead_letter).collect()
}

/// Returns the change that makes `event` a dead letter, or that reopens the dead letter of which it is a retry.
pub fn for_event(view: &View, log: LogId, event: &Event<'_>, reason: String) -> DeadLetterChange {
    match event.retry_of {
        Some(id) => DeadLetterChange::Again {
            id,
            view: view.name.clone(),
            position: event.position,
            reason,
            at: event.received,
        },
        None => DeadLetterChange::New(NewDeadLetter {
            id: NewDeadLetter::id(&view.name, log, event.position),
            view: view.name.clone(),
            position: event.position,
            event_id: if event.corrects.is_some() { EventId::at(log, event.position) } else { event.id },
            stream: view.stream.clone(),
            reason,
            event: own_text(event),
            at: event.received,
            delivery: None,
        }),
    }
}

/// Returns the text to keep in the dead letter. For a correction, `event.text` is the event that it undoes, so the
/// correction's own text is built again.
fn own_text(event: &Event<'_>) -> String {
    match event.corrects {
        None => event.text.to_string(),
        Some(_) => format!(r#"{{"takesBack":"{}"}}"#, event.id),
    }
}

/// Returns the only view that processes this retry. Retries of dedup's dead letters are for all views, hence `None`.
pub fn only_view(retry: Retry<'_>) -> Option<&str> {
    (retry.view != DEDUP_STORED_NAME).then_some(retry.view)
}

#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    #[error("dead letter `{0}` does not exist")]
    Unknown(EventId),
    #[error("dead letter `{id}` is {status}, not open")]
    NotOpen { id: EventId, status: &'static str },
    #[error("a correction has undone the event of dead letter `{0}`; drop the dead letter")]
    CorrectedEvent(EventId),
    #[error(
        "dead letter `{0}` is already being retried with another text; wait until its view has processed it"
    )]
    UnderWay(EventId),
    #[error(
        "view `{0}` is not running on this server, and no other view can apply its dead letters; add the view to the configuration, or drop the dead letters"
    )]
    NoView(String),
    #[error("dedup has not processed all events yet; try again later")]
    DedupBehind,
    #[error("{0}")]
    Refused(#[from] FieldErrors),
    #[error("{0}")]
    Log(#[from] AppendError),
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// Everything that a retry of a dead letter needs.
pub struct DeadLetterRetry<'a> {
    pub store: &'a Store,
    pub log: &'a EventLog,
    pub progress: &'a Progress,
    pub views: &'a BTreeMap<String, Running>,
    pub fields: &'a Fields,
}

impl DeadLetterRetry<'_> {
    /// Retries a dead letter, with its own event or with `edited` in its place.
    ///
    /// The status changes before the append. After a crash between the two, the dead letter is `retrying`, but its
    /// retry is not in the log. It can then be retried again: the retry's id in the log is derived from the dead
    /// letter and the number of attempts, so dedup counts it only once.
    pub async fn send_again(
        &self,
        id: EventId,
        edited: Option<String>,
    ) -> Result<DeadLetter, DeadLetterError> {
        let Self { store, log, .. } = self;
        self.wait_for_dedup(DEDUP_WAIT_DURATION_MAX).await?;
        let lock = timeout(DEDUP_WAIT_DURATION_MAX, log.correction_lock().lock_for_resend()).await;
        let _lock = lock.map_err(|_| DeadLetterError::DedupBehind)?;
        // Wait also for corrections that arrived before the lock was taken. New ones wait for the lock meanwhile.
        self.wait_for_dedup(DEAD_LETTER_TURN_DURATION_MAX).await?;
        let letter = store.dead_letter(id).await?.ok_or(DeadLetterError::Unknown(id))?;
        if !matches!(letter.status, DeadLetterStatus::Open | DeadLetterStatus::Retrying) {
            return Err(DeadLetterError::NotOpen { id, status: letter.status.as_str() });
        }
        // If the view is not running, no view would process the retry. Dead letters of dedup are for all views.
        if letter.view != DEDUP_STORED_NAME && !self.views.contains_key(&letter.view) {
            return Err(DeadLetterError::NoView(letter.view));
        }
        if store.corrected_by(letter.log, letter.position).await?.is_some() {
            return Err(DeadLetterError::CorrectedEvent(id));
        }
        let text = edited.as_deref().unwrap_or(&letter.event);
        self.fields.check(text, false)?;
        let (identity, hash) = (retry_id(id, letter.attempts), BodyHash::of(text.as_bytes()));
        let now = Millis::now();
        let in_log = match letter.status {
            DeadLetterStatus::Retrying => store.first_hash(identity, now).await?,
            _ => None,
        };
        if in_log.is_some_and(|first| first != hash) {
            return Err(DeadLetterError::UnderWay(id));
        }
        if letter.status == DeadLetterStatus::Open
            && !store.move_dead_letter(id, DeadLetterStatus::Open, DeadLetterStatus::Retrying, now).await?
        {
            // Somebody else has dropped or retried it meanwhile, perhaps on another node.
            let found = store.dead_letter(id).await?.ok_or(DeadLetterError::Unknown(id))?;
            return Err(DeadLetterError::NotOpen { id, status: found.status.as_str() });
        }
        failpoint::hit("dead_letters.moved");
        if in_log.is_none() {
            let retry = Some(Retry { view: &letter.view, dead_letter: id });
            let header = Header { retry, ..Header::of(&letter.stream, now) };
            let mut record = RecordBuilder::new(&header, Shape { ids: true, ..Shape::default() }, text.len());
            record.push(&Entry { client: Some((identity, hash)), text, ..Entry::default() });
            log.append(&record).await?;
        }
        failpoint::hit("dead_letters.appended");
        if letter.view == DEDUP_STORED_NAME {
            store.move_dead_letter(id, DeadLetterStatus::Retrying, DeadLetterStatus::Applied, now).await?;
        }
        store.dead_letter(id).await?.ok_or(DeadLetterError::Unknown(id))
    }

    /// Waits until dedup has processed the whole log. Only then are all corrections and earlier retries in the store.
    async fn wait_for_dedup(&self, duration_max: Duration) -> Result<(), DeadLetterError> {
        if self.progress.dedup_reached(self.log.end(), duration_max).await {
            Ok(())
        } else {
            Err(DeadLetterError::DedupBehind)
        }
    }
}

/// Drops an open dead letter, so that its event is never applied. Its row stays in the store.
pub async fn drop_dead_letter(store: &Store, id: EventId) -> Result<DeadLetter, DeadLetterError> {
    let letter = store.dead_letter(id).await?.ok_or(DeadLetterError::Unknown(id))?;
    if store.move_dead_letter(id, DeadLetterStatus::Open, DeadLetterStatus::Dropped, Millis::now()).await? {
        store.dead_letter(id).await?.ok_or(DeadLetterError::Unknown(id))
    } else {
        Err(DeadLetterError::NotOpen { id, status: letter.status.as_str() })
    }
}
