//! Starts a view, for the first time or again: creates or checks its tables, and records its
//! position and what its table contained before. A lock admits one node at a time. Without it, rows that another node
//! writes meanwhile would be recorded as content from before the view.

use super::claim::stored_position;
use super::{definitions, row_origins, sql_views};
use crate::store::StoreError;
use crate::store::cell::Cell;
use crate::store::definitions::{DefinitionChange, DefinitionReason};
use crate::store::generation::Generation;
use crate::store::plan::Claim;
use crate::store::session::Session;
use crate::store::table_fault::TableFault;
use crate::store::tables::{Opening, Table, ViewTables, quote};

/// Creates or checks the tables of a view. Returns whether its first table existed. Fails if a table of a started view
/// is gone. On servers this must run outside of a transaction, because there a `CREATE TABLE` commits.
pub async fn begin_view_tables(
    session: &mut impl Session,
    claim: &Claim,
    tables: &ViewTables,
) -> Result<bool, StoreError> {
    let started = stored_position(session, claim).await?.is_some();
    let all_tables = with_ranking_tables(session, tables);
    for table in &all_tables {
        if started && !session.exists(&table.name).await? {
            // A new table would be empty, and everything that was counted would silently be missing.
            return Err(StoreError::NoTable(table.name.clone()));
        }
        sql_views::give_way_to_table(session, &table.name).await?;
    }
    let faults = view_faults(session, &claim.view, tables).await?;
    if !faults.is_empty() {
        return Err(StoreError::Blocked(TableFault::list(&faults)));
    }
    let mut existed = Vec::with_capacity(tables.tables.len());
    for table in all_tables {
        existed.push(session.exists(&table.name).await?);
        if existed.last() == Some(&false) {
            session.create(&table).await?;
        }
    }
    Ok(existed.first() == Some(&true))
}

/// Returns everything because of which `view` cannot use its existing tables. Changes nothing, and also works in a
/// database without millrace's own tables.
pub async fn view_faults(
    session: &mut impl Session,
    view: &str,
    tables: &ViewTables,
) -> Result<Vec<TableFault>, StoreError> {
    let has_meta = session.exists("millrace_meta").await?;
    let mut faults = Vec::new();
    for table in with_ranking_tables(session, tables) {
        let mut exists = session.exists(&table.name).await?;
        if exists && has_meta {
            if sql_views::is_own(session, &table.name).await? {
                exists = false;
            } else if tables.owned
                && let Some(owner) = other_owner(session, &table, view).await?
            {
                faults.push(owner);
                continue;
            }
        }
        if exists {
            faults.extend(session.table_fault(&table).await?);
        }
        faults.extend(session.missing_rights(&table, exists).await?);
    }
    Ok(faults)
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
    } else {
        // A view of an earlier millrace has no generation yet.
        let sql = "UPDATE millrace_positions SET generation = ? WHERE view = ? AND generation IS NULL";
        let generation = generation_of(session, &claim.view).await?.unwrap_or_else(Generation::first);
        session.change(sql, &[generation.into(), claim.view.as_str().into()]).await?;
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

/// Returns the generation that the rows of a view have in all logs.
async fn generation_of(session: &mut impl Session, view: &str) -> Result<Option<Generation>, StoreError> {
    let sql = "SELECT max(generation) FROM millrace_positions WHERE view = ?";
    let rows = session.rows(sql, &[Cell::Text(view.to_owned())]).await?;
    Ok(rows.first().and_then(|row| row.first()?.integer()).map(Generation))
}

async fn record_start(
    session: &mut impl Session,
    claim: &Claim,
    tables: &ViewTables,
    table_existed: bool,
) -> Result<(), StoreError> {
    let positions = "SELECT 1 FROM millrace_positions WHERE view = ?";
    let has_other_log = !session.rows(positions, &[Cell::Text(claim.view.clone())]).await?.is_empty();
    let sql =
        "INSERT INTO millrace_positions (view, log_id, part, position, generation) VALUES (?, ?, 0, ?, ?)";
    let generation = generation_of(session, &claim.view).await?.unwrap_or_else(Generation::first);
    let row = [claim.view.as_str().into(), claim.log.into(), claim.from.into(), generation.into()];
    session.change(sql, &row).await?;
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

/// Returns a fault if another view owns the existing table. A view that takes over another's table under a new name
/// would treat the other view's counts as content from before it, and count every event again.
async fn other_owner(
    session: &mut impl Session,
    table: &Table,
    view: &str,
) -> Result<Option<TableFault>, StoreError> {
    let Some(owner) = owner(session, table).await?.filter(|owner| owner != view) else { return Ok(None) };
    let problem = format!(
        "belongs to view `{owner}`, and view `{view}` would count its content again: name the view `{owner}` as before, give `{view}` another table, or drop the table to count from the start"
    );
    Ok(Some(TableFault { table: table.name.clone(), problems: vec![problem], repair: Vec::new() }))
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
