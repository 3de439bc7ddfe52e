//! Dead letters: made where an event could not be applied, in the transaction that passes it by; sent
//! again, perhaps mended, through the log, so that only the view that refused it folds it, and a rebuild
//! does the same.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use event::limits::{DEAD_LETTERS_LOGGED_MAX, DEDUP_WAIT_DURATION_MAX, LETTER_TURN_DURATION_MAX};
use event::{BodyHash, EventId, FieldErrors, Fields, LogId, Millis, Progress};
use journal::failpoint;
use tokio::time::timeout;

use super::batch::Event;
use super::{Running, View};
use crate::dedup::STORED_NAME;
use crate::log::{AppendError, Entry, EventLog, Header, RecordBuilder, Retry, Shape, Traces};
use crate::store::{DeadLetter, DeadLetterChange, DeadLetterStatus, NewDeadLetter, Store, StoreError};

/// What the view's plan does to dead letters, given the events that its fold refused.
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
        // Its event is refused with it, and so there is nothing to undo.
        if !event.corrects.is_some_and(|target| positions.contains(&target)) {
            changes.push(of(view, log, event, reason.clone()));
        }
    }
    for (index, event) in events.iter().enumerate() {
        if let (Some(id), false) = (event.letter, refused.iter().any(|(at, _)| *at == index)) {
            changes.push(DeadLetterChange::Applied { id, at: event.received });
        }
    }
    changes
}

/// What a batch passes by on its way. Looked up in the store, a batch is made without corrections of what
/// was passed by before it; those of what it passes by itself undo nothing either.
#[derive(Default)]
pub struct PassedBy(HashSet<u64>);

impl PassedBy {
    pub fn note(&mut self, changes: &[DeadLetterChange]) {
        self.0.extend(made(changes).into_iter().map(|(_, position)| position));
    }

    /// The events of a part without corrections that have nothing to undo.
    pub fn leave_out<'e, 'a>(&self, events: &'e [Event<'a>]) -> Cow<'e, [Event<'a>]> {
        let idle = |event: &Event<'_>| event.corrects.is_some_and(|target| self.0.contains(&target));
        match !self.0.is_empty() && events.iter().any(idle) {
            true => events.iter().filter(|event| !idle(event)).cloned().collect(),
            false => Cow::Borrowed(events),
        }
    }
}

/// Which letters a plan makes, and of which position.
pub fn made(changes: &[DeadLetterChange]) -> Vec<(EventId, u64)> {
    let made = |change: &DeadLetterChange| match change {
        DeadLetterChange::New(letter) => Some((letter.id, letter.position)),
        DeadLetterChange::Again { id, position, .. } => Some((*id, *position)),
        DeadLetterChange::Applied { .. } => None,
    };
    changes.iter().filter_map(made).collect()
}

/// A line for each letter that is in the store now, but not for very many. Its reason is there, too: it may quote the event.
pub fn report(view: &str, made: &[(EventId, u64)], traces: &Traces) {
    for (letter, position) in made.iter().take(DEAD_LETTERS_LOGGED_MAX) {
        let traceparent = traces.of(*position);
        tracing::warn!(view, %letter, position, traceparent, "an event became a dead letter");
    }
    let more = made.len().saturating_sub(DEAD_LETTERS_LOGGED_MAX);
    if more > 0 {
        tracing::warn!(view, more, "more events became dead letters");
    }
}

/// The letter that `event` becomes, or becomes again.
pub fn of(view: &View, log: LogId, event: &Event<'_>, reason: String) -> DeadLetterChange {
    match event.letter {
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
        }),
    }
}

