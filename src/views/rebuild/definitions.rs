//! The definitions under which the log is folded again. Each event is folded under the definition that applied to it. A
//! rebuild of a view whose definition has changed is the exception: it makes all rows again under the new one.

use std::cell::Cell;

use super::replay::LogReplay;
use super::{Context, RebuildError};
use crate::store::{
    Claim, DefinitionChange, DefinitionHash, DefinitionReason, StoredDefinition, TableFault, ViewPosition,
};
use crate::views::batch::Batch;
use crate::views::definition_change::{redefine, stored_row};
use crate::views::definition_ranges::DefinitionRanges;
use crate::views::{Folded, View};

pub struct Definitions {
    stored: Vec<StoredDefinition>,
    /// The hash that the view's claims have to show.
    in_force: Cell<Option<DefinitionHash>>,
    /// True if the rebuild replaces rows of an earlier definition.
    replaces: bool,
}

impl Definitions {
    /// Returns the definitions for a comparison, or for a rebuild (`repair`). Returns `None` before the view's first
    /// event.
    pub fn of(context: Context<'_>, repair: bool) -> Result<Option<Self>, RebuildError> {
        let Some(row) = context.stored_row()? else { return Ok(None) };
        let Context { view, log, store, runtime, .. } = context;
        let own = view.definition.stored();
        let replaces = repair && row.definition.is_some_and(|hash| hash != own.hash);
        let mut stored = runtime.block_on(store.definitions(&view.view.name, log.id()))?;
        // A view of an earlier millrace that has not run since has no stored definition.
        if replaces || stored.is_empty() {
            stored = vec![StoredDefinition { from: 0, hash: own.hash, text: own.text.clone() }];
        }
        Ok(Some(Self { stored, in_force: Cell::new(row.definition), replaces }))
    }

    /// Returns the ranges of the log with their rules, for a view that writes the tables of `view`.
    pub fn ranges_for(&self, view: &View) -> Result<DefinitionRanges, RebuildError> {
        DefinitionRanges::read(&self.stored, view).map_err(RebuildError::Definition)
    }

    /// Returns a claim that leaves the view at its position.
    pub fn claim(&self, context: Context<'_>, position: u64) -> Claim {
        let (view, log) = (context.view.view.name.clone(), context.log.id());
        Claim { view, log, from: position, to: position, definition: self.in_force.get() }
    }

    /// Returns true if the rebuild replaces rows of an earlier definition.
    pub fn replaces(&self) -> bool {
        self.replaces
    }

    /// Reads the whole log before the first row is replaced. Fails if the log has a hole, or if the new definition
    /// refuses an event that the rows contain: the rows would then be lost without a dead letter.
    pub fn expect_no_refusals(
        &self,
        context: Context<'_>,
        ranges: &DefinitionRanges,
        position: u64,
    ) -> Result<(), RebuildError> {
        if !self.replaces {
            return Ok(());
        }
        LogReplay::new(context, ranges, 0).each(position, |batch, range| {
            let folded = range.view.fold(&range.fields, &batch.events);
            refusal(context, batch, &folded).map_or(Ok(()), Err)
        })
    }

    /// Records that rows of an earlier definition are being replaced. Until `end_replacing`, no configuration can
    /// continue the view, because its rows belong to two definitions.
    pub fn begin_to_replace(&self, context: Context<'_>) -> Result<(), RebuildError> {
        if self.replaces {
            // Found later, a fault would leave rows of two definitions.
            let view = &context.view.view;
            let tables = view.tables();
            let faults = context.runtime.block_on(context.store.check_view(&view.name, &tables))?;
            if !faults.is_empty() {
                return Err(RebuildError::Tables(TableFault::list(&faults)));
            }
        }
        context.begin_generation()?;
        self.redefine(context, DefinitionReason::RebuildBegins)
    }

    pub fn end_replacing(&self, context: Context<'_>) -> Result<(), RebuildError> {
        self.redefine(context, DefinitionReason::RebuildEnds)?;
        context.begin_generation()
    }

    fn redefine(&self, context: Context<'_>, reason: DefinitionReason) -> Result<(), RebuildError> {
        let Some(row) = context.stored_row()?.filter(|_| self.replaces) else { return Ok(()) };
        let definition = context.view.definition.stored().clone();
        let change = DefinitionChange { from: 0, definition, reason };
        let in_force = change.in_force();
        let row = ViewPosition { definition: self.in_force.get(), ..row };
        context.runtime.block_on(redefine(context.store, &row, change))?;
        self.in_force.set(Some(in_force));
        failpoint::hit("rebuild.redefined");
        Ok(())
    }
}

/// Returns the error for the first event of a batch that a definition refuses.
pub fn refusal(context: Context<'_>, batch: &Batch<'_>, folded: &Folded) -> Option<RebuildError> {
    let (index, reason) = folded.refused.first()?;
    let view = context.view.view.name.clone();
    Some(RebuildError::Refused { view, position: batch.events[*index].position, reason: reason.clone() })
}

impl Context<'_> {
    /// Tells readers of the view that its rows are being replaced, or have been.
    pub fn begin_generation(self) -> Result<(), RebuildError> {
        self.runtime.block_on(self.store.begin_generation(&self.view.view.name))?;
        self.view.changes.note_all();
        Ok(())
    }

    fn stored_row(&self) -> Result<Option<ViewPosition>, RebuildError> {
        let stored = stored_row(self.store, &self.view.view.name, self.log.id());
        Ok(self.runtime.block_on(stored)?)
    }
}
