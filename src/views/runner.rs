//! Runs one view: reads the events that have passed dedup, folds them, applies them under the claim, and publishes
//! the new position. Each view has its own thread, because reading and folding block. That thread also waits for
//! the store.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use event::limits::{
    BATCH_EVENTS_PACED_MIN, BATCH_INTERVAL_MIN, PAUSE_RECHECK_INTERVAL, PIPELINE_POSITIONS_MIN,
    UNSAVED_DURATION_MAX, UNSAVED_POSITIONS_MAX,
};
use event::{Applied, Backoff, Fields, Stalled, Stop};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::View;
use super::batch::{BatchReader, Wanted};
use super::batch_timing::Waiting;
use super::changes::Changes;
use super::definition::Definition;
use super::definition_ranges::DefinitionRanges;
use crate::dedup::{Dedup, STORE_WENT_BACK};
use crate::log::EventLog;
use crate::store::{
    Claim, DEDUP_STORED_NAME, Halt, Plan, Store, StoreError, TableFault, ViewPosition, ViewTables,
    publish_pause,
};

/// Everything that a view needs to run.
pub struct Runner {
    pub view: View,
    pub fields: Arc<Fields>,
    pub definition: Arc<Definition>,
    pub log: EventLog,
    pub store: Store,
    pub dedup: Dedup,
    pub progress: watch::Sender<Applied>,
    /// Told of each commit.
    pub changes: Changes,
    /// Told of each commit that queues notifications.
    pub queued: watch::Sender<()>,
    /// Limits the memory of the batches of all views.
    pub budget: Arc<Semaphore>,
    pub stop: Stop,
    pub runtime: Handle,
}

/// The handle of a view that is running.
#[derive(Clone)]
pub struct Running {
    pub view: View,
    pub fields: Arc<Fields>,
    pub definition: Arc<Definition>,
    pub changes: Changes,
    holds: mpsc::Sender<oneshot::Sender<HoldGuard>>,
    hurry: watch::Sender<u64>,
    /// Locked by a comparison, a rebuild or an erasure of this view. Only one of them runs at a time.
    pub replay_lock: Arc<Mutex<()>>,
}

/// Keeps a view on hold until it is dropped.
pub struct HoldGuard {
    _release: oneshot::Sender<()>,
}

impl Running {
    /// Waits until the view has finished its current work, and puts it on hold. Returns `None` if the view has
    /// stopped.
    pub async fn hold(&self) -> Option<HoldGuard> {
        let (sender, receiver) = oneshot::channel();
        self.holds.send(sender).await.ok()?;
        receiver.await.ok()
    }

    /// Lets no event below `position` wait for a batch of the view. The view applies them now.
    pub fn hurry(&self, position: u64) {
        self.hurry.send_if_modified(|until| {
            let grows = position > *until;
            *until = position.max(*until);
            grows
        });
    }
}

/// The state of a running view.
pub(super) struct State {
    pub(super) reader: BatchReader,
    /// The definitions under which the events are folded; read from the store once the view has begun.
    pub(super) definitions: DefinitionRanges,
    pub(super) holds: mpsc::Receiver<oneshot::Sender<HoldGuard>>,
    /// The events of a view with `batch` that are not applied yet.
    pub(super) waiting: Waiting,
    /// Events below this position do not wait.
    pub(super) hurry: watch::Receiver<u64>,
    /// The position in the store.
    pub(super) stored: u64,
    /// The position reached. There are no events of this view between `stored` and this position.
    pub(super) at: u64,
    pub(super) begun: bool,
    pub(super) dead_in_a_row: usize,
    pub(super) backoff: Backoff,
    /// The time at which `save` last stored `at`.
    pub(super) saved: Instant,
}

impl Runner {
    pub fn start(self) -> std::io::Result<(Running, JoinHandle<()>)> {
        let (sender, holds) = mpsc::channel(1);
        let (hurry, hurry_receiver) = watch::channel(0);
        let running = Running {
            view: self.view.clone(),
            fields: Arc::clone(&self.fields),
            definition: Arc::clone(&self.definition),
            changes: self.changes.clone(),
            holds: sender,
            hurry,
            replay_lock: Arc::default(),
        };
        let reader = BatchReader::new(&self.log, &self.store, &self.runtime);
        let state = State {
            reader,
            definitions: DefinitionRanges::default(),
            holds,
            waiting: Waiting::new(Instant::now()),
            hurry: hurry_receiver,
            stored: 0,
            at: 0,
            begun: false,
            dead_in_a_row: 0,
            backoff: Backoff::default(),
            saved: Instant::now(),
        };
        let name = format!("view-{}", self.view.name);
        let thread = event::start_thread(&name, move || self.run(state))?;
        Ok((running, thread))
    }

