//! The definitions of views, as the store keeps them: which definition is in force, from which position on, and which
//! ones applied before. The store knows them only as texts with a hash; `views/definition.rs` has their meaning.

use event::{LogId, Millis};

use super::cell::Cell;
use super::stored_row::FromRow;
use super::{Store, StoreError};

/// Identifies a definition. The claim of a view compares it, so that nodes with different configurations cannot apply
/// events to the same rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefinitionHash(pub [u8; 32]);

impl DefinitionHash {
    /// Stands in the place of a definition while a rebuild replaces rows of an earlier one: no definition describes
    /// all rows until it has finished.
    pub const REBUILDING: Self = Self([0; 32]);
}

/// A definition to store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDefinition {
    pub hash: DefinitionHash,
    pub text: String,
}

/// A definition and the position from which on it applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDefinition {
    pub from: u64,
    pub hash: DefinitionHash,
    pub text: String,
}

/// How a plan changes the definition of its view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionChange {
    /// The position from which on `definition` applies.
    pub from: u64,
    pub definition: NewDefinition,
    pub reason: DefinitionReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefinitionReason {
    /// A person accepted it; or the rows come from a millrace that did not store definitions. Earlier definitions stay.
    Accepted,
    /// A rebuild begins to replace all rows. Earlier definitions go.
    RebuildBegins,
    /// A rebuild has replaced all rows.
    RebuildEnds,
}

impl DefinitionChange {
    /// Returns the hash that the view's claims have to show after this change.
    pub fn in_force(&self) -> DefinitionHash {
        match self.reason {
            DefinitionReason::RebuildBegins => DefinitionHash::REBUILDING,
            DefinitionReason::Accepted | DefinitionReason::RebuildEnds => self.definition.hash,
        }
    }
}

impl Store {
    /// Returns the definitions of a view in a log, in the order of their positions. The last one is in force.
    pub async fn definitions(&self, view: &str, log: LogId) -> Result<Vec<StoredDefinition>, StoreError> {
        let sql = "SELECT from_position, hash, definition FROM millrace_definitions WHERE view = ? AND log_id = ? AND part = 0 ORDER BY from_position";
        self.read("millrace_definitions", sql, vec![view.into(), log.into()]).await
    }

    /// Returns the definition that was accepted before a configuration has it.
    pub async fn prepared_definition(
        &self,
        view: &str,
        log: LogId,
    ) -> Result<Option<NewDefinition>, StoreError> {
        let sql = "SELECT hash, definition FROM millrace_prepared WHERE view = ? AND log_id = ? AND part = 0";
        self.read_first("millrace_prepared", sql, vec![view.into(), log.into()]).await
    }

    /// Accepts a definition before a configuration has it. It replaces one that was prepared before.
    pub async fn prepare_definition(
        &self,
        view: &str,
        log: LogId,
        definition: &NewDefinition,
    ) -> Result<(), StoreError> {
        let key = || vec![view.into(), log.into()];
        let delete = "DELETE FROM millrace_prepared WHERE view = ? AND log_id = ? AND part = 0";
        let insert = "INSERT INTO millrace_prepared (view, log_id, part, hash, definition, prepared) VALUES (?, ?, 0, ?, ?, ?)";
        let mut row: Vec<Cell> = key();
        row.extend([definition.hash.into(), definition.text.as_str().into(), Millis::now().into()]);
        self.change_all(vec![(delete.to_owned(), key()), (insert.to_owned(), row)]).await.map(drop)
    }
}

impl FromRow for StoredDefinition {
    fn from_row(row: Vec<Cell>) -> Option<Self> {
        let (from, hash, text) = FromRow::from_row(row)?;
        Some(Self { from, hash: DefinitionHash(hash), text })
    }
}

impl FromRow for NewDefinition {
    fn from_row(row: Vec<Cell>) -> Option<Self> {
        let (hash, text) = FromRow::from_row(row)?;
        Some(Self { hash: DefinitionHash(hash), text })
    }
}

impl From<DefinitionHash> for Cell {
    fn from(hash: DefinitionHash) -> Self {
        Self::Bytes(hash.0.to_vec())
    }
}
