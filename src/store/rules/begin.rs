//! Starts a view, for the first time or again: creates or checks its tables, and records its
//! position and what its table contained before. A lock admits one node at a time. Without it, rows that another node
//! writes meanwhile would be recorded as content from before the view.

use super::claim::stored_position;
use super::{definitions, row_origins};
use crate::store::StoreError;
use crate::store::cell::Cell;
use crate::store::definitions::{DefinitionChange, DefinitionReason};
use crate::store::plan::Claim;
use crate::store::session::Session;
use crate::store::tables::{Opening, Table, ViewTables, quote};

/// Creates or checks the tables of a view. Returns whether its first table existed. On servers this must run outside
/// of a transaction, because there a `CREATE TABLE` commits.
pub async fn begin_view_tables(
    session: &mut impl Session,
    claim: &Claim,
    tables: &ViewTables,
) -> Result<bool, StoreError> {
    let started = stored_position(session, claim).await?.is_some();
    let mut existed = Vec::with_capacity(tables.tables.len());
    for table in with_ranking_tables(session, tables) {
        if tables.owned {
            check_owner(session, &table, &claim.view).await?;
        }
        existed.push(begin_table(session, &table, started).await?);
    }
    Ok(existed.first() == Some(&true))
}

/// Records the owner of the view's tables and, if the view is new to this log, its position and what its table
/// contained before. Must run in a transaction.
pub async fn record_view(
    session: &mut impl Session,
    claim: &Claim,
    tables: &ViewTables,
    table_existed: bool,
) -> Result<(), StoreError> {
    if tables.owned {
        for table in with_ranking_tables(session, tables) {
            record_owner(session, &table, &claim.view).await?;
        }
    }
    if stored_position(session, claim).await?.is_none() {
        record_start(session, claim, tables, table_existed).await?;
    }
    Ok(())
}

fn with_ranking_tables(session: &impl Session, tables: &ViewTables) -> Vec<Table> {
    let rankings = tables.tables.iter().flat_map(|table| session.ranking_tables(table));
    tables.tables.iter().cloned().chain(rankings).collect()
}

/// Returns the name of the row in `millrace_meta` that records which view owns a table.
pub fn owner_name(table: &str) -> String {
    format!("owner of table {}", table.to_ascii_lowercase())
}

async fn record_start(
    session: &mut impl Session,
    claim: &Claim,
    tables: &ViewTables,
    table_existed: bool,
) -> Result<(), StoreError> {
    let positions = "SELECT 1 FROM millrace_positions WHERE view = ?";
    let has_other_log = !session.rows(positions, &[Cell::Text(claim.view.clone())]).await?.is_empty();
    let sql = "INSERT INTO millrace_positions (view, log_id, part, position) VALUES (?, ?, 0, ?)";
    session.change(sql, &[claim.view.as_str().into(), claim.log.into(), claim.from.into()]).await?;
    if let Some(definition) = tables.definition.clone() {
        let change = DefinitionChange { from: claim.from, definition, reason: DefinitionReason::Accepted };
        definitions::change(session, claim, &change).await?;
    }
    row_origins::delete_all(session, claim).await?;
    match (&tables.opening, tables.tables.first()) {
        // With a position in another log, the view's own events from that log are already in the table.
        (Some(opening), Some(table)) if table_existed && !has_other_log => {
            store_opening(session, table, opening).await
        }
        _ => Ok(()),
    }
}

/// Stores what the table contained before the view, so that a rebuild can add it again.
async fn store_opening(
    session: &mut impl Session,
    table: &Table,
    opening: &Opening,
) -> Result<(), StoreError> {
    let view = [Cell::Text(opening.view.clone())];
    session.change("DELETE FROM millrace_opening WHERE view = ?", &view).await?;
    let (key, amount, table) =
        (quote(&opening.key_column), quote(&opening.amount_column), quote(&table.name));
    let sql = format!(
        "INSERT INTO millrace_opening (view, row_key, amount) SELECT ?, {key}, {amount} FROM {table} \
         WHERE {key} IS NOT NULL AND {amount} IS NOT NULL"
    );
    session.change(&sql, &view).await.map(drop)
}

/// Creates or checks a table, and returns whether it existed. Fails if the table of a started view is gone: a new one
/// would be empty, and everything that was counted would silently be missing.
async fn begin_table(session: &mut impl Session, table: &Table, started: bool) -> Result<bool, StoreError> {
    match (session.exists(&table.name).await?, started) {
        (true, _) => session.check(table).await.map(|()| true),
        (false, true) => Err(StoreError::NoTable(table.name.clone())),
        (false, false) => session.create(table).await.map(|()| false),
    }
}

/// Fails if another view owns the table. A view that takes over another's table under a new name would treat the
/// other view's counts as content from before it, and count every event again.
async fn check_owner(session: &mut impl Session, table: &Table, view: &str) -> Result<(), StoreError> {
    match owner(session, table).await? {
        // A dropped table has no owner: the view creates it and counts from the beginning.
        Some(owner) if owner != view && session.exists(&table.name).await? => {
            Err(StoreError::Blocked(format!(
                "table `{}` belongs to view `{owner}`, and view `{view}` would count its content again: name the view `{owner}` as before, give `{view}` another table, or drop the table to count from the start",
                table.name
            )))
        }
        _ => Ok(()),
    }
}

async fn record_owner(session: &mut impl Session, table: &Table, view: &str) -> Result<(), StoreError> {
    if owner(session, table).await?.as_deref() == Some(view) {
        return Ok(());
    }
    let name = || Cell::Text(owner_name(&table.name));
    session.change("DELETE FROM millrace_meta WHERE name = ?", &[name()]).await?;
    let sql = "INSERT INTO millrace_meta (name, value) VALUES (?, ?)";
    session.change(sql, &[name(), Cell::Text(view.to_owned())]).await.map(drop)
}

async fn owner(session: &mut impl Session, table: &Table) -> Result<Option<String>, StoreError> {
    let sql = "SELECT value FROM millrace_meta WHERE name = ?";
    let rows = session.rows(sql, &[Cell::Text(owner_name(&table.name))]).await?;
    Ok(match rows.into_iter().next().as_deref() {
        Some([Cell::Text(owner)]) => Some(owner.clone()),
        _ => None,
    })
}
