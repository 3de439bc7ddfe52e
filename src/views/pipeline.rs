//! Catches up with the log when a view is far behind: the next batch is read and folded while the store applies the
//! previous one. This works only for plain batches. Batches with corrections, retried dead letters, or events that
//! the fold or the store refuses are left to `apply.rs`, which applies one batch at a time.

use std::sync::Arc;
use std::time::Instant;

use event::Stalled;
use event::limits::{BATCH_BYTES_MAX, MERGED_PLAN_BYTES_MAX, UNSAVED_POSITIONS_MAX};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use super::batch::BatchLimits;
use super::batch_report;
use super::runner::{Runner, State};
use crate::store::{Halt, Plan, StoreError};

/// The batches that are folded and not yet committed.
struct Pipeline {
    /// The position up to which batches are folded.
    to: u64,
    /// The position at which the claim of the next plan begins.
    claimed: u64,
    applying: Option<Applying>,
    /// The plan to apply next. Further plans are merged into it while the store is busy.
    queued: Option<Queued>,
}

/// A plan with its part of the memory for batches.
struct Queued {
    plan: Plan,
    permit: OwnedSemaphorePermit,
    /// The number of events, and the time at which the first of them were read; for the program log.
    events: usize,
    begun: Instant,
}

impl Pipeline {
    fn may_grow(&self) -> bool {
        let may_grow =
            |queued: &Queued| queued.plan.only_adds() && queued.plan.bytes() < MERGED_PLAN_BYTES_MAX;
        self.queued.as_ref().is_some_and(may_grow)
    }
}

struct Applying {
    plan: Arc<Plan>,
    events: usize,
    begun: Instant,
    /// The outcome of the plan; `None` if a stop was requested first.
    outcome: JoinHandle<Option<Result<(), StoreError>>>,
}

/// The decision after each step: continue, or fall back to applying one batch at a time.
#[derive(PartialEq, Eq)]
enum Next {
    Continue,
    FallBack,
}

impl Runner {
    /// Applies batches up to `end`. Ends early at a batch that is not plain, if memory for batches is short, and if a
    /// stop or a hold is requested. When it returns, no plan is being applied, and `state` matches the store.
    pub(super) fn catch_up(&self, state: &mut State, end: u64) -> Result<(), Halt> {
        let mut pipeline = Pipeline { to: state.at, claimed: state.stored, applying: None, queued: None };
        let ran = self.run_pipeline(state, &mut pipeline, end);
        let ended = match ran {
            Ok(Next::Continue) => self.drain(state, &mut pipeline),
            // The queued plan was not started, and is dropped. Its events are read again.
            _ => self.finish_applying(state, &mut pipeline),
        };
        if ended? == Next::Continue && ran? == Next::Continue {
            state.at = pipeline.to;
            self.publish(state);
        }
        Ok(())
    }

    fn run_pipeline(&self, state: &mut State, pipeline: &mut Pipeline, end: u64) -> Result<Next, Halt> {
        while pipeline.to < end && !self.stop.asked() && state.holds.is_empty() {
            let idle = pipeline.applying.is_none() && pipeline.queued.is_none();
            if idle && pipeline.to - state.stored > UNSAVED_POSITIONS_MAX {
                break;
            }
            // A view that holds memory for a queued plan must not wait for more: other views may do the same, and all
            // of them would wait forever.
            let bytes = BATCH_BYTES_MAX as u32;
            let permit = match &pipeline.queued {
                None => self.runtime.block_on(Arc::clone(&self.budget).acquire_many_owned(bytes)).ok(),
                Some(_) => Arc::clone(&self.budget).try_acquire_many_owned(bytes).ok(),
            };
            let Some(permit) = permit else { break };
            let begun = Instant::now();
            let Some((plan, events)) = self.fold_ahead(state, pipeline, end)? else { break };
            let folded = Queued { plan, permit, events, begun };
            // A batch without events needs no plan: the next plan moves the position past it.
            if pipeline.claimed == pipeline.to && self.enqueue(state, pipeline, folded)? == Next::FallBack {
                return Ok(Next::FallBack);
            }
        }
        Ok(Next::Continue)
    }

