//! Changes of a view's definition. A view pauses if the configuration no longer matches the definition that made its
//! rows, until a person rebuilds it or accepts the change. A change can also be accepted before the configuration has it.

use std::sync::Arc;

use event::LogId;
use event::limits::ACCEPT_HOLD_DURATION_MAX;
use tokio::time::timeout;

use super::definition::{ChangedSetting, Definition};
use super::definition_ranges::DefinitionRanges;
use super::runner::Runner;
use super::{Running, View, ViewKind};
use crate::log::EventLog;
use crate::store::{
    Claim, DefinitionChange, DefinitionHash, DefinitionReason, Halt, Plan, Store, StoreError,
    StoredDefinition, TableFault, ViewPosition,
};

/// Why a changed definition could not be accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    #[error(
        "a rebuild replaces the rows of view `{0}`; if none is running, one was cut off: run `millrace view rebuild {0}` again"
    )]
    Rebuilding(String),
    #[error(
        "view `{0}` reads another stream or is of another kind now, so its rows cannot stay; run `millrace view rebuild {0}`, or give the new view another name"
    )]
    OtherRows(String),
    #[error("view `{view}`: {faults}")]
    Tables { view: String, faults: String },
    #[error(
        "view `{0}` is busy with a rebuild, an erasure or a batch that waits for the database; try again later"
    )]
    Busy(String),
    #[error("view `{0}` has stopped")]
    Ended(String),
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// An accepted change.
#[derive(Debug)]
pub struct Accepted {
    pub effect: AcceptEffect,
    /// The settings that differ from the definition that was in force; empty if there was none.
    pub changes: Vec<ChangedSetting>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptEffect {
    /// The definition is in force already.
    Unchanged,
    /// The definition applies as soon as the view has it: when a server is started with it, or now, if the view waits
    /// for it because another log has made its rows.
    Prepared,
    /// The definition applies from this position on.
    From(u64),
}

impl Runner {
    /// Returns the definitions under which the view's events are folded. Pauses the view if its rows come from another
    /// definition than the configuration's, unless a person has accepted the change.
    pub(super) fn agree_on_definition(&self, row: &ViewPosition) -> Result<DefinitionRanges, Halt> {
        let (view, log) = (&self.view, self.log.id());
        let (name, own) = (&view.name, self.definition.stored());
        if row.definition != Some(own.hash) {
            let accepted = row.definition != Some(DefinitionHash::REBUILDING) && self.has_prepared()?;
            // Without a stored definition, the rows come from an earlier millrace, which did not store one.
            if row.definition.is_some() && !accepted {
                return Err(Halt::Pause(self.runtime.block_on(self.reason_to_pause(row))?));
            }
            if accepted {
                // Found later, a fault would pause the view, and going back would be a change, too.
                self.check_tables()?;
            }
            let put = put_in_force(&self.store, view, log, &self.definition, row);
            self.runtime.block_on(put)?;
            if accepted {
                tracing::info!(
                    view = name,
                    position = row.position,
                    "a prepared definition applies from here on"
                );
            }
        }
        let stored = self.runtime.block_on(self.store.definitions(name, log))?;
        DefinitionRanges::read(&stored, view).map_err(Halt::Pause)
    }

    /// Pauses the view if it has not begun in this log, but has rows of another log that another definition made.
    pub(super) fn agree_with_other_logs(&self, positions: &[ViewPosition]) -> Result<(), Halt> {
        let name = &self.view.name;
        let own = self.definition.stored().hash;
        if has_other_rows(positions, name, self.log.id(), own) && !self.has_prepared()? {
            return Err(Halt::Pause(format!(
                "another definition of this view made rows from another log; run `millrace view accept {name}` to add this log's events under the definition of the configuration, or give the view another name"
            )));
        }
        Ok(())
    }

