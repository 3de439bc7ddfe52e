//! Follows the log for a view with `batch`: its events wait until there are enough of them, or until the oldest one is
//! old enough.
//!
//! The events are found by the heads of their records, once, and only their positions are kept. They are read a second
//! time when they are applied. So waiting events take no memory, and an erasure has nothing to remove from memory.

use std::time::{Duration, Instant};

use event::limits::{
    BATCH_EVENTS_PACED_MIN, BATCH_INTERVAL_MIN, UNSAVED_DURATION_MAX, WAITING_READ_BYTES_MAX,
};
use tokio::sync::{oneshot, watch};

use super::batch_rule::BatchRule;
use super::runner::{HoldGuard, Runner, State};
use crate::store::Halt;

enum Wakeup {
    Stop,
    Hold(oneshot::Sender<HoldGuard>),
    /// There may be something to do.
    Look,
}

impl Runner {
    /// Applies batches as `rule` says, until a stop. If the view is behind, full batches follow each other without a
    /// pause. The pipeline is not used for them: most of its speed comes from merging plans, but `events` bounds a plan
    /// here; and next to its own transaction, reading and folding a batch takes little time.
    pub(super) fn follow_in_batches(&self, state: &mut State, rule: BatchRule) -> Result<(), Halt> {
        let mut passed = self.dedup.follow();
        while !self.stop.asked() {
            if let Ok(answer) = state.holds.try_recv() {
                self.hold_until_released(state, answer);
                continue;
            }
            self.save_in_time(state)?;
            let begun = Instant::now();
            let end = *passed.borrow();
            let new = self.count_waiting(state, rule, end)?;
            let hurry = *state.hurry.borrow_and_update();
            state.waiting.hurry(hurry);
            let due = state.waiting.due(rule);
            if due.is_some_and(|due| due <= begun) {
                self.apply_waiting(state, rule.events)?;
                continue;
            }
            if state.waiting.counted() < end {
                // The rest is counted after the next look at stops, holds and what is due.
                continue;
            }
            if self.progress.borrow().stalled.is_some() {
                self.publish(state);
            }
            if new.is_some_and(|events| events == 0 || events >= BATCH_EVENTS_PACED_MIN as u64) {
                // Let more events arrive, so that each one does not wake this thread.
                let left = due.map_or(Duration::MAX, |due| due.saturating_duration_since(Instant::now()));
                std::thread::sleep(BATCH_INTERVAL_MIN.min(left));
            }
            match self.wait_until(due, state, &mut passed) {
                Wakeup::Stop => return Ok(()),
                Wakeup::Hold(answer) => self.hold_until_released(state, answer),
                Wakeup::Look => {}
            }
        }
        Ok(())
    }

    /// Counts events before `end`: those of one read of the log, unless there are enough for a batch. Returns the number
    /// of new ones, or `None` if nothing was left to count.
    fn count_waiting(&self, state: &mut State, rule: BatchRule, end: u64) -> Result<Option<u64>, Halt> {
        let (now, before, waiting) = (Instant::now(), state.waiting.events(), &mut state.waiting);
        let has_more = waiting.counted() < end;
        if has_more && !waiting.is_full(rule) {
            let from = waiting.counted();
            if self.dedup.has_no_events_from(&self.view.stream, from) {
                waiting.count([], end);
            } else {
                let read = state.reader.records(from, WAITING_READ_BYTES_MAX)?;
                let (found, counted) = read.positions(self.wanted(), end)?;
                waiting.count(found, counted);
            }
        }
        if waiting.counted() >= end {
            waiting.note_caught_up(now);
        }
        let (begin, new) = (waiting.begin(), waiting.events() - before);
        if begin > state.at {
            state.at = begin;
            self.publish(state);
        }
        Ok(has_more.then_some(new))
    }

    /// Waits until `due`, or until something happens before.
    fn wait_until(
        &self,
        due: Option<Instant>,
        state: &mut State,
        passed: &mut watch::Receiver<u64>,
    ) -> Wakeup {
        let counted = state.waiting.counted();
        let is_caught_up = *passed.borrow() <= counted;
        let save_at = (state.begun && state.at > state.stored).then(|| state.saved + UNSAVED_DURATION_MAX);
        let next = due.into_iter().chain(save_at).min();
        let wakeup = async {
            tokio::select! {
                biased;
                () = self.stop.wait() => Wakeup::Stop,
                Some(hold) = state.holds.recv() => Wakeup::Hold(hold),
                moved = passed.wait_for(|passed| *passed > counted) => {
                    if moved.is_ok() { Wakeup::Look } else { Wakeup::Stop }
                }
                Ok(()) = state.hurry.changed() => Wakeup::Look,
                () = sleep_until(next) => Wakeup::Look,
            }
        };
        let wakeup = self.runtime.block_on(wakeup);
        if is_caught_up {
            // No event was ready before it woke this thread.
            state.waiting.note_caught_up(Instant::now());
        }
        wakeup
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
