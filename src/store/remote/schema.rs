//! The tables of our own on a database server: made at the first start, brought up to date by a newer
//! millrace, and by one node at a time.

use super::dedup;
use super::session::Session;
use crate::store::StoreError;
use crate::store::tables::{Cell, ColumnKind, OWN_INDEXES, SCHEMA_VERSION, Table, own_tables};

/// Whoever makes or changes tables of ours asks for this lock.
pub const LOCK: &str = "millrace schema";

fn meta_table() -> Table {
    Table::new(
        "millrace_meta",
        1,
        &[("name", ColumnKind::Text { chars_max: 255 }), ("value", ColumnKind::LongText)],
    )
}

/// Idempotent, step for step: cut off in the middle, it is done again from the beginning. What is there is
/// left alone, so that whoever may make no tables can be given those that somebody else has made.
pub async fn make(session: &mut Session) -> Result<(), StoreError> {
    session.patience().lengthen();
    session.lock(LOCK).await?;
    let meta = meta_table();
    if !session.exists(&meta.name).await? {
        session.create(&meta).await?;
    }
    let stored = version(session).await?;
    if stored.is_some_and(|version| version > SCHEMA_VERSION) {
        return Err(StoreError::Blocked(format!(
            "its schema is of version {}, and this millrace knows up to {SCHEMA_VERSION}: use a newer millrace",
            stored.unwrap_or_default()
        )));
    }
    if stored != Some(SCHEMA_VERSION) {
        for table in own_tables() {
            match session.exists(&table.name).await? {
                true => session.widen(&table).await?,
                false => session.create(&table).await?,
            }
        }
        for (name, table, columns) in OWN_INDEXES {
            session.index(name, table, columns).await?;
        }
        let row = |name: &str, value: String| [Cell::Text(name.to_owned()), Cell::Text(value)];
        session.insert_new(&meta, &row(dedup::TURN, String::new())).await?;
        // Last, so that it stands only where all of it is done.
        session.put(&meta, &row("schema", SCHEMA_VERSION.to_string())).await?;
    }
    session.unlock(LOCK).await
}

async fn version(session: &mut Session) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT value FROM millrace_meta WHERE name = 'schema'";
    let rows = session.rows(sql, &[]).await?;
    let corrupt_row =
        || StoreError::Blocked("table `millrace_meta` holds a version that is no number".to_owned());
    match rows.first().map(Vec::as_slice) {
        None => Ok(None),
        Some([Cell::Text(version)]) => version.parse().map(Some).map_err(|_| corrupt_row()),
        Some(_) => Err(corrupt_row()),
    }
}
