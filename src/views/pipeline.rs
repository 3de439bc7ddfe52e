//! The way of batches into the store while a view is far behind: the next one is read and folded while the
//! store is at work on the one before. Whatever is not plain is left to the way of one batch (`cursor.rs`):
//! what a fold or the store refuses, what is taken back, what was sent again.

use std::sync::Arc;

use event::Stalled;
use event::limits::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, JOINED_BYTES_MAX, UNSAVED_POSITIONS_MAX};
use journal::failpoint;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use super::batch::{BatchLimits, Wanted};
use super::runner::{Runner, State};
use crate::store::{Halt, Plan, StoreError};

/// What is folded, and not yet in the store.
struct Pipeline {
    /// Up to where.
    to: u64,
    /// Where the plan begins that is folded next.
    claimed: u64,
    applying: Option<Applying>,
    /// Grows for as long as the store is at work.
    waiting: Option<(Plan, OwnedSemaphorePermit)>,
}

impl Pipeline {
    fn may_grow(&self) -> bool {
        self.waiting.as_ref().is_some_and(|(plan, _)| plan.only_adds() && plan.bytes() < JOINED_BYTES_MAX)
    }
}

struct Applying {
    to: u64,
    /// What became of the plan; none if the order to stop came first.
    outcome: JoinHandle<Option<Result<(), StoreError>>>,
}

/// Whether to go on like this.
#[derive(PartialEq, Eq)]
enum Next {
    On,
    Back,
}

impl Runner {
    /// Goes towards `end` for as long as batches are plain, and somebody asks for nothing else. Nothing is
    /// under way when it returns, and `state` is where the store is.
    pub(super) fn catch_up(&self, state: &mut State, end: u64) -> Result<(), Halt> {
        let mut pipeline = Pipeline { to: state.at, claimed: state.stored, applying: None, waiting: None };
        let went = self.go_ahead(state, &mut pipeline, end);
        let settled = match went {
            Ok(Next::On) => self.finish(state, &mut pipeline),
            // What waits was not begun.
            _ => self.settle(state, &mut pipeline),
        };
        if settled? == Next::On && went? == Next::On {
            state.at = pipeline.to;
            self.publish(state);
        }
        Ok(())
    }

    fn go_ahead(&self, state: &mut State, pipeline: &mut Pipeline, end: u64) -> Result<Next, Halt> {
        while pipeline.to < end && !self.stop.asked() && state.holds.is_empty() {
            let idle = pipeline.applying.is_none() && pipeline.waiting.is_none();
            if idle && pipeline.to - state.stored > UNSAVED_POSITIONS_MAX {
                break;
            }
            // Whoever keeps something waiting must not wait for others, who may do the same.
            let bytes = BATCH_BYTES_MAX as u32;
            let share = match &pipeline.waiting {
                None => self.runtime.block_on(Arc::clone(&self.budget).acquire_many_owned(bytes)).ok(),
                Some(_) => Arc::clone(&self.budget).try_acquire_many_owned(bytes).ok(),
            };
            let Some(share) = share else { break };
            let Some(plan) = self.fold_ahead(state, pipeline, end)? else { break };
            // Over a batch without events the position goes along with the next.
            if pipeline.claimed == pipeline.to && self.take_in(state, pipeline, plan, share)? == Next::Back {
                return Ok(Next::Back);
            }
        }
        Ok(Next::On)
    }

    /// The plan of the next batch; `None` if that is not plain.
    fn fold_ahead(&self, state: &mut State, pipeline: &mut Pipeline, end: u64) -> Result<Option<Plan>, Halt> {
        let wanted = Wanted { view: &self.view.name, stream: &self.view.stream };
        let limits = BatchLimits { until: end, events_max: BATCH_EVENTS_MAX };
        let read = state.reader.records(pipeline.to, BATCH_BYTES_MAX)?;
        let batch = read.batch(wanted, limits)?;
        let folded = self.view.fold(&self.fields, &batch.events);
        if !batch.plain || !folded.refused.is_empty() || batch.span.is_empty() {
            return Ok(None);
        }
        let mut plan = Plan::new(self.claim(pipeline.claimed, batch.span.end));
        plan.writes = folded.writes;
        plan.rows = folded.rows;
        pipeline.to = batch.span.end;
        if !batch.events.is_empty() {
            pipeline.claimed = pipeline.to;
        }
        Ok(Some(plan))
    }

    /// Gives the plan to the store, or lets it wait with those that wait already.
    fn take_in(
        &self,
        state: &mut State,
        pipeline: &mut Pipeline,
        plan: Plan,
        share: OwnedSemaphorePermit,
    ) -> Result<Next, Halt> {
        if pipeline.waiting.as_ref().is_some_and(|(waiting, _)| !waiting.takes_in(&plan))
            && self.start_waiting(state, pipeline)? == Next::Back
        {
            return Ok(Next::Back);
        }
        match &mut pipeline.waiting {
            Some((waiting, _)) => waiting.join(plan),
            None => pipeline.waiting = Some((plan, share)),
        }
        let at_work = pipeline.applying.as_ref().is_some_and(|applying| !applying.outcome.is_finished());
        match at_work && pipeline.may_grow() {
            true => Ok(Next::On),
            false => self.start_waiting(state, pipeline),
        }
    }

    fn start_waiting(&self, state: &mut State, pipeline: &mut Pipeline) -> Result<Next, Halt> {
        if self.settle(state, pipeline)? == Next::Back {
            return Ok(Next::Back);
        }
        if let Some((plan, share)) = pipeline.waiting.take() {
            self.hand_over(pipeline, plan, share);
        }
        Ok(Next::On)
    }

    fn finish(&self, state: &mut State, pipeline: &mut Pipeline) -> Result<Next, Halt> {
        match self.start_waiting(state, pipeline)? {
            Next::On => self.settle(state, pipeline),
            Next::Back => Ok(Next::Back),
        }
    }

    fn hand_over(&self, pipeline: &mut Pipeline, plan: Plan, share: OwnedSemaphorePermit) {
        failpoint::hit("views.folded");
        let (store, stop, progress) = (self.store.clone(), self.stop.clone(), self.progress.clone());
        let to = plan.claim.to;
        let outcome = self.runtime.spawn(async move {
            let mut share = Some(share);
            let waiting = |reason: &str| {
                // It may take as long as somebody holds a lock: the other views' turn is not to wait for that.
                drop(share.take());
                progress.send_modify(|applied| applied.stalled = Some(Stalled::Waiting(reason.to_owned())));
            };
            let applied = store.apply_surely(Arc::new(plan), &stop, waiting).await;
            applied.map(|outcome| outcome.map(drop))
        });
        pipeline.applying = Some(Applying { to, outcome });
    }

    /// Waits for what the store is at work on. A row that it refuses is found batch by batch.
    fn settle(&self, state: &mut State, pipeline: &mut Pipeline) -> Result<Next, Halt> {
        let Some(Applying { to, outcome }) = pipeline.applying.take() else { return Ok(Next::On) };
        match self.runtime.block_on(outcome) {
            Ok(Some(Ok(()))) => {
                failpoint::hit("views.applied");
                (state.stored, state.at, state.dead_in_a_row) = (to, to, 0);
                state.backoff = Default::default();
                self.publish(state);
                Ok(Next::On)
            }
            Ok(Some(Err(StoreError::Data(_))) | None) | Err(_) => Ok(Next::Back),
            Ok(Some(Err(error))) => Err(error.into()),
        }
    }
}