    fn run(self, mut state: State) {
        while !self.stop.asked() {
            match self.locate(&mut state).and_then(|()| self.work(&mut state)) {
                Ok(()) => break,
                Err(Halt::Pause(reason)) => self.pause(&mut state, &reason),
                Err(Halt::Wait(reason)) => self.wait(&mut state, reason),
                Err(Halt::ReadAgain(reason)) => {
                    tracing::info!(view = self.view.name, reason, "view reads its position again");
                    self.wait(&mut state, reason);
                }
            }
        }
        if state.begun && state.at > state.stored {
            // This only spares the next start from reading events of other streams again.
            let _ = self.save(&mut state);
        }
    }

    fn work(&self, state: &mut State) -> Result<(), Halt> {
        match self.view.batch {
            None => self.follow(state),
            Some(rule) => self.follow_in_batches(state, rule),
        }
    }

    /// Reads the position from the store, the only place where it is kept.
    fn locate(&self, state: &mut State) -> Result<(), Halt> {
        // Read this before the store's positions: by then, they may be higher, but not lower.
        let dedup_stored = self.dedup.stored();
        let positions = self.runtime.block_on(self.store.positions())?;
        let row_of = |view: &str| {
            let of_this = |row: &&ViewPosition| row.view == view && row.log == self.log.id();
            positions.iter().find(of_this)
        };
        let dedup_is_at = row_of(DEDUP_STORED_NAME).map(|row| row.position);
        if dedup_is_at.unwrap_or_else(|| self.log.begin()) < dedup_stored {
            self.dedup.restart();
            return Err(Halt::ReadAgain(STORE_WENT_BACK.to_owned()));
        }
        let row = row_of(&self.view.name);
        state.begun = false;
        state.stored = row.map_or_else(|| self.log.begin(), |row| row.position);
        state.at = state.stored;
        state.waiting.restart(state.at);
        // A view that pauses now shows how far it is.
        self.progress.send_modify(|applied| applied.set_position(state.at));
        if let Some(row) = row {
            state.definitions = self.agree_on_definition(row)?;
            self.begin(state.stored)?;
            state.begun = true;
        } else {
            self.agree_with_other_logs(&positions)?;
            self.check_tables()?;
        }
        if *self.dedup.follow().borrow() <= state.at {
            self.publish(state);
        }
        Ok(())
    }

    /// Checks the view's tables that exist. A person learns of all faults before the first event.
    pub(super) fn check_tables(&self) -> Result<(), Halt> {
        let faults = self.runtime.block_on(self.store.check_view(&self.view.name, &self.view.tables()))?;
        if faults.is_empty() { Ok(()) } else { Err(Halt::Pause(TableFault::list(&faults))) }
    }

    /// Creates the view's tables, or checks existing ones. Runs at the first event, and when the view starts or
    /// resumes.
    pub fn begin(&self, stored: u64) -> Result<(), Halt> {
        let claim = self.claim(stored, stored);
        let tables = ViewTables { definition: Some(self.definition.stored().clone()), ..self.view.tables() };
        Ok(self.runtime.block_on(self.store.begin_view(claim, tables))?)
    }

