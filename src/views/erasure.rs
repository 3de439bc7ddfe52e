//! Erasing a person: all events in which a field has one value leave the views, and their bytes the log.
//!
//! Found once, they are noted in the store with their positions. Then corrections take them back, so that
//! every view undoes what it did; dead letters are cleared; the texts are blanked in the log, in place,
//! so that no position moves; and, last, what views keep of the person by name goes. Whatever cuts this off, the next start
//! goes on with it: each step done twice is done once.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use event::limits::{
    BATCH_BYTES_MAX, CORRECTIONS_RECORD_MAX, ERASED_EVENTS_MAX, ERASURE_LOOK_INTERVAL, ERASURE_RETRY_INTERVAL,
};
use event::{BodyHash, EventId, Fields, Millis, Progress, Stop};
use journal::failpoint;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::batch::BatchError;
use super::dead_letter;
use super::{Running, ViewKind};
use crate::log::{AppendError, Entry, EraseError, EventLog, Header, ReadError, RecordBuilder, Shape};
use crate::store::{Erasure, OpenErasure, Store, StoreError};

#[derive(Debug, thiserror::Error)]
pub enum ErasureError {
    #[error("stream `{stream}` has no field `{field}` of text or integers")]
    Field { stream: String, field: String },
    #[error("{0}")]
    Log(#[from] AppendError),
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("{0}")]
    Erase(#[from] EraseError),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("the process ends; the next start goes on")]
    Stopped,
}

impl From<BatchError> for ErasureError {
    fn from(error: BatchError) -> Self {
        match error {
            BatchError::Log(error) => error.into(),
            BatchError::Store(error) => error.into(),
        }
    }
}

/// Asks for erasures; a thread of its own carries them out, one after the other.
#[derive(Clone)]
pub struct Erasures {
    pub eraser: Arc<Eraser>,
    orders: mpsc::Sender<()>,
}

impl Erasures {
    /// Goes on with what an earlier process left.
    pub fn start(eraser: Eraser) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (orders, receiver) = mpsc::channel(1);
        let eraser = Arc::new(eraser);
        let worker = Arc::clone(&eraser);
        let thread =
            std::thread::Builder::new().name("eraser".to_owned()).spawn(move || worker.run(receiver))?;
        Ok((Self { eraser, orders }, thread))
    }

    /// Has what is noted carried out.
    pub fn order(&self) {
        // One that waits already stands for all that is noted.
        let _ = self.orders.try_send(());
    }
}

/// What an erasure works on.
pub struct Eraser {
    pub log: EventLog,
    pub store: Store,
    pub progress: Progress,
    pub streams: BTreeMap<String, Arc<Fields>>,
    pub views: BTreeMap<String, Running>,
    pub runtime: Handle,
    pub stop: Stop,
}

/// Whose events are meant.
#[derive(Clone, Debug)]
pub struct DataSubject {
    pub stream: String,
    /// The stream's key, where none is named.
    pub field: Option<String>,
    pub value: String,
}

#[derive(Default)]
struct Found {
    positions: Vec<u64>,
    undone: Vec<u64>,
    events: u64,
}

impl Eraser {
    /// Finds the events below `end`, which the gate has come to, and notes the erasure: from here on it will be
    /// done. Blocks for as long as reading the log takes. More than a bound at a time are not taken: asked for
    /// again, the rest is.
    pub fn note(&self, person: &DataSubject, asked_by: &str, end: u64) -> Result<Erasure, ErasureError> {
        let (fields, field) = self.field(person)?;
        // Until they are noted, nobody knows that these events are still needed.
        let _past = self.runtime.block_on(self.log.history_lock().hold());
        let found = self.find(person, fields, field, end)?;
        let asked = Millis::now();
        let digest = Sha256::digest(person.value.as_bytes());
        let value_hash = event::hex(&digest);
        let erasure = Erasure {
            id: EventId::derived("erasure", &person.stream, &format!("{value_hash}:{}", asked.0)),
            stream: person.stream.clone(),
            field: fields.get(field).name.clone(),
            value_hash,
            asked_by: asked_by.to_owned(),
            log: self.log.id(),
            events: found.events,
            asked,
            done: None,
        };
        let open = OpenErasure {
            erasure: erasure.clone(),
            value: person.value.clone(),
            positions: found.positions,
            undone: found.undone,
        };
        self.runtime.block_on(self.store.note_erasure(&open))?;
        tracing::info!(erasure = %erasure.id, stream = erasure.stream, events = erasure.events, "erasure noted");
        failpoint::hit("erasure.noted");
        Ok(erasure)
    }

    fn run(&self, mut orders: mpsc::Receiver<()>) {
        while !self.stop.asked() {
            let again = match self.carry_out() {
                Ok(()) => None,
                Err(ErasureError::Stopped) => return,
                Err(error) => {
                    tracing::error!(%error, "an erasure is held up; tried again soon");
                    Some(ERASURE_RETRY_INTERVAL)
                }
            };
            let next = async {
                tokio::select! {
                    () = self.stop.wait() => {}
                    _ = orders.recv() => {}
                    () = tokio::time::sleep(again.unwrap_or(Duration::MAX)) => {}
                }
            };
            self.runtime.block_on(next);
        }
    }

