//! Makes the SQL views beside a view's tables. They are a convenience: a failure is logged once and stops nothing. An
//! SQL view or a table that somebody else made under the same name is never changed.
//!
//! `millrace_meta` records the SQL views that millrace made, each with a hash of its query and a hash of the definition
//! that the database reports for it. Another definition means that somebody replaced the SQL view.

use std::collections::BTreeSet;
use std::sync::Mutex;

use sha2::{Digest, Sha256};

use crate::store::StoreError;
use crate::store::cell::Cell;
use crate::store::session::Session;
use crate::store::sql_view::SqlView;
use crate::store::tables::quote;

/// The names of the SQL views about which this process has warned.
static WARNED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Creates the missing SQL views, and replaces those that an earlier version or configuration defined differently.
/// Must run outside of a transaction on servers. Fails only if the database cannot be used at the moment, for example
/// because a long query reads one of them.
pub async fn make_sql_views(session: &mut impl Session, sql_views: &[SqlView]) -> Result<(), StoreError> {
    for sql_view in sql_views {
        let Some(query) = session.sql_view_query(sql_view) else { continue };
        match make(session, &sql_view.name, &query).await {
            Err(error @ (StoreError::Transient(_) | StoreError::Closed)) => return Err(error),
            Err(error) => warn_once(&sql_view.name, &error.to_string()),
            Ok(Made::NameTaken) => warn_once(
                &sql_view.name,
                "another object has this name; to get the SQL view, rename that object and restart millrace",
            ),
            Ok(Made::Exists) => {}
        }
    }
    Ok(())
}

/// Drops an SQL view that millrace made, because a view of the configuration needs its name for a table.
pub async fn give_way_to_table(session: &mut impl Session, table: &str) -> Result<(), StoreError> {
    if is_own(session, table).await? {
        session.run_schema(&format!("DROP VIEW {}", quote(table))).await?;
        forget(session, table).await?;
    }
    Ok(())
}

/// Returns whether this is the name of an SQL view that millrace made.
pub async fn is_own(session: &mut impl Session, name: &str) -> Result<bool, StoreError> {
    let definition = session.sql_view_definition(name).await?;
    let Some(definition) = definition else { return Ok(false) };
    Ok(record(session, name).await?.is_some_and(|record| record.is_of(&definition)))
}

enum Made {
    Exists,
    NameTaken,
}

async fn make(session: &mut impl Session, name: &str, query: &str) -> Result<Made, StoreError> {
    let record = record(session, name).await?;
    match session.sql_view_definition(name).await? {
        Some(definition) => match record {
            Some(record) if record.is_of(&definition) => {
                if record.query == hash(query) && !record.definition.is_empty() {
                    return Ok(Made::Exists);
                }
                session.run_schema(&format!("DROP VIEW {}", quote(name))).await?;
            }
            _ => return Ok(Made::NameTaken),
        },
        None if session.exists(name).await? => return Ok(Made::NameTaken),
        None => {}
    }
    // Without this record, a crash after the next statement would leave an SQL view that looks like somebody else's.
    store(session, name, &Record { query: hash(query), definition: String::new() }).await?;
    let created = session.run_schema(&format!("CREATE VIEW {} AS {query}", quote(name))).await;
    if let Err(error) = created {
        // Otherwise an SQL view that a person makes under this name later would be taken for millrace's.
        forget(session, name).await?;
        return Err(error);
    }
    let definition = session.sql_view_definition(name).await?.unwrap_or_default();
    store(session, name, &Record { query: hash(query), definition: hash(&definition) }).await?;
    Ok(Made::Exists)
}

/// The record of an SQL view in `millrace_meta`.
struct Record {
    query: String,
    /// Empty from before the SQL view is created until its definition is known.
    definition: String,
}

impl Record {
    fn is_of(&self, definition: &str) -> bool {
        self.definition.is_empty() || self.definition == hash(definition)
    }
}

fn hash(text: &str) -> String {
    event::hex(&Sha256::digest(text.as_bytes())[..8])
}

fn record_name(sql_view: &str) -> Cell {
    Cell::Text(format!("SQL view {}", sql_view.to_ascii_lowercase()))
}

async fn record(session: &mut impl Session, sql_view: &str) -> Result<Option<Record>, StoreError> {
    let sql = "SELECT value FROM millrace_meta WHERE name = ?";
    let rows = session.rows(sql, &[record_name(sql_view)]).await?;
    Ok(match rows.into_iter().next().as_deref() {
        Some([Cell::Text(value)]) => value
            .split_once(' ')
            .map(|(query, definition)| Record { query: query.to_owned(), definition: definition.to_owned() }),
        _ => None,
    })
}

async fn store(session: &mut impl Session, sql_view: &str, record: &Record) -> Result<(), StoreError> {
    forget(session, sql_view).await?;
    let value = format!("{} {}", record.query, record.definition);
    let sql = "INSERT INTO millrace_meta (name, value) VALUES (?, ?)";
    session.change(sql, &[record_name(sql_view), Cell::Text(value)]).await.map(drop)
}

async fn forget(session: &mut impl Session, sql_view: &str) -> Result<(), StoreError> {
    session.change("DELETE FROM millrace_meta WHERE name = ?", &[record_name(sql_view)]).await.map(drop)
}

fn warn_once(sql_view: &str, reason: &str) {
    if event::lock(&WARNED).insert(sql_view.to_owned()) {
        tracing::warn!(
            sql_view,
            reason,
            "an SQL view for reading was not made; the view and its tables work without it"
        );
    }
}
