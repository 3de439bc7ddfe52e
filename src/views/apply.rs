//! Applies one batch to the store: it is folded into a plan, and the plan is committed under the claim. If the
//! database rejects a row, the batch is cut into halves until the event at fault is alone. That event becomes a dead
//! letter, and all others are applied.

use std::sync::Arc;
use std::time::Instant;

use event::limits::{BATCH_BYTES_MAX, DEAD_LETTERS_IN_A_ROW_MAX};
use event::{Backoff, Stalled};
use tokio::sync::SemaphorePermit;

use super::batch::{Batch, BatchLimits, Event};
use super::batch_report;
use super::bisect::Bisect;
use super::dead_letter::{self, DeadLettered};
use super::definition_ranges::DefinitionRanges;
use super::runner::{Runner, State};
use crate::log::Traces;
use crate::store::{Claim, DeadLetterChange, Halt, Plan, StoreError};

impl Runner {
    /// Applies the next batch, up to `end`. Returns its number of events.
    pub(super) fn apply_next(&self, state: &mut State, end: u64) -> Result<usize, Halt> {
        let permit = self.batch_memory();
        let limits = BatchLimits { until: end, events_max: self.view.events_together() };
        // Borrow the fields of `state` separately, because the batch borrows the reader's buffer.
        let at = state.at;
        let State { reader, definitions, stored, begun, dead_in_a_row, .. } = state;
        let read = reader.records(at, BATCH_BYTES_MAX)?;
        let batch = read.batch(self.wanted(), limits)?;
        let traces = &batch.traces;
        let outcome =
            Applier { runner: self, definitions, stored, begun, dead_in_a_row, traces, permit }.run(&batch);
        let (to, events) = (batch.span.end, batch.events.len());
        self.end_batch(state, to, outcome)?;
        Ok(events)
    }

    /// Applies the next waiting events of a view with `batch`, at most `events_max`.
    pub(super) fn apply_waiting(&self, state: &mut State, events_max: usize) -> Result<(), Halt> {
        let permit = self.batch_memory();
        let batch = state.reader.gather(
            self.wanted(),
            &state.waiting,
            events_max.min(self.view.events_together()),
        )?;
        let State { definitions, stored, begun, dead_in_a_row, .. } = state;
        let traces = &batch.traces;
        let outcome =
            Applier { runner: self, definitions, stored, begun, dead_in_a_row, traces, permit }.run(&batch);
        self.end_batch(state, batch.span.end, outcome)?;
        state.waiting.remove_applied(state.at);
        Ok(())
    }

    /// Tells subscribers and delivery of an applied plan.
    pub(super) fn tell(&self, plan: &Plan) {
        self.changes.note(&self.view, plan);
        if plan.queued().next().is_some() {
            self.queued.send_replace(());
        }
    }

    /// Waits for a part of the memory that all views may use for batches.
    fn batch_memory(&self) -> Option<SemaphorePermit<'_>> {
        self.runtime.block_on(self.budget.acquire_many(BATCH_BYTES_MAX as u32)).ok()
    }

    /// Moves the view's position past a batch that ends at `to`, if the batch was applied.
    fn end_batch(&self, state: &mut State, to: u64, outcome: Result<bool, Halt>) -> Result<(), Halt> {
        // Some parts of the batch may be committed already. Continue after them, or they would be applied again.
        state.at = match &outcome {
            Ok(true) => to,
            _ => state.stored.max(state.at),
        };
        if outcome? {
            state.backoff = Backoff::default();
            self.publish(state);
        }
        Ok(())
    }
}

/// Applies one batch. If the batch is cut into parts, each committed part moves the stored position.
struct Applier<'a> {
    runner: &'a Runner,
    definitions: &'a DefinitionRanges,
    stored: &'a mut u64,
    begun: &'a mut bool,
    dead_in_a_row: &'a mut usize,
    traces: &'a Traces,
    /// A part of the memory that all views may use for batches. It is released while the store is unavailable.
    permit: Option<SemaphorePermit<'a>>,
}