    fn follow(&self, state: &mut State) -> Result<(), Halt> {
        let mut passed = self.dedup.follow();
        loop {
            self.save_in_time(state)?;
            let unsaved = state.begun && state.at > state.stored;
            let (at, save_at) = (state.at, state.saved + UNSAVED_DURATION_MAX);
            let wakeup = async {
                tokio::select! {
                    // A stop has priority, so that no work begins after it.
                    biased;
                    () = self.stop.wait() => Wakeup::Stop,
                    Some(hold) = state.holds.recv() => Wakeup::Hold(hold),
                    moved = passed.wait_for(|passed| *passed > at) => {
                        moved.map_or(Wakeup::Stop, |passed| Wakeup::Passed(*passed))
                    }
                    () = tokio::time::sleep_until(save_at.into()), if unsaved => Wakeup::Unsaved,
                }
            };
            match self.runtime.block_on(wakeup) {
                Wakeup::Stop => return Ok(()),
                Wakeup::Unsaved => {}
                Wakeup::Hold(answer) => self.hold_until_released(state, answer),
                Wakeup::Passed(end) => {
                    let begun = Instant::now();
                    if self.dedup.has_no_events_from(&self.view.stream, state.at) {
                        // Skip these positions without reading them. The sleep lets more of them arrive, so that
                        // each one does not wake this thread.
                        state.at = end;
                        self.publish(state);
                        std::thread::sleep(BATCH_INTERVAL_MIN);
                        continue;
                    }
                    if state.begun && end - state.at >= PIPELINE_POSITIONS_MIN {
                        self.catch_up(state, end)?;
                        if state.at >= end || self.stop.asked() || !state.holds.is_empty() {
                            continue;
                        }
                    }
                    let events = self.apply_next(state, end)?;
                    if state.at == end && events >= BATCH_EVENTS_PACED_MIN {
                        std::thread::sleep(BATCH_INTERVAL_MIN.saturating_sub(begun.elapsed()));
                    }
                }
            }
        }
    }

    /// Stores the position if it is too far ahead of the stored one, or has been for too long. Retention deletes only
    /// events below the stored positions.
    pub(super) fn save_in_time(&self, state: &mut State) -> Result<(), StoreError> {
        let unsaved = if state.begun { state.at - state.stored } else { 0 };
        let overdue = unsaved > 0 && state.saved.elapsed() >= UNSAVED_DURATION_MAX;
        if unsaved > UNSAVED_POSITIONS_MAX || overdue { self.save(state) } else { Ok(()) }
    }

    fn save(&self, state: &mut State) -> Result<(), StoreError> {
        let plan = Arc::new(Plan::new(self.claim(state.stored, state.at)));
        state.saved = Instant::now();
        match self.runtime.block_on(self.store.apply(plan)) {
            Ok(_) => state.stored = state.at,
            // This is not urgent: the next call tries again.
            Err(StoreError::Transient(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    pub(super) fn hold_until_released(&self, state: &State, answer: oneshot::Sender<HoldGuard>) {
        let (release, released) = oneshot::channel();
        if answer.send(HoldGuard { _release: release }).is_ok() {
            tracing::info!(view = self.view.name, position = state.at, "view is on hold");
            // This ends when the guard is dropped.
            let _ = self.runtime.block_on(released);
            tracing::info!(view = self.view.name, "view continues after a hold");
        }
    }

    pub fn claim(&self, stored: u64, to: u64) -> Claim {
        let definition = Some(self.definition.stored().hash);
        Claim { view: self.view.name.clone(), log: self.log.id(), from: stored, to, definition }
    }

    /// Returns what the view's batches consist of.
    pub(super) fn wanted(&self) -> Wanted<'_> {
        Wanted { view: &self.view.name, stream: &self.view.stream }
    }

    pub(super) fn publish(&self, state: &State) {
        self.progress.send_replace(Applied::at(state.at));
    }

    fn wait(&self, state: &mut State, reason: String) {
        let delay = state.backoff.pause();
        // The server reports a failure that lasts.
        tracing::debug!(
            view = self.view.name,
            reason,
            delay_ms = delay.as_millis() as u64,
            "view waits for its store"
        );
        self.progress.send_modify(|applied| applied.stalled = Some(Stalled::Waiting(reason)));
        self.runtime.block_on(self.stop.within(delay));
    }

    fn pause(&self, state: &mut State, reason: &str) {
        if publish_pause(&self.progress, reason) {
            tracing::error!(view = self.view.name, reason, "view is paused");
        }
        // A paused view also accepts a hold, because a rebuild may fix it.
        let recheck = async {
            tokio::select! {
                _ = self.stop.within(PAUSE_RECHECK_INTERVAL) => None,
                hold = state.holds.recv() => hold,
            }
        };
        if let Some(answer) = self.runtime.block_on(recheck) {
            self.hold_until_released(state, answer);
        }
    }
}

enum Wakeup {
    Stop,
    Unsaved,
    Hold(oneshot::Sender<HoldGuard>),
    Passed(u64),
}