/// A correction that failed is kept as one: its text is not that of the event it takes back.
fn own_text(event: &Event<'_>) -> String {
    match event.corrects {
        None => event.text.to_string(),
        Some(_) => format!(r#"{{"takesBack":"{}"}}"#, event.id),
    }
}

/// The one view that a letter sent again is for; those of the gate are for all.
pub fn only_view(retry: Retry<'_>) -> Option<&str> {
    (retry.view != STORED_NAME).then_some(retry.view)
}

#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    #[error("there is no dead letter `{0}`")]
    Unknown(EventId),
    #[error("dead letter `{id}` is {status}, not open")]
    NotOpen { id: EventId, status: &'static str },
    #[error("the event of dead letter `{0}` was taken back; drop the letter")]
    CorrectedEvent(EventId),
    #[error("dead letter `{0}` was sent again with another text, which its view has not come to yet")]
    UnderWay(EventId),
    #[error("view `{0}` does not run here, and no other applies its dead letters; drop them, or declare it")]
    NoView(String),
    #[error("what has arrived is not settled yet")]
    Unsettled,
    #[error("{0}")]
    Refused(#[from] FieldErrors),
    #[error("{0}")]
    Log(#[from] AppendError),
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// Where letters are sent again.
pub struct Sender<'a> {
    pub store: &'a Store,
    pub log: &'a EventLog,
    pub progress: &'a Progress,
    pub views: &'a BTreeMap<String, Running>,
    pub fields: &'a Fields,
}

impl Sender<'_> {
    /// Sends a letter again, as it is or mended.
    ///
    /// The status moves first. A crash before the append leaves a letter that is `retrying` and not in the
    /// log; it can be sent again, because its identity in the log is (letter, attempt): the gate counts it
    /// once, however often it is sent.
    pub async fn send_again(
        &self,
        id: EventId,
        mended: Option<String>,
    ) -> Result<DeadLetter, DeadLetterError> {
        let Self { store, log, .. } = self;
        self.settled(DEDUP_WAIT_DURATION_MAX).await?;
        let turn = timeout(DEDUP_WAIT_DURATION_MAX, log.correction_lock().send_again()).await;
        let _turn = turn.map_err(|_| DeadLetterError::Unsettled)?;
        // What came in before the turn; corrections wait meanwhile.
        self.settled(LETTER_TURN_DURATION_MAX).await?;
        let letter = store.dead_letter(id).await?.ok_or(DeadLetterError::Unknown(id))?;
        if !matches!(letter.status, DeadLetterStatus::Open | DeadLetterStatus::Retrying) {
            return Err(DeadLetterError::NotOpen { id, status: letter.status.as_str() });
        }
        // The gate's are for all views; another's would be passed by, and lie in the log for nothing.
        if letter.view != STORED_NAME && !self.views.contains_key(&letter.view) {
            return Err(DeadLetterError::NoView(letter.view));
        }
        if store.taken_back_by(letter.log, letter.position).await?.is_some() {
            return Err(DeadLetterError::CorrectedEvent(id));
        }
        let text = mended.as_deref().unwrap_or(&letter.event);
        self.fields.check(text, false)?;
        let (identity, hash) = (attempt(id, letter.attempts), BodyHash::of(text.as_bytes()));
        let in_log = match letter.status {
            DeadLetterStatus::Retrying => store.first_hash(identity).await?,
            _ => None,
        };
        if in_log.is_some_and(|first| first != hash) {
            return Err(DeadLetterError::UnderWay(id));
        }
        let now = Millis::now();
        if letter.status == DeadLetterStatus::Open
            && !store.move_dead_letter(id, DeadLetterStatus::Open, DeadLetterStatus::Retrying, now).await?
        {
            // Somebody else was faster and dropped it, or sent it again from another node: their word stands.
            let found = store.dead_letter(id).await?.ok_or(DeadLetterError::Unknown(id))?;
            return Err(DeadLetterError::NotOpen { id, status: found.status.as_str() });
        }
        failpoint::hit("letters.moved");
        if in_log.is_none() {
            let retry = Some(Retry { view: &letter.view, letter: id });
            let header = Header { retry, ..Header::of(&letter.stream, now) };
            let mut record = RecordBuilder::new(&header, Shape { ids: true, ..Shape::default() }, text.len());
            record.push(&Entry { client: Some((identity, hash)), text, ..Entry::default() });
            log.append(&record).await?;
        }
        failpoint::hit("letters.appended");
        if letter.view == STORED_NAME {
            store.move_dead_letter(id, DeadLetterStatus::Retrying, DeadLetterStatus::Applied, now).await?;
        }
        store.dead_letter(id).await?.ok_or(DeadLetterError::Unknown(id))
    }

    /// What took an event back, and a letter's last attempt, are known once the gate has come to them.
    async fn settled(&self, patience: Duration) -> Result<(), DeadLetterError> {
        match self.progress.dedup_reached(self.log.end(), patience).await {
            true => Ok(()),
            false => Err(DeadLetterError::Unsettled),
        }
    }
}

/// As what a letter is sent again when it was tried so many times.
pub fn attempt(id: EventId, attempts: i64) -> EventId {
    EventId::derived("dead-letter-attempt", &id.to_string(), &attempts.to_string())
}

/// Decides that an open letter is not to be applied. Its row stays.
pub async fn drop_dead_letter(store: &Store, id: EventId) -> Result<DeadLetter, DeadLetterError> {
    let letter = store.dead_letter(id).await?.ok_or(DeadLetterError::Unknown(id))?;
    match store.move_dead_letter(id, DeadLetterStatus::Open, DeadLetterStatus::Dropped, Millis::now()).await?
    {
        true => store.dead_letter(id).await?.ok_or(DeadLetterError::Unknown(id)),
        false => Err(DeadLetterError::NotOpen { id, status: letter.status.as_str() }),
    }
}
