//! Erases a data subject (a person): all events in which a field has one value are removed from the views, and their
//! texts from the log.
//!
//! 1. The events are found once, and recorded in the store with their positions.
//! 2. Corrections of these events are appended to the log, so that every view undoes them.
//! 3. Their dead letters are cleared.
//! 4. Their texts are blanked in the log, in place, so that no position changes.
//! 5. Rows that the views still keep about the data subject are deleted.
//!
//! Each step can be repeated without a further effect. So if an erasure is interrupted, the next start continues it.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use event::limits::{
    BATCH_BYTES_MAX, CORRECTIONS_RECORD_MAX, ERASED_EVENTS_MAX, ERASURE_CHECK_INTERVAL,
    ERASURE_RETRY_INTERVAL,
};
use event::{BodyHash, EventId, Fields, Millis, Progress, Stop};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::erasure_error::ErasureError;
use super::erasure_key::ErasureKey;
use super::{Running, ViewKind};
use crate::log::{Entry, EventLog, Header, ReadError, RecordBuilder, Shape};
use crate::store::{Erasure, OpenErasure, Store, StoreError, retry_id};

/// The handle of the thread that carries out erasures, one after the other.
#[derive(Clone)]
pub struct Erasures {
    pub eraser: Arc<Eraser>,
    wakeups: mpsc::Sender<()>,
}

impl Erasures {
    /// Starts the thread. It first continues the erasures that an earlier process left unfinished.
    pub fn start(eraser: Eraser) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (wakeups, receiver) = mpsc::channel(1);
        let eraser = Arc::new(eraser);
        let worker = Arc::clone(&eraser);
        let thread = event::start_thread("eraser", move || worker.run(receiver))?;
        Ok((Self { eraser, wakeups }, thread))
    }

    /// Wakes the thread, so that it carries out the recorded erasures.
    pub fn wake(&self) {
        // If the channel is full, the thread wakes anyway, and carries out all recorded erasures.
        let _ = self.wakeups.try_send(());
    }
}

/// Everything that an erasure needs.
pub struct Eraser {
    pub log: EventLog,
    pub store: Store,
    pub progress: Progress,
    pub streams: BTreeMap<String, Arc<Fields>>,
    pub views: BTreeMap<String, Running>,
    /// The key of the hashes in the records.
    pub key: ErasureKey,
    pub runtime: Handle,
    pub stop: Stop,
}

/// The person whose events are erased: the events in which a field has this value.
#[derive(Clone, Debug)]
pub struct DataSubject {
    pub stream: String,
    /// The name of the field; `None` means the stream's key.
    pub field: Option<String>,
    pub value: String,
}

#[derive(Default)]
struct FoundEvents {
    /// The positions to blank: the events and their corrections.
    positions: Vec<u64>,
    /// The positions of the events to undo in the views, without repeats.
    undone: Vec<u64>,
    events: u64,
}

impl Eraser {
    /// Finds the events below `end`, which dedup must have reached, and records the erasure. Once it is recorded,
    /// it is carried out even after a crash. Finds about `ERASED_EVENTS_MAX` events at most: a repeated erasure
    /// finds the rest. Blocks while it reads the log.
    pub fn note(&self, subject: &DataSubject, asked_by: &str, end: u64) -> Result<Erasure, ErasureError> {
        let (fields, field) = self.field(subject)?;
        // Keeps out retention, which cannot know that these events are still needed until they are recorded.
        let _history = self.runtime.block_on(self.log.history_lock().hold());
        let found = self.find(subject, fields, field, end)?;
        let asked = Millis::now();
        let value_hash = self.value_hash(&subject.value)?;
        let erasure = Erasure {
            id: EventId::derived("erasure", &subject.stream, &format!("{value_hash}:{}", asked.0)),
            stream: subject.stream.clone(),
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
            value: subject.value.clone(),
            positions: found.positions,
            undone: found.undone,
        };
        self.runtime.block_on(self.store.note_erasure(&open))?;
        tracing::info!(erasure = %erasure.id, stream = erasure.stream, events = erasure.events, "erasure recorded");
        failpoint::hit("erasure.noted");
        Ok(erasure)
    }

