//! The way of one batch into the store: folded, applied under the claim, cut in halves where the database
//! refuses a row, so that the one event at fault becomes a dead letter and all others count.

use std::sync::Arc;

use event::Stalled;
use event::limits::DEAD_IN_A_ROW_MAX;
use journal::failpoint;
use tokio::sync::SemaphorePermit;

use super::batch::{Batch, Event};
use super::bisect::Bisect;
use super::dead_letter::{self, PassedBy};
use super::runner::Runner;
use crate::log::Traces;
use crate::store::{Claim, DeadLetterChange, Halt, Plan, StoreError};

/// Applies one batch, moving the stored position part by part where the database refuses a row.
pub struct Applier<'a> {
    pub runner: &'a Runner,
    pub stored: u64,
    pub begun: bool,
    pub dead_in_a_row: usize,
    pub traces: &'a Traces,
    /// Of what all views may hold, for as long as the store is not waited for.
    pub share: Option<SemaphorePermit<'a>>,
}

impl Applier<'_> {
    /// `false` if the order to stop came first.
    pub fn apply(&mut self, batch: &Batch<'_>) -> Result<bool, Halt> {
        if batch.events.is_empty() {
            return Ok(true);
        }
        if !self.begun {
            // What lies below held nothing for this view, and may be given up any moment.
            self.stored = batch.span.start;
            self.runner.begin(self.stored)?;
            self.begun = true;
            failpoint::hit("views.begun");
        }
        let (mut bisect, mut passed_by) = (Bisect::new(batch.events.len()), PassedBy::default());
        while let Some(part) = bisect.next() {
            let end = batch.events.get(part.end).map_or(batch.span.end, |event| event.position);
            let events = passed_by.leave_out(&batch.events[part.clone()]);
            let (plan, refused) = self.plan(&events, end);
            passed_by.note(&plan.dead_letters);
            let mut dead = if refused.len() == events.len() { refused.len() } else { 0 };
            if dead > 0 {
                self.check_dead(dead, &refused[0].1)?;
            }
            let applied = match self.commit(plan)? {
                Err(StoreError::Data(_)) if bisect.refused(part.clone()) => continue,
                Err(StoreError::Data(reason)) => {
                    dead = 1;
                    self.check_dead(dead, &reason)?;
                    let event = &batch.events[part.start];
                    let letter = dead_letter::of(&self.runner.view, self.runner.log.id(), event, reason);
                    passed_by.note(std::slice::from_ref(&letter));
                    self.pass_by(letter, end)?
                }
                outcome => outcome?,
            };
            if !applied {
                return Ok(false);
            }
            // Only what went through counts: tried again for as long as the store stands still, the same
            // events would count again and again.
            self.dead_in_a_row = if dead > 0 { self.dead_in_a_row + dead } else { 0 };
        }
        Ok(true)
    }

    fn plan(&self, events: &[Event<'_>], to: u64) -> (Plan, Vec<(usize, String)>) {
        let folded = self.runner.view.fold(&self.runner.fields, events);
        let mut plan = Plan::new(self.claim(to));
        plan.writes = folded.writes;
        plan.rows = folded.rows;
        plan.dead_letters =
            dead_letter::changes(&self.runner.view, self.runner.log.id(), events, &folded.refused);
        (plan, folded.refused)
    }

    fn pass_by(&mut self, letter: DeadLetterChange, to: u64) -> Result<bool, Halt> {
        let mut plan = Plan::new(self.claim(to));
        plan.dead_letters.push(letter);
        Ok(self.commit(plan)??)
    }

    /// Where nothing goes through any more, the fault is not with single events: a person has to look.
    fn check_dead(&self, events: usize, reason: &str) -> Result<(), Halt> {
        let count = self.dead_in_a_row + events;
        match count > DEAD_IN_A_ROW_MAX {
            true => Err(Halt::Pause(format!(
                "{count} events in a row could not be applied, one of them because: {reason}"
            ))),
            false => Ok(()),
        }
    }

    fn claim(&self, to: u64) -> Claim {
        self.runner.claim(self.stored, to)
    }

    /// `Ok(Ok(true))`: it is in the database. The outer error is for a person, the inner one to decide on.
    fn commit(&mut self, plan: Plan) -> Result<Result<bool, StoreError>, Halt> {
        let to = plan.claim.to;
        let dead_letters = dead_letter::made(&plan.dead_letters);
        let (progress, share) = (self.runner.progress.clone(), &mut self.share);
        let waiting = move |reason: &str| {
            drop(share.take());
            progress.send_modify(|applied| applied.stalled = Some(Stalled::Waiting(reason.to_owned())));
        };
        let runner = self.runner;
        failpoint::hit("views.folded");
        match runner.runtime.block_on(runner.store.apply_surely(Arc::new(plan), &runner.stop, waiting)) {
            None => Ok(Ok(false)),
            Some(Ok(_)) => {
                self.stored = to;
                failpoint::hit("views.applied");
                metrics::counter!("millrace_dead_letters_total", "view" => runner.view.name.clone())
                    .increment(dead_letters.len() as u64);
                dead_letter::report(&runner.view.name, &dead_letters, self.traces);
                Ok(Ok(true))
            }
            Some(Err(error @ StoreError::Data(_))) => Ok(Err(error)),
            Some(Err(error)) => Err(error.into()),
        }
    }
}
