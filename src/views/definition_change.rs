//! What happens when the configuration of a view no longer matches the definition that made its rows: the view pauses
//! until a person rebuilds it or accepts the change. A change can also be accepted before the configuration has it.

use std::sync::Arc;

use event::LogId;

use super::definition::{ChangedSetting, Definition};
use super::definition_ranges::DefinitionRanges;
use super::runner::Runner;
use super::{Running, View, ViewKind};
use crate::log::EventLog;
use crate::store::{
    Claim, DefinitionChange, DefinitionHash, DefinitionReason, Halt, Plan, Store, StoreError, ViewPosition,
};

/// Why a changed definition could not be accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    #[error(
        "a rebuild of view `{0}` has replaced some of its rows; run `millrace view rebuild {0}` again to finish it"
    )]
    Rebuilding(String),
    #[error("view `{0}` has stopped")]
    Ended(String),
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// An accepted change.
#[derive(Debug, Default)]
pub struct Accepted {
    /// Empty if there was nothing to accept.
    pub changes: Vec<ChangedSetting>,
    /// The position from which on the new definition applies; `None` if it will be decided when a configuration has
    /// it, or if the view has no rows yet.
    pub from: Option<u64>,
}

impl Runner {
    /// Returns the definitions under which the view's events are folded. Pauses the view if its rows come from another
    /// definition than the configuration's, unless a person has accepted the change.
    pub(super) fn agree_on_definition(&self, row: &ViewPosition) -> Result<DefinitionRanges, Halt> {
        let (view, log) = (&self.view, self.log.id());
        let (name, own) = (&view.name, self.definition.stored());
        if row.definition != Some(own.hash) {
            let prepared = self.runtime.block_on(self.store.prepared_definition(name, log))?;
            let accepted = row.definition != Some(DefinitionHash::REBUILDING)
                && prepared.is_some_and(|prepared| prepared.hash == own.hash);
            // Without a stored definition, the rows come from an earlier millrace, which did not store one.
            if row.definition.is_some() && !accepted {
                return Err(Halt::Pause(self.runtime.block_on(self.reason_to_pause(row))?));
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

    async fn reason_to_pause(&self, row: &ViewPosition) -> Result<String, StoreError> {
        let name = &self.view.name;
        if row.definition == Some(DefinitionHash::REBUILDING) {
            return Ok(AcceptError::Rebuilding(name.clone()).to_string());
        }
        let changes = changes(&self.store, name, self.log.id(), &self.definition).await?;
        let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
        let changes = changes.join(", ");
        let rebuild = match self.view.kind {
            // Delivered notifications would be sent again.
            ViewKind::Notifications(_) => String::new(),
            _ => {
                format!("`millrace view rebuild {name}` to make all rows again under the new definition, or ")
            }
        };
        Ok(format!(
            "its definition is not the one that made its rows: {changes}; run {rebuild}`millrace view accept {name}` to keep the rows and apply the new definition to the events from position {} on",
            row.position
        ))
    }
}

/// Accepts the configuration's definition of a view that is paused because of it. The rows stay.
pub async fn accept(view: &Running, log: &EventLog, store: &Store) -> Result<Accepted, AcceptError> {
    let name = &view.view.name;
    // The view takes up the new definition when the hold ends.
    let _hold = view.hold().await.ok_or_else(|| AcceptError::Ended(name.clone()))?;
    let Some(row) = stored_row(store, name, log.id()).await? else { return Ok(Accepted::default()) };
    match row.definition {
        Some(DefinitionHash::REBUILDING) => return Err(AcceptError::Rebuilding(name.clone())),
        Some(hash) if hash != view.definition.stored().hash => {}
        _ => return Ok(Accepted::default()),
    }
    let changes = changes(store, name, log.id(), &view.definition).await?;
    put_in_force(store, &view.view, log.id(), &view.definition, &row).await?;
    tracing::info!(view = name, position = row.position, "a changed definition was accepted");
    Ok(Accepted { changes, from: Some(row.position) })
}

/// Accepts a definition that a later configuration will have. It applies from the position at which a server with that
/// configuration takes over.
pub async fn prepare(
    view: &Running,
    log: &EventLog,
    store: &Store,
    definition: &Definition,
) -> Result<Accepted, AcceptError> {
    let name = &view.view.name;
    match stored_row(store, name, log.id()).await? {
        Some(row) if row.definition == Some(DefinitionHash::REBUILDING) => {
            return Err(AcceptError::Rebuilding(name.clone()));
        }
        Some(row) if row.definition != Some(definition.stored().hash) => {}
        _ => return Ok(Accepted::default()),
    }
    let changes = changes(store, name, log.id(), definition).await?;
    store.prepare_definition(name, log.id(), definition.stored()).await?;
    tracing::info!(view = name, "a definition was accepted for a later configuration");
    Ok(Accepted { changes, from: None })
}

/// Returns the settings in which `definition` differs from the one that is in force in the store.
pub async fn changes(
    store: &Store,
    view: &str,
    log: LogId,
    definition: &Definition,
) -> Result<Vec<ChangedSetting>, StoreError> {
    let in_force = store.definitions(view, log).await?.pop();
    let in_force = in_force.and_then(|stored| Definition::parse(&stored.text).ok());
    Ok(in_force.map_or_else(Vec::new, |in_force| in_force.changes(definition)))
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
    let earlier = store.definitions(&view.name, log).await?.pop();
    if let Some(earlier) = earlier.and_then(|stored| Definition::parse(&stored.text).ok()) {
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
    let ViewPosition { view, log, position, definition } = row.clone();
    let claim = Claim { view, log, from: position, to: position, definition };
    let plan = Plan { definition: Some(change), ..Plan::new(claim) };
    store.apply(Arc::new(plan)).await.map(drop)
}

/// Returns the row of a view's position in this log.
pub async fn stored_row(store: &Store, view: &str, log: LogId) -> Result<Option<ViewPosition>, StoreError> {
    Ok(store.positions().await?.into_iter().find(|row| row.view == view && row.log == log))
}