    fn run(&self, mut wakeups: mpsc::Receiver<()>) {
        if let Err(error) = self.warn_of_missing_key() {
            tracing::debug!(%error, "the erasure records could not be read at the start");
        }
        while !self.stop.asked() {
            let retry_after = match self.carry_out() {
                Ok(()) => None,
                Err(ErasureError::Stopped) => return,
                // The server reports an outage of the database.
                Err(ErasureError::Store(StoreError::Transient(reason))) => {
                    tracing::debug!(reason, "erasures wait for the database");
                    Some(ERASURE_RETRY_INTERVAL)
                }
                Err(error) => {
                    tracing::error!(%error, "erasures or their records could not be completed; this will be tried again");
                    Some(ERASURE_RETRY_INTERVAL)
                }
            };
            let next = async {
                tokio::select! {
                    () = self.stop.wait() => {}
                    _ = wakeups.recv() => {}
                    () = tokio::time::sleep(retry_after.unwrap_or(Duration::MAX)) => {}
                }
            };
            self.runtime.block_on(next);
        }
    }

    /// Replaces plain hashes, and carries out the recorded erasures that are not done yet. Blocks.
    fn carry_out(&self) -> Result<(), ErasureError> {
        // Recorded erasures do not need the key, so they are carried out even if it is damaged.
        let rehashed = self.rehash_records();
        self.carry_out_recorded()?;
        rehashed
    }

    fn carry_out_recorded(&self) -> Result<(), ErasureError> {
        while let Some(open) = self.runtime.block_on(self.store.open_erasure(self.log.id()))? {
            let id = open.erasure.id;
            // The value is empty if an earlier process has already come to `forget_erased`. It must not be searched
            // for then: an empty value would match other events.
            if !open.value.is_empty() {
                self.erase(open)?;
            }
            self.runtime.block_on(self.store.forget_erased(id))?;
            self.scrub()?;
            self.runtime.block_on(self.store.erasure_done(id, Millis::now()))?;
            tracing::info!(erasure = %id, "erasure done");
        }
        Ok(())
    }

    fn erase(&self, mut open: OpenErasure) -> Result<(), ErasureError> {
        let mut undone = std::mem::take(&mut open.undone);
        loop {
            self.append_corrections(&open.erasure, &undone)?;
            failpoint::hit("erasure.taken_back");
            self.wait_for_views(&open.erasure.stream)?;
            // From here on, dead letters of corrected events can no longer be retried.
            undone = self.retried(&open)?;
            if undone.is_empty() {
                break;
            }
            open.positions.extend(&undone);
        }
        self.clear_dead_letters(&open)?;
        let replays = self.lock_replays(&open.erasure.stream);
        self.log.erase(&open.positions)?;
        drop(replays);
        failpoint::hit("erasure.blanked");
        // Do this after the log is blanked. Before, a comparison with the log would report these rows as missing.
        self.forget(&open)?;
        failpoint::hit("erasure.forgotten");
        for running in self.views.values().filter(|running| running.view.stream == open.erasure.stream) {
            self.runtime.block_on(self.store.begin_generation(&running.view.name))?;
            running.changes.note_all();
        }
        Ok(())
    }

    fn field(&self, subject: &DataSubject) -> Result<(&Fields, usize), ErasureError> {
        let unknown = || ErasureError::Field {
            stream: subject.stream.clone(),
            field: subject.field.clone().unwrap_or_default(),
        };
        let fields = self.streams.get(&subject.stream).ok_or_else(unknown)?;
        let field = match &subject.field {
            Some(name) => fields.index_of(name).ok_or_else(unknown)?,
            None => fields.key(),
        };
        if fields.get(field).is_identity() { Ok((fields, field)) } else { Err(unknown()) }
    }