    /// Does what is noted and not done yet. Blocks.
    fn carry_out(&self) -> Result<(), ErasureError> {
        while let Some(open) = self.runtime.block_on(self.store.open_erasure(self.log.id()))? {
            let id = open.erasure.id;
            // Whose it was is not known any more where an earlier process came so far: an empty value would
            // be somebody else's.
            if !open.value.is_empty() {
                self.leave_nothing(open)?;
            }
            self.runtime.block_on(self.store.forget_erased(id))?;
            self.scrub()?;
            self.runtime.block_on(self.store.erasure_done(id, Millis::now()))?;
            tracing::info!(erasure = %id, "erasure done");
        }
        Ok(())
    }

    fn leave_nothing(&self, mut open: OpenErasure) -> Result<(), ErasureError> {
        let mut undone = std::mem::take(&mut open.undone);
        loop {
            self.take_back(&open.erasure, &undone)?;
            failpoint::hit("erasure.taken_back");
            self.wait_for_views(&open.erasure.stream)?;
            // No letter of what is taken back is sent again from here on.
            undone = self.sent_again(&open)?;
            if undone.is_empty() {
                break;
            }
            open.positions.extend(&undone);
        }
        self.clear_dead_letters(&open)?;
        let turns = self.turns(&open.erasure.stream);
        self.log.erase(&open.positions)?;
        drop(turns);
        failpoint::hit("erasure.blanked");
        // After the log: what it still made of these events would be missing meanwhile.
        self.forget(&open)?;
        failpoint::hit("erasure.forgotten");
        Ok(())
    }

    fn field(&self, person: &DataSubject) -> Result<(&Fields, usize), ErasureError> {
        let unknown = || ErasureError::Field {
            stream: person.stream.clone(),
            field: person.field.clone().unwrap_or_default(),
        };
        let fields = self.streams.get(&person.stream).ok_or_else(unknown)?;
        let field = match &person.field {
            Some(name) => fields.index_of(name).ok_or_else(unknown)?,
            None => fields.key(),
        };
        match fields.get(field).is_identity() {
            true => Ok((fields, field)),
            false => Err(unknown()),
        }
    }

    fn find(
        &self,
        person: &DataSubject,
        fields: &Fields,
        field: usize,
        end: u64,
    ) -> Result<Found, ErasureError> {
        let (mut reader, mut at, mut found) = (self.log.reader(), self.log.begin(), Found::default());
        let mut targets = HashSet::new();
        while at < end && found.events < ERASED_EVENTS_MAX {
            if self.stop.asked() {
                return Err(ErasureError::Stopped);
            }
            let (from, mut counted) = (at, Vec::new());
            for record in reader.read(at, BATCH_BYTES_MAX)?.iter() {
                let record = record?;
                if record.position >= end {
                    break;
                }
                at = record.end();
                if record.header.as_ref().is_none_or(|header| header.stream != person.stream) {
                    continue;
                }
                for entry in record.entries() {
                    let (position, entry) = entry.map_err(|error| ReadError::Damaged(error.to_string()))?;
                    match entry.corrects {
                        // Its reason may speak of the person.
                        Some(target) if targets.contains(&target) => found.positions.push(position),
                        None if fields.names(entry.text, field, &person.value) => {
                            targets.insert(position);
                            found.positions.push(position);
                            counted.push(position);
                        }
                        _ => {}
                    }
                }
            }
            found.events += counted.len() as u64;
            let skipped = self.runtime.block_on(self.store.skipped_positions(self.log.id(), from, at))?;
            found.undone.extend(counted.into_iter().filter(|at| skipped.binary_search(at).is_err()));
        }
        Ok(found)
    }

