//! Millrace's own tables on a database server. They are created at the first start and updated by a newer millrace,
//! by one node at a time.

use super::server_session::ServerSession;
use crate::store::millrace_tables::{OWN_INDEXES, SCHEMA_VERSION, own_tables};
use crate::store::session::Session;

use crate::store::cell::Cell;
use crate::store::tables::{ColumnKind, Table};
use crate::store::{StoreError, rules};

/// The lock that a node holds while it creates or changes millrace's own tables or starts a view.
pub const LOCK: &str = "millrace schema";

fn meta_table() -> Table {
    Table::new(
        "millrace_meta",
        1,
        &[("name", ColumnKind::Text { chars_max: 255 }), ("value", ColumnKind::LongText)],
    )
}

/// Creates the missing tables and columns. Each step is idempotent: after an interruption, all of them are repeated.
/// Existing tables are left alone, so a user who may not create tables can use those that an administrator created.
pub async fn make(session: &mut ServerSession) -> Result<(), StoreError> {
    session.statement_timeout().lengthen();
    session.lock(LOCK).await?;
    let meta = meta_table();
    if !session.exists(&meta.name).await? {
        session.create(&meta).await?;
    }
    let stored = version(session).await?;
    if stored.is_some_and(|version| version > SCHEMA_VERSION) {
        return Err(StoreError::Blocked(format!(
            "its schema version is {}, but this millrace supports only versions up to {SCHEMA_VERSION}; use a newer millrace",
            stored.unwrap_or_default()
        )));
    }
    if stored != Some(SCHEMA_VERSION) {
        for table in own_tables() {
            if session.exists(&table.name).await? {
                session.add_missing_columns(&table).await?;
            } else {
                session.create(&table).await?;
            }
        }
        for (name, table, columns) in OWN_INDEXES {
            session.index(name, table, columns).await?;
        }
        let row = |name: &str, value: String| [Cell::Text(name.to_owned()), Cell::Text(value)];
        session.insert_new(&meta, &row(rules::LOCK_ROW, String::new())).await?;
        // Written last, so the version means that every step is done.
        session.put(&meta, &row("schema", SCHEMA_VERSION.to_string())).await?;
    }
    session.unlock(LOCK).await
}

async fn version(session: &mut ServerSession) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT value FROM millrace_meta WHERE name = 'schema'";
    let rows = session.rows(sql, &[]).await?;
    let invalid_version = || {
        StoreError::Blocked("table `millrace_meta` contains a schema version that is not a number".to_owned())
    };
    match rows.first().map(Vec::as_slice) {
        None => Ok(None),
        Some([Cell::Text(version)]) => version.parse().map(Some).map_err(|_| invalid_version()),
        Some(_) => Err(invalid_version()),
    }
}