    /// Returns whether a person has accepted the configuration's definition.
    fn has_prepared(&self) -> Result<bool, StoreError> {
        let prepared = self.store.prepared_definition(&self.view.name, self.log.id());
        let prepared = self.runtime.block_on(prepared)?;
        Ok(prepared.is_some_and(|prepared| prepared.hash == self.definition.stored().hash))
    }

    async fn reason_to_pause(&self, row: &ViewPosition) -> Result<String, StoreError> {
        let name = &self.view.name;
        if row.definition == Some(DefinitionHash::REBUILDING) {
            return Ok(AcceptError::Rebuilding(name.clone()).to_string());
        }
        let in_force = in_force(&self.store, name, self.log.id()).await?;
        let changes = in_force.iter().flat_map(|in_force| in_force.changes(&self.definition));
        let changes: Vec<String> = changes.map(|change| change.to_string()).collect();
        // Rebuilt notifications would be sent again.
        let rebuild = (!matches!(self.view.kind, ViewKind::Notifications(_))).then(|| {
            format!("`millrace view rebuild {name}` to make all rows again under the new definition")
        });
        let accept = in_force.is_none_or(|in_force| in_force.can_be_continued_by(&self.definition));
        let accept = accept.then(|| {
            format!(
                "`millrace view accept {name}` to keep the rows and apply the new definition to the events from position {} on",
                row.position
            )
        });
        let choices: Vec<String> = rebuild.into_iter().chain(accept).collect();
        let choices = if choices.is_empty() {
            "give the new view another name".to_owned()
        } else {
            format!("run {}", choices.join(", or "))
        };
        Ok(format!("its definition is not the one that made its rows: {}; {choices}", changes.join(", ")))
    }
}

/// Accepts the configuration's definition of a view that is paused because of it. The rows stay.
pub async fn accept(view: &Running, log: &EventLog, store: &Store) -> Result<Accepted, AcceptError> {
    let (name, own) = (&view.view.name, view.definition.stored());
    if let Some(row) = stored_row(store, name, log.id()).await? {
        // Before the hold, for which a rebuild would not make room.
        acceptable_changes(store, &row, &view.definition).await?;
    }
    // The view takes up the new definition when the hold ends.
    let hold = timeout(ACCEPT_HOLD_DURATION_MAX, view.hold()).await;
    let hold = hold.map_err(|_| AcceptError::Busy(name.clone()))?;
    let _hold = hold.ok_or_else(|| AcceptError::Ended(name.clone()))?;
    let positions = store.positions().await?;
    let Some(row) = own_row(&positions, name, log.id()) else {
        if !has_other_rows(&positions, name, log.id(), own.hash) {
            return Ok(Accepted { effect: AcceptEffect::Unchanged, changes: Vec::new() });
        }
        // The view looks for this when it begins.
        store.prepare_definition(name, log.id(), own).await?;
        return Ok(Accepted { effect: AcceptEffect::Prepared, changes: Vec::new() });
    };
    let changes = acceptable_changes(store, row, &view.definition).await?;
    if row.definition.is_none() || row.definition == Some(own.hash) {
        return Ok(Accepted { effect: AcceptEffect::Unchanged, changes: Vec::new() });
    }
    // Found later, a fault would pause the view again, and going back would be a change, too.
    let faults = store.check_view(name, &view.view.tables()).await?;
    if !faults.is_empty() {
        return Err(AcceptError::Tables { view: name.clone(), faults: TableFault::list(&faults) });
    }
    put_in_force(store, &view.view, log.id(), &view.definition, row).await?;
    tracing::info!(view = name, position = row.position, "a changed definition was accepted");
    Ok(Accepted { effect: AcceptEffect::From(row.position), changes })
}

/// Accepts a definition that a later configuration will have. It applies from the position at which a server with that
/// configuration takes over. The definition that is in force takes the place of one that was accepted before.
pub async fn prepare(
    view: &Running,
    log: &EventLog,
    store: &Store,
    definition: &Definition,
) -> Result<Accepted, AcceptError> {
    let name = &view.view.name;
    let changes = match stored_row(store, name, log.id()).await? {
        Some(row) => acceptable_changes(store, &row, definition).await?,
        None => Vec::new(),
    };
    store.prepare_definition(name, log.id(), definition.stored()).await?;
    tracing::info!(view = name, "a definition was accepted for a later configuration");
    Ok(Accepted { effect: AcceptEffect::Prepared, changes })
}

/// Returns the settings that `definition` changes. Fails if it cannot be accepted.
async fn acceptable_changes(
    store: &Store,
    row: &ViewPosition,
    definition: &Definition,
) -> Result<Vec<ChangedSetting>, AcceptError> {
    if row.definition == Some(DefinitionHash::REBUILDING) {
        return Err(AcceptError::Rebuilding(row.view.clone()));
    }
    match in_force(store, &row.view, row.log).await? {
        Some(in_force) if !in_force.can_be_continued_by(definition) => {
            Err(AcceptError::OtherRows(row.view.clone()))
        }
        Some(in_force) => Ok(in_force.changes(definition)),
        None => Ok(Vec::new()),
    }
}

/// Returns the settings in which `definition` differs from the one that is in force in the store.
pub async fn changes(
    store: &Store,
    view: &str,
    log: LogId,
    definition: &Definition,
) -> Result<Vec<ChangedSetting>, StoreError> {
    let in_force = in_force(store, view, log).await?;
    Ok(in_force.map_or_else(Vec::new, |in_force| in_force.changes(definition)))
}

/// Returns the definition that is in force in the store, if it has one.
async fn in_force(store: &Store, view: &str, log: LogId) -> Result<Option<Definition>, StoreError> {
    let stored = store.definitions(view, log).await?.pop();
    let read = |stored: StoredDefinition| Definition::stored_for(view, &stored.text);
    stored.map(read).transpose().map_err(StoreError::Blocked)
}

/// Puts a definition in force from the view's position on. Tables that only the new definition needs are created
/// first: without them, the view could not continue.
async fn put_in_force(
    store: &Store,
    view: &View,
    log: LogId,
    definition: &Definition,
    row: &ViewPosition,
) -> Result<(), StoreError> {
    if let Some(earlier) = in_force(store, &view.name, log).await? {
        for table in earlier.missing_tables(view) {
            store.make_table(table).await?;
        }
    }
    failpoint::hit("definition.tables_made");
    let from = if row.definition.is_some() { row.position } else { 0 };
    let change = DefinitionChange {
        from,
        definition: definition.stored().clone(),
        reason: DefinitionReason::Accepted,
    };
    redefine(store, row, change).await
}

/// Changes the definition of a view at its position. Fails if the view has moved or was redefined meanwhile.
pub async fn redefine(store: &Store, row: &ViewPosition, change: DefinitionChange) -> Result<(), StoreError> {
    let ViewPosition { view, log, position, definition, .. } = row.clone();
    let claim = Claim { view, log, from: position, to: position, definition };
    let plan = Plan { definition: Some(change), ..Plan::new(claim) };
    store.apply(Arc::new(plan)).await.map(drop)
}

/// Returns the row of a view's position in this log.
pub async fn stored_row(store: &Store, view: &str, log: LogId) -> Result<Option<ViewPosition>, StoreError> {
    Ok(own_row(&store.positions().await?, view, log).cloned())
}

fn own_row<'a>(positions: &'a [ViewPosition], view: &str, log: LogId) -> Option<&'a ViewPosition> {
    positions.iter().find(|row| row.view == view && row.log == log)
}

/// Returns whether another definition than `own` made rows of the view from another log.
fn has_other_rows(positions: &[ViewPosition], view: &str, log: LogId, own: DefinitionHash) -> bool {
    let differs = |row: &ViewPosition| row.definition.is_some_and(|hash| hash != own);
    positions.iter().any(|row| row.view == view && row.log != log && differs(row))
}
