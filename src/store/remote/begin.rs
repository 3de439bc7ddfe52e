//! A view's first moment on a database server, and each later one at which it begins to run again: its tables
//! are made or looked at, its position and what it found there are noted. One node at a time, because what
//! another one counts in the meantime would be taken for what was there before.

use super::apply::stored;
use super::row_origins;
use super::schema::LOCK;
use super::session::{Begin, Session};
use crate::store::StoreError;
use crate::store::plan::Claim;
use crate::store::tables::{Cell, Opening, Table, ViewTables, quote};

pub async fn view(session: &mut Session, claim: &Claim, tables: &ViewTables) -> Result<(), StoreError> {
    session.patience().lengthen();
    session.lock(LOCK).await?;
    let known = stored(session, claim).await?.is_some();
    let mut were_there = Vec::with_capacity(tables.tables.len());
    for table in &tables.tables {
        if tables.owned {
            owner_is(session, table, &claim.view).await?;
        }
        were_there.push(begin_table(session, table, known).await?);
    }
    session.begin(Begin::Writing).await?;
    if tables.owned {
        for table in &tables.tables {
            own(session, table, &claim.view).await?;
        }
    }
    if !known {
        begin_anew(session, claim, tables, were_there.first() == Some(&true)).await?;
    }
    session.commit().await?;
    session.unlock(LOCK).await
}

/// Under which name it is noted in `millrace_meta` whose a table is.
pub fn owner_name(table: &str) -> String {
    format!("owner of table {}", table.to_ascii_lowercase())
}

async fn begin_anew(
    session: &mut Session,
    claim: &Claim,
    tables: &ViewTables,
    was_there: bool,
) -> Result<(), StoreError> {
    let counted = "SELECT 1 FROM millrace_positions WHERE view = ?";
    let elsewhere = !session.rows(counted, &[Cell::Text(claim.view.clone())]).await?.is_empty();
    let sql = "INSERT INTO millrace_positions (view, log_id, part, position) VALUES (?, ?, 0, ?)";
    let parameters =
        [Cell::Text(claim.view.clone()), Cell::Bytes(claim.log.0.to_vec()), Cell::Integer(claim.from as i64)];
    session.change(sql, &parameters).await?;
    row_origins::begin_anew(session, claim).await?;
    match (&tables.opening, tables.tables.first()) {
        // What another node's log brought was not there before the view.
        (Some(opening), Some(table)) if was_there && !elsewhere => {
            keep_opening(session, table, opening).await
        }
        _ => Ok(()),
    }
}

async fn keep_opening(session: &mut Session, table: &Table, opening: &Opening) -> Result<(), StoreError> {
    let view = [Cell::Text(opening.view.clone())];
    session.change("DELETE FROM millrace_opening WHERE view = ?", &view).await?;
    let (key, amount, table) =
        (quote(&opening.key_column), quote(&opening.amount_column), quote(&table.name));
    let sql = format!(
        "INSERT INTO millrace_opening (view, row_key, amount) SELECT ?, {key}, {amount} FROM {table} WHERE {amount} IS NOT NULL"
    );
    session.change(&sql, &view).await.map(drop)
}

/// Whether the table was there. A view that has begun needs its table: made anew it would be empty, and
/// what was counted into it would be missing without a word.
async fn begin_table(session: &mut Session, table: &Table, begun: bool) -> Result<bool, StoreError> {
    match (session.exists(&table.name).await?, begun) {
        (true, _) => session.check(table).await.map(|()| true),
        (false, true) => Err(StoreError::NoTable(table.name.clone())),
        (false, false) => session.create(table).await.map(|()| false),
    }
}

/// A view under a new name over the table of an old one would take what that one counted for what was there
/// before, and count all of it again.
async fn owner_is(session: &mut Session, table: &Table, view: &str) -> Result<(), StoreError> {
    match owner(session, table).await? {
        // A table that is gone is nobody's: whoever begins makes it anew, and counts from the beginning.
        Some(owner) if owner != view && session.exists(&table.name).await? => {
            Err(StoreError::Blocked(format!(
                "table `{}` holds what view `{owner}` counted, and view `{view}` would count it again: call the view `{owner}` as before, give `{view}` another table, or drop the table to have `{view}` count it anew",
                table.name
            )))
        }
        _ => Ok(()),
    }
}

async fn own(session: &mut Session, table: &Table, view: &str) -> Result<(), StoreError> {
    if owner(session, table).await?.as_deref() == Some(view) {
        return Ok(());
    }
    let name = || Cell::Text(owner_name(&table.name));
    session.change("DELETE FROM millrace_meta WHERE name = ?", &[name()]).await?;
    let sql = "INSERT INTO millrace_meta (name, value) VALUES (?, ?)";
    session.change(sql, &[name(), Cell::Text(view.to_owned())]).await.map(drop)
}

async fn owner(session: &mut Session, table: &Table) -> Result<Option<String>, StoreError> {
    let sql = "SELECT value FROM millrace_meta WHERE name = ?";
    let rows = session.rows(sql, &[Cell::Text(owner_name(&table.name))]).await?;
    Ok(match rows.into_iter().next().as_deref() {
        Some([Cell::Text(owner)]) => Some(owner.clone()),
        _ => None,
    })
}