    /// Folds the next batch into a plan. Returns the plan and the number of its events, or `None` if the batch is not
    /// plain.
    fn fold_ahead(
        &self,
        state: &mut State,
        pipeline: &mut Pipeline,
        end: u64,
    ) -> Result<Option<(Plan, usize)>, Halt> {
        let limits = BatchLimits { until: end, events_max: self.view.events_together() };
        let read = state.reader.records(pipeline.to, BATCH_BYTES_MAX)?;
        let batch = read.batch(self.wanted(), limits)?;
        let folded = self.view.fold(&self.fields, &batch.events);
        if !batch.plain || folded.is_too_large || !folded.refused.is_empty() || batch.span.is_empty() {
            return Ok(None);
        }
        let (plan, _) = folded.into_plan(self.claim(pipeline.claimed, batch.span.end));
        pipeline.to = batch.span.end;
        if !batch.events.is_empty() {
            pipeline.claimed = pipeline.to;
            batch_report::received(&self.view, batch.events.len());
        }
        Ok(Some((plan, batch.events.len())))
    }

    /// Starts the plan, or merges it into the queued plan while the store is busy.
    fn enqueue(&self, state: &mut State, pipeline: &mut Pipeline, folded: Queued) -> Result<Next, Halt> {
        if pipeline.queued.as_ref().is_some_and(|queued| !queued.plan.can_merge(&folded.plan))
            && self.start_queued(state, pipeline)? == Next::FallBack
        {
            return Ok(Next::FallBack);
        }
        match &mut pipeline.queued {
            Some(queued) => {
                queued.plan.merge(folded.plan);
                queued.events += folded.events;
            }
            None => pipeline.queued = Some(folded),
        }
        let busy = pipeline.applying.as_ref().is_some_and(|applying| !applying.outcome.is_finished());
        if busy && pipeline.may_grow() { Ok(Next::Continue) } else { self.start_queued(state, pipeline) }
    }

    fn start_queued(&self, state: &mut State, pipeline: &mut Pipeline) -> Result<Next, Halt> {
        if self.finish_applying(state, pipeline)? == Next::FallBack {
            return Ok(Next::FallBack);
        }
        if let Some(queued) = pipeline.queued.take() {
            self.start_applying(pipeline, queued);
        }
        Ok(Next::Continue)
    }

    fn drain(&self, state: &mut State, pipeline: &mut Pipeline) -> Result<Next, Halt> {
        match self.start_queued(state, pipeline)? {
            Next::Continue => self.finish_applying(state, pipeline),
            Next::FallBack => Ok(Next::FallBack),
        }
    }

    fn start_applying(&self, pipeline: &mut Pipeline, queued: Queued) {
        let Queued { plan, permit, events, begun } = queued;
        failpoint::hit("views.folded");
        let (store, stop, progress) = (self.store.clone(), self.stop.clone(), self.progress.clone());
        let plan = Arc::new(plan);
        let of_task = Arc::clone(&plan);
        let outcome = self.runtime.spawn(async move {
            let mut permit = Some(permit);
            let on_wait = |reason: &str| {
                // The store may be unavailable for long, for example because of a lock. Release the memory for
                // other views.
                drop(permit.take());
                progress.send_modify(|applied| applied.stalled = Some(Stalled::Waiting(reason.to_owned())));
            };
            let applied = store.apply_with_retry(of_task, &stop, on_wait).await;
            applied.map(|outcome| outcome.map(drop))
        });
        pipeline.applying = Some(Applying { plan, events, begun, outcome });
    }

    /// Waits for the plan that the store is applying. Falls back to single batches if the database rejected a row.
    fn finish_applying(&self, state: &mut State, pipeline: &mut Pipeline) -> Result<Next, Halt> {
        let Some(Applying { plan, events, begun, outcome }) = pipeline.applying.take() else {
            return Ok(Next::Continue);
        };
        match self.runtime.block_on(outcome) {
            Ok(Some(Ok(()))) => {
                failpoint::hit("views.applied");
                self.tell(&plan);
                let to = plan.claim.to;
                batch_report::saved(&self.view, events, 0, to, begun);
                (state.stored, state.at, state.dead_in_a_row) = (to, to, 0);
                state.backoff = Default::default();
                self.publish(state);
                Ok(Next::Continue)
            }
            Ok(Some(Err(StoreError::Data(_))) | None) | Err(_) => Ok(Next::FallBack),
            Ok(Some(Err(error))) => Err(error.into()),
        }
    }
}