impl Applier<'_> {
    /// Applies the batch with its lines in the program log. Returns `false` if a stop was requested before the whole batch
    /// was applied.
    fn run(mut self, batch: &Batch<'_>) -> Result<bool, Halt> {
        let (view, events, begun) = (&self.runner.view, batch.events.len(), Instant::now());
        // A batch that is tried again after a failure was logged before.
        if events > 0 && self.runner.progress.borrow().stalled.is_none() {
            batch_report::received(view, events);
        }
        let mut dead_lettered = DeadLettered::default();
        let applied = self.apply(batch, &mut dead_lettered)?;
        if applied && events > 0 {
            let dead = dead_lettered.count();
            batch_report::saved(view, events - dead, dead, batch.span.end, begun);
        }
        Ok(applied)
    }

    fn apply(&mut self, batch: &Batch<'_>, dead_lettered: &mut DeadLettered) -> Result<bool, Halt> {
        if batch.events.is_empty() {
            return Ok(true);
        }
        if !*self.begun {
            // Earlier positions contain no event of this view, and retention may delete them at any time.
            *self.stored = batch.span.start;
            self.runner.begin(*self.stored)?;
            *self.begun = true;
            failpoint::hit("views.begun");
        }
        let mut bisect = Bisect::new(batch.events.len());
        while let Some(part) = bisect.next() {
            let end = batch.events.get(part.end).map_or(batch.span.end, |event| event.position);
            let events = dead_lettered.without_idle_corrections(&batch.events[part.clone()]);
            let Some((plan, refused)) = self.plan(&events, end) else {
                bisect.refused(part);
                continue;
            };
            dead_lettered.note(&plan.dead_letters);
            let mut dead = if refused.len() == events.len() { refused.len() } else { 0 };
            if dead > 0 {
                self.limit_dead_in_a_row(dead, &refused[0].1)?;
            }
            let applied = match self.commit(plan)? {
                Err(StoreError::Data(_)) if bisect.refused(part.clone()) => continue,
                Err(StoreError::Data(reason)) => {
                    dead = 1;
                    self.limit_dead_in_a_row(dead, &reason)?;
                    let event = &batch.events[part.start];
                    let letter =
                        dead_letter::for_event(&self.runner.view, self.runner.log.id(), event, reason);
                    dead_lettered.note(std::slice::from_ref(&letter));
                    self.commit_dead_letter(letter, end)?
                }
                outcome => outcome?,
            };
            if !applied {
                return Ok(false);
            }
            // Count only after the commit: if the store is unavailable, the same events are tried repeatedly.
            *self.dead_in_a_row = if dead > 0 { *self.dead_in_a_row + dead } else { 0 };
        }
        Ok(true)
    }

    /// Returns the plan and the events that it leaves out. Returns `None` if it would need too much memory, which one event
    /// never does.
    fn plan(&self, events: &[Event<'_>], to: u64) -> Option<(Plan, Vec<(usize, String)>)> {
        let (view, log) = (&self.runner.view, self.runner.log.id());
        let folded = if self.definitions.undo_earlier(events) {
            self.definitions.fold(events)
        } else {
            view.fold(&self.runner.fields, events)
        };
        if folded.is_too_large {
            return None;
        }
        let (mut plan, refused) = folded.into_plan(self.claim(to));
        plan.dead_letters = dead_letter::changes(view, log, events, &refused);
        Some((plan, refused))
    }

    fn commit_dead_letter(&mut self, letter: DeadLetterChange, to: u64) -> Result<bool, Halt> {
        let mut plan = Plan::new(self.claim(to));
        plan.dead_letters.push(letter);
        Ok(self.commit(plan)??)
    }

    /// Pauses the view if too many events in a row became dead letters. Single events are then not the cause, and a
    /// person has to look.
    fn limit_dead_in_a_row(&self, events: usize, reason: &str) -> Result<(), Halt> {
        let count = *self.dead_in_a_row + events;
        if count > DEAD_LETTERS_IN_A_ROW_MAX {
            Err(Halt::Pause(format!(
                "{count} events in a row could not be applied; the reason for one of them: {reason}"
            )))
        } else {
            Ok(())
        }
    }

    fn claim(&self, to: u64) -> Claim {
        self.runner.claim(*self.stored, to)
    }

    /// Commits the plan. Returns `Ok(Ok(false))` if a stop was requested first. The inner error is a row that the
    /// database rejected, which the caller handles; the outer error halts the view.
    fn commit(&mut self, plan: Plan) -> Result<Result<bool, StoreError>, Halt> {
        let to = plan.claim.to;
        let dead_letters = dead_letter::created(&plan.dead_letters);
        let (progress, permit) = (self.runner.progress.clone(), &mut self.permit);
        let on_wait = move |reason: &str| {
            drop(permit.take());
            progress.send_modify(|applied| applied.stalled = Some(Stalled::Waiting(reason.to_owned())));
        };
        let runner = self.runner;
        failpoint::hit("views.folded");
        let plan = Arc::new(plan);
        let applied = runner.store.apply_with_retry(Arc::clone(&plan), &runner.stop, on_wait);
        match runner.runtime.block_on(applied) {
            None => Ok(Ok(false)),
            Some(Ok(_)) => {
                *self.stored = to;
                failpoint::hit("views.applied");
                runner.tell(&plan);
                self.traces.report_dead_letters(&runner.view.name, &dead_letters);
                Ok(Ok(true))
            }
            Some(Err(error @ StoreError::Data(_))) => Ok(Err(error)),
            Some(Err(error)) => Err(error.into()),
        }
    }
}
