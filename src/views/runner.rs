//! Runs one view: read what has passed the gate, fold it, apply it under the claim, publish how far it
//! came. A thread a view, because reading and folding block; the store's answers are awaited on it.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use event::limits::{
    AHEAD_POSITIONS_MIN, BATCH_BYTES_MAX, BATCH_EVENTS_MAX, BATCH_EVENTS_PACED_MIN, BATCH_INTERVAL_MIN,
    PAUSE_RECHECK_INTERVAL, UNSAVED_DURATION_MAX, UNSAVED_POSITIONS_MAX,
};
use event::{Applied, Fields, Stalled, Stop};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::View;
use super::apply::Applier;
use super::batch::{BatchLimits, BatchReader, Wanted};
use crate::dedup::{STORED_NAME, Dedup, SET_BACK};
use crate::log::EventLog;
use crate::store::{Backoff, Claim, Halt, Plan, Store, StoreError, ViewPosition};

/// What a runner is made of.
pub struct Runner {
    pub view: View,
    pub fields: Arc<Fields>,
    pub log: EventLog,
    pub store: Store,
    pub dedup: Dedup,
    pub progress: watch::Sender<Applied>,
    /// Shared by all views: what batches may hold in memory at one time.
    pub budget: Arc<Semaphore>,
    pub stop: Stop,
    pub runtime: Handle,
}

/// A view that runs.
#[derive(Clone)]
pub struct Running {
    pub view: View,
    pub fields: Arc<Fields>,
    holds: mpsc::Sender<oneshot::Sender<Held>>,
    /// Held by whoever folds the log afresh for this view, of which there is one, and who erases from it.
    pub shadow: Arc<Mutex<()>>,
}

/// The view stands still until this is dropped.
pub struct Held {
    _release: oneshot::Sender<()>,
}

impl Running {
    /// Lets the view finish what it does and stand still; `None` if it has ended.
    pub async fn hold(&self) -> Option<Held> {
        let (sender, receiver) = oneshot::channel();
        self.holds.send(sender).await.ok()?;
        receiver.await.ok()
    }
}

/// Where the view is, beyond what its store knows.
pub(super) struct State {
    pub(super) reader: BatchReader,
    pub(super) holds: mpsc::Receiver<oneshot::Sender<Held>>,
    pub(super) stored: u64,
    pub(super) at: u64,
    begun: bool,
    pub(super) dead_in_a_row: usize,
    pub(super) backoff: Backoff,
    /// When `at` was last stored for its own sake.
    saved: Instant,
}

impl Runner {
    pub fn start(self) -> std::io::Result<(Running, JoinHandle<()>)> {
        let (sender, holds) = mpsc::channel(1);
        let running = Running {
            view: self.view.clone(),
            fields: Arc::clone(&self.fields),
            holds: sender,
            shadow: Arc::default(),
        };
        let reader = BatchReader::new(&self.log, &self.store, &self.runtime);
        let state = State {
            reader,
            holds,
            stored: 0,
            at: 0,
            begun: false,
            dead_in_a_row: 0,
            backoff: Backoff::default(),
            saved: Instant::now(),
        };
        let name = format!("view-{}", self.view.name);
        let thread = std::thread::Builder::new().name(name).spawn(move || self.run(state))?;
        Ok((running, thread))
    }

    fn run(self, mut state: State) {
        while !self.stop.asked() {
            match self.locate(&mut state).and_then(|()| self.follow(&mut state)) {
                Ok(()) => break,
                Err(Halt::Pause(reason)) => self.pause(&mut state, &reason),
                Err(Halt::Wait(reason)) => self.wait(&mut state, reason),
            }
        }
        if state.begun && state.at > state.stored {
            // Only saves the next start some reading of other streams' events.
            let _ = self.save(&mut state);
        }
    }

    /// Takes the position from the store, which alone knows it.
    fn locate(&self, state: &mut State) -> Result<(), Halt> {
        // Asked before the store is, which may only be further by then.
        let gate_stored = self.dedup.stored();
        let positions = self.runtime.block_on(self.store.positions())?;
        let stored_of = |view: &str| {
            let of_this = |row: &&ViewPosition| row.view == view && row.log == self.log.id();
            positions.iter().find(of_this).map(|row| row.position)
        };
        if stored_of(STORED_NAME).unwrap_or_else(|| self.log.begin()) < gate_stored {
            self.dedup.begin_again();
            return Err(Halt::Wait(SET_BACK.to_owned()));
        }
        let stored = stored_of(&self.view.name);
        state.begun = false;
        state.stored = stored.unwrap_or_else(|| self.log.begin());
        state.at = state.stored;
        if stored.is_some() {
            self.begin(state.stored)?;
            state.begun = true;
        }
        match *self.dedup.follow().borrow() > state.at {
            // What stopped the view is mended only once something goes through.
            true => self.progress.send_modify(|applied| applied.position = state.at),
            false => self.publish(state),
        }
        Ok(())
    }

    /// Makes or checks the table: at the first event, and whenever the view begins to run again.
    pub fn begin(&self, stored: u64) -> Result<(), Halt> {
        let claim = self.claim(stored, stored);
        Ok(self.runtime.block_on(self.store.begin_view(claim, self.view.tables()))?)
    }