    /// The same corrections again are the same events: they carry ids.
    fn take_back(&self, erasure: &Erasure, undone: &[u64]) -> Result<(), ErasureError> {
        let Erasure { id, stream, .. } = erasure;
        for part in undone.chunks(CORRECTIONS_RECORD_MAX) {
            let header = Header::of(stream, Millis::now());
            let mut record =
                RecordBuilder::new(&header, Shape { ids: true, corrections: true, lines: false }, 0);
            for position in part {
                let event = EventId::at(self.log.id(), *position);
                let text = format!(r#"{{"takesBack":"{event}","reason":"erasure {id}"}}"#);
                let name = EventId::derived("erasure", &id.to_string(), &event.to_string());
                let client = Some((name, BodyHash::of(text.as_bytes())));
                record.push(&Entry { client, corrects: Some(*position), text: &text, ..Entry::default() });
            }
            // Whoever sends a letter of these again is in the log before, or hears of it.
            let _turn = self.runtime.block_on(self.log.correction_lock().take_back());
            self.runtime.block_on(self.log.append(&record))?;
        }
        Ok(())
    }

    /// Where dead letters of these events were sent again after the log was searched.
    fn sent_again(&self, open: &OpenErasure) -> Result<Vec<u64>, ErasureError> {
        let Some(fields) = self.streams.get(&open.erasure.stream) else { return Ok(Vec::new()) };
        let Some(field) = fields.index_of(&open.erasure.field) else { return Ok(Vec::new()) };
        let (log, known) = (self.log.id(), open.positions.iter().copied().collect::<HashSet<u64>>());
        let (mut reader, mut found) = (self.log.reader(), Vec::new());
        for (letter, attempts) in
            self.runtime.block_on(self.store.dead_letter_attempts(log, &open.positions))?
        {
            for attempt in (1..=attempts).map(|attempts| dead_letter::attempt(letter, attempts)) {
                let place = self.runtime.block_on(self.store.first_position(attempt))?;
                let Some((_, position)) = place.filter(|(of, at)| *of == log && !known.contains(at)) else {
                    continue;
                };
                if position < self.log.begin() {
                    continue;
                }
                for record in reader.read(position, 1)?.iter() {
                    let mut entries = record?.entries().flatten();
                    // Mended, it may be about somebody else; erased, it was not when this was cut off.
                    let meant =
                        |entry: Entry<'_>| entry.erased() || fields.names(entry.text, field, &open.value);
                    if entries.any(|(at, entry)| at == position && meant(entry)) {
                        found.push(position);
                    }
                }
            }
        }
        Ok(found)
    }

    /// However long a view stands still: blanked before, what it has not undone would stay in it.
    fn wait_for_views(&self, stream: &str) -> Result<(), ErasureError> {
        let end = self.log.end();
        loop {
            let reached = self.progress.reached(stream, end, ERASURE_LOOK_INTERVAL);
            if self.runtime.block_on(reached) {
                return Ok(());
            }
            if self.stop.asked() {
                return Err(ErasureError::Stopped);
            }
        }
    }

    /// Whoever folds the log afresh comes to its end first: having read an event, it has to read it again to
    /// undo it.
    fn turns(&self, stream: &str) -> Vec<MutexGuard<'_, ()>> {
        let views = self.views.values().filter(|running| running.view.stream == stream);
        views.map(|running| running.shadow.lock().unwrap_or_else(PoisonError::into_inner)).collect()
    }

    /// A reader at its work keeps the store from it for a moment.
    fn scrub(&self) -> Result<(), ErasureError> {
        loop {
            match self.runtime.block_on(self.store.scrub()) {
                Err(StoreError::Transient(_)) if !self.stop.asked() => {
                    self.runtime.block_on(self.stop.within(ERASURE_LOOK_INTERVAL));
                }
                Err(StoreError::Transient(_)) => return Err(ErasureError::Stopped),
                scrubbed => return Ok(scrubbed?),
            }
        }
    }

    fn clear_dead_letters(&self, open: &OpenErasure) -> Result<(), ErasureError> {
        for positions in open.positions.chunks(CORRECTIONS_RECORD_MAX) {
            self.runtime.block_on(self.store.clear_dead_letters_at(
                self.log.id(),
                positions,
                Millis::now(),
            ))?;
        }
        Ok(())
    }

    /// What views keep of a person beside what its events did.
    fn forget(&self, open: &OpenErasure) -> Result<(), ErasureError> {
        let Some(fields) = self.streams.get(&open.erasure.stream) else { return Ok(()) };
        let field = fields.index_of(&open.erasure.field);
        for running in self.views.values().filter(|running| running.view.stream == open.erasure.stream) {
            match &running.view.kind {
                ViewKind::Ledger(ledger) if field == Some(ledger.key_field()) => {
                    // Still, so that what the row holds does not change between a look and the next.
                    let _held = self.runtime.block_on(running.hold()).ok_or(ErasureError::Stopped)?;
                    let forgotten = ledger.forget(&self.store, &running.view.name, &open.value);
                    self.runtime.block_on(forgotten)?;
                }
                // What was tried already is still in an outbox.
                ViewKind::Notifications(outbox) => {
                    let ids = self.ids(&open.positions)?;
                    self.runtime.block_on(outbox.forget(&self.store, &ids))?;
                }
                // Corrections leave nothing of an event in these.
                ViewKind::Ledger(_) | ViewKind::Stats(_) | ViewKind::Table(_) => {}
            }
        }
        Ok(())
    }

    /// The ids of the events at these positions.
    fn ids(&self, positions: &[u64]) -> Result<Vec<EventId>, ErasureError> {
        let (mut reader, mut ids) = (self.log.reader(), Vec::with_capacity(positions.len()));
        // What was given up meanwhile is in no log any more, and neither is its id.
        let begin = self.log.begin();
        for position in positions.iter().filter(|position| **position >= begin) {
            for record in reader.read(*position, 1)?.iter() {
                for (at, entry) in record?.entries().flatten().filter(|(at, _)| at == position) {
                    ids.push(entry.client.map_or_else(|| EventId::at(self.log.id(), at), |(id, _)| id));
                }
            }
        }
        Ok(ids)
    }
}