    fn find(
        &self,
        subject: &DataSubject,
        fields: &Fields,
        field: usize,
        end: u64,
    ) -> Result<FoundEvents, ErasureError> {
        let (mut reader, mut at, mut found) = (self.log.reader(), self.log.begin(), FoundEvents::default());
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
                if record.header.as_ref().is_none_or(|header| header.stream != subject.stream) {
                    continue;
                }
                for entry in record.entries() {
                    let (position, entry) = entry.map_err(|error| ReadError::Damaged(error.to_string()))?;
                    match entry.corrects {
                        // The reason of a correction may mention the person.
                        Some(target) if targets.contains(&target) => found.positions.push(position),
                        None if fields.has_value(entry.text, field, &subject.value) => {
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

    /// Appends corrections of these events. Their ids are derived, so corrections that are appended again are
    /// repeats.
    fn append_corrections(&self, erasure: &Erasure, undone: &[u64]) -> Result<(), ErasureError> {
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
            // A retry of a dead letter of these events is either in the log before the corrections, or is refused.
            let _lock = self.runtime.block_on(self.log.correction_lock().lock_for_correction());
            self.runtime.block_on(self.log.append(&record))?;
        }
        Ok(())
    }

    /// Returns the positions of retries that were appended after the log was searched: retries of dead letters of
    /// these events.
    fn retried(&self, open: &OpenErasure) -> Result<Vec<u64>, ErasureError> {
        let Some(fields) = self.streams.get(&open.erasure.stream) else { return Ok(Vec::new()) };
        let Some(field) = fields.index_of(&open.erasure.field) else { return Ok(Vec::new()) };
        let (log, known) = (self.log.id(), open.positions.iter().copied().collect::<HashSet<u64>>());
        let (mut reader, mut found) = (self.log.reader(), Vec::new());
        for (letter, attempts) in
            self.runtime.block_on(self.store.dead_letter_attempts(log, &open.positions))?
        {
            for retry_id in (1..=attempts).map(|attempts| retry_id(letter, attempts)) {
                let first = self.runtime.block_on(self.store.first_position(retry_id))?;
                let Some((_, position)) = first.filter(|(of, at)| *of == log && !known.contains(at)) else {
                    continue;
                };
                if position < self.log.begin() {
                    continue;
                }
                for record in reader.read(position, 1)?.iter() {
                    let mut entries = record?.entries().flatten();
                    // An edited retry may be about somebody else. An erased one cannot be checked any more: an
                    // interrupted run of this erasure may have erased it.
                    let is_about_subject =
                        |entry: Entry<'_>| entry.erased() || fields.has_value(entry.text, field, &open.value);
                    if entries.any(|(at, entry)| at == position && is_about_subject(entry)) {
                        found.push(position);
                    }
                }
            }
        }
        Ok(found)
    }

    /// Waits until all views of the stream have undone the events, however long a view is paused. A view cannot
    /// undo an event whose text is blanked.
    fn wait_for_views(&self, stream: &str) -> Result<(), ErasureError> {
        let end = self.log.end();
        let views = self.views.values().filter(|running| running.view.stream == stream);
        views.for_each(|running| running.hurry(end));
        loop {
            let reached = self.progress.reached(stream, end, ERASURE_CHECK_INTERVAL);
            if self.runtime.block_on(reached) {
                return Ok(());
            }
            if self.stop.asked() {
                return Err(ErasureError::Stopped);
            }
        }
    }

    /// Waits until no comparison or rebuild of the stream's views is running, and keeps new ones out. One that has
    /// read an event must be able to read it again to undo it.
    fn lock_replays(&self, stream: &str) -> Vec<MutexGuard<'_, ()>> {
        let views = self.views.values().filter(|running| running.view.stream == stream);
        views.map(|running| event::lock(&running.replay_lock)).collect()
    }

    /// Removes the traces of deleted rows from the database's files. Waits while a reader prevents that.
    pub(super) fn scrub(&self) -> Result<(), ErasureError> {
        loop {
            match self.runtime.block_on(self.store.scrub()) {
                Err(StoreError::Transient(_)) if !self.stop.asked() => {
                    self.runtime.block_on(self.stop.within(ERASURE_CHECK_INTERVAL));
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

    /// Deletes what the views still keep about the data subject after the events are undone.
    fn forget(&self, open: &OpenErasure) -> Result<(), ErasureError> {
        let Some(fields) = self.streams.get(&open.erasure.stream) else { return Ok(()) };
        let field = fields.index_of(&open.erasure.field);
        for running in self.views.values().filter(|running| running.view.stream == open.erasure.stream) {
            match &running.view.kind {
                ViewKind::Ledger(ledger) if field == Some(ledger.key_field()) => {
                    // Hold the view, so that the row does not change between reading and writing it.
                    let _hold = self.runtime.block_on(running.hold()).ok_or(ErasureError::Stopped)?;
                    let forgotten = ledger.forget(&self.store, &running.view.name, &open.value);
                    self.runtime.block_on(forgotten)?;
                }
                // Corrections leave the notifications whose delivery was attempted.
                ViewKind::Notifications(notifications) => {
                    let events = self.ids(&open.positions)?;
                    let (view, at) = (&running.view.name, (self.log.id(), open.positions.as_slice()));
                    self.runtime.block_on(notifications.forget(&self.store, view, &events, at))?;
                }
                // Corrections leave nothing of an event in these views.
                ViewKind::Ledger(_) | ViewKind::Stats(_) | ViewKind::Table(_) => {}
            }
        }
        Ok(())
    }

    /// Returns the ids of the events at these positions.
    fn ids(&self, positions: &[u64]) -> Result<Vec<EventId>, ErasureError> {
        let (mut reader, mut ids) = (self.log.reader(), Vec::with_capacity(positions.len()));
        // Events that retention has deleted meanwhile are not in the log any more, and neither are their ids.
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