    fn follow(&self, state: &mut State) -> Result<(), Halt> {
        let mut passed = self.dedup.follow();
        loop {
            self.save_in_time(state)?;
            let unsaved = state.begun && state.at > state.stored;
            let (at, save_at) = (state.at, state.saved + UNSAVED_DURATION_MAX);
            let news = async {
                tokio::select! {
                    // The order to stop goes before all else: nothing is begun after it.
                    biased;
                    () = self.stop.wait() => News::Stop,
                    Some(hold) = state.holds.recv() => News::Hold(hold),
                    further = passed.wait_for(|passed| *passed > at) => further.map_or(News::Stop, |passed| News::Passed(*passed)),
                    () = tokio::time::sleep_until(save_at.into()), if unsaved => News::Unsaved,
                }
            };
            match self.runtime.block_on(news) {
                News::Stop => return Ok(()),
                News::Unsaved => {}
                News::Hold(answer) => self.stand_still(state, answer),
                News::Passed(end) => {
                    let begun = Instant::now();
                    if self.dedup.nothing_from(&self.view.stream, state.at) {
                        // Gone past without being read, and not again for each single one of them.
                        state.at = end;
                        self.publish(state);
                        std::thread::sleep(BATCH_INTERVAL_MIN);
                        continue;
                    }
                    if state.begun && end - state.at >= AHEAD_POSITIONS_MIN {
                        self.catch_up(state, end)?;
                        if state.at >= end || self.stop.asked() || !state.holds.is_empty() {
                            continue;
                        }
                    }
                    let events = self.step(state, end)?;
                    if state.at == end && events >= BATCH_EVENTS_PACED_MIN {
                        std::thread::sleep(BATCH_INTERVAL_MIN.saturating_sub(begun.elapsed()));
                    }
                }
            }
        }
    }

    /// What lies below the stored position is read no more, and may be given up.
    fn save_in_time(&self, state: &mut State) -> Result<(), StoreError> {
        let pipeline = if state.begun { state.at - state.stored } else { 0 };
        let overdue = pipeline > 0 && state.saved.elapsed() >= UNSAVED_DURATION_MAX;
        match pipeline > UNSAVED_POSITIONS_MAX || overdue {
            true => self.save(state),
            false => Ok(()),
        }
    }

    fn save(&self, state: &mut State) -> Result<(), StoreError> {
        let plan = Arc::new(Plan::new(self.claim(state.stored, state.at)));
        state.saved = Instant::now();
        match self.runtime.block_on(self.store.apply(plan)) {
            Ok(_) => state.stored = state.at,
            // Nothing depends on it now: the next time will do.
            Err(StoreError::Transient(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn stand_still(&self, state: &State, answer: oneshot::Sender<Held>) {
        let (release, released) = oneshot::channel();
        if answer.send(Held { _release: release }).is_ok() {
            tracing::info!(view = self.view.name, position = state.at, "view is held");
            // Dropped is how it is released.
            let _ = self.runtime.block_on(released);
            tracing::info!(view = self.view.name, "view goes on");
        }
    }

    /// One batch; how many events it held.
    fn step(&self, state: &mut State, end: u64) -> Result<usize, Halt> {
        let share = self.runtime.block_on(self.budget.acquire_many(BATCH_BYTES_MAX as u32)).ok();
        let wanted = Wanted { view: &self.view.name, stream: &self.view.stream };
        let limits = BatchLimits { until: end, events_max: BATCH_EVENTS_MAX };
        // The reader leaves the state for as long as the batch borrows its buffer.
        let at = state.at;
        let State { reader, stored, begun, dead_in_a_row, .. } = state;
        let read = reader.records(at, BATCH_BYTES_MAX)?;
        let batch = read.batch(wanted, limits)?;
        let mut applier = Applier {
            runner: self,
            stored: *stored,
            begun: *begun,
            dead_in_a_row: *dead_in_a_row,
            traces: &batch.traces,
            share,
        };
        let outcome = applier.apply(&batch);
        (*stored, *begun, *dead_in_a_row) = (applier.stored, applier.begun, applier.dead_in_a_row);
        let (to, events) = (batch.span.end, batch.events.len());
        // Of a batch cut in parts, some may be in the store already: read from where it was, they would
        // be applied again.
        state.at = match &outcome {
            Ok(true) => to,
            _ => state.stored.max(state.at),
        };
        if outcome? {
            state.backoff = Backoff::default();
            self.publish(state);
        }
        Ok(events)
    }

    pub fn claim(&self, stored: u64, to: u64) -> Claim {
        Claim { view: self.view.name.clone(), log: self.log.id(), from: stored, to }
    }

    pub(super) fn publish(&self, state: &State) {
        self.progress.send_replace(Applied { position: state.at, stalled: None });
    }

    fn wait(&self, state: &mut State, reason: String) {
        let delay = state.backoff.pause();
        tracing::warn!(
            view = self.view.name,
            reason,
            delay_ms = delay.as_millis() as u64,
            "view waits for its store"
        );
        self.progress.send_modify(|applied| applied.stalled = Some(Stalled::Waiting(reason)));
        self.runtime.block_on(self.stop.within(delay));
    }

    fn pause(&self, state: &mut State, reason: &str) {
        let stalled = Stalled::Paused(reason.to_owned());
        let first = self.progress.send_if_modified(|applied| {
            let new = applied.stalled.as_ref() != Some(&stalled);
            applied.stalled = Some(stalled.clone());
            new
        });
        if first {
            tracing::error!(view = self.view.name, reason, "view stands still");
        }
        // A held view answers also while it stands still: a rebuild may be what mends it.
        let recheck = async {
            tokio::select! {
                _ = self.stop.within(PAUSE_RECHECK_INTERVAL) => None,
                hold = state.holds.recv() => hold,
            }
        };
        if let Some(answer) = self.runtime.block_on(recheck) {
            self.stand_still(state, answer);
        }
    }
}

enum News {
    Stop,
    Unsaved,
    Hold(oneshot::Sender<Held>),
    Passed(u64),
}
