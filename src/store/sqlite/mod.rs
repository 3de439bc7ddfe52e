//! SQLite as the store: one file, one writer thread that commits waiting plans together, and a few reader
//! connections.

mod commit_stamp;
mod connection;
mod counts;
mod damage_check;
mod decimal_sql;
mod errors;
mod existing_table;
mod files;
mod inspect;
mod numbered_rows;
mod ranking_tables;
mod repair_sql;
mod session;
mod shape;
mod snapshot;
mod statements;
mod top_k;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use event::limits::{PLAN_CELLS_TOGETHER_MAX, STORE_READERS_MAX};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use tokio::sync::{Semaphore, oneshot};

use super::cell::Cell;
use super::dedup_rule::Skipped;
use super::delivery::{AttemptRecord, DeliveryDecision, DeliveryKey, LeaseRequest, Leased, ViewTableLookup};
use super::numbered_rows::{RowsOf, RowsToDelete};
use super::plan::{Claim, Plan};
use super::table_fault::TableFault;
use super::tables::{Table, ViewTables};
use super::{OpenError, Select, StoreError, ViewPosition, rules};
use damage_check::DamageCheck;
use errors::classify;
use files::Files;
pub use inspect::inspect;
pub use numbered_rows::stored;
use session::{SqliteSession, run};
use writer::{Job, Writer};

pub use top_k::top;

#[derive(Clone)]
pub struct Sqlite {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    writer: Writer,
    damage_check: DamageCheck,
    idle_readers: Mutex<Vec<Connection>>,
    readers: Semaphore,
}

impl Sqlite {
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let refused =
            |reason: String| OpenError::Refused { name: format!("sqlite:{}", path.display()), reason };
        let (connection, stamper) = connection::open_for_writing(path).map_err(&refused)?;
        let files = Files::of(path).map_err(|error| refused(error.to_string()))?;
        let writer = Writer::start(connection, stamper, files).map_err(|error| refused(error.to_string()))?;
        let damage_check = DamageCheck::start(path).map_err(|error| refused(error.to_string()))?;
        let shared = Shared {
            path: path.to_owned(),
            writer,
            damage_check,
            idle_readers: Mutex::new(Vec::new()),
            readers: Semaphore::new(STORE_READERS_MAX),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    pub fn name(&self) -> String {
        format!("sqlite:{}", self.shared.path.display())
    }

    pub async fn begin_view(&self, claim: Claim, tables: ViewTables) -> Result<(), StoreError> {
        self.write(false, move |connection| {
            let mut session = SqliteSession { connection };
            let existed = run(rules::begin_view_tables(&mut session, &claim, &tables))?;
            run(rules::record_view(&mut session, &claim, &tables, existed))?;
            run(rules::make_sql_views(&mut session, &tables.sql_views))
        })
        .await
    }

    pub async fn check_view(&self, view: &str, tables: &ViewTables) -> Result<Vec<TableFault>, StoreError> {
        self.read(|connection| run(rules::view_faults(&mut SqliteSession { connection }, view, tables))).await
    }

    pub async fn apply(&self, plan: Arc<Plan>) -> Result<Vec<Skipped>, StoreError> {
        // For a large plan, the sync is a small part of the work, and a savepoint would make SQLite copy each page
        // before changing it.
        let alone = plan.cells() > PLAN_CELLS_TOGETHER_MAX;
        self.write(alone, move |connection| run(rules::apply(&mut SqliteSession { connection }, &plan))).await
    }

    /// Returns the number of rows that all statements together changed.
    pub async fn change_all(&self, statements: Vec<(String, Vec<Cell>)>) -> Result<usize, StoreError> {
        self.write(false, move |connection| {
            let change = |(sql, parameters): &(String, Vec<Cell>)| {
                connection.execute(sql, rusqlite::params_from_iter(parameters)).map_err(classify)
            };
            statements.iter().map(change).sum()
        })
        .await
    }

    pub async fn scrub(&self) -> Result<(), StoreError> {
        self.shared.damage_check.give_way();
        self.send_job(|answer| Job::Scrub { answer }).await
    }

    pub async fn make_table(&self, table: Table) -> Result<(), StoreError> {
        self.schema(statements::create_table(&table, true)).await
    }

    pub async fn drop_tables(&self, tables: &[Table]) -> Result<(), StoreError> {
        self.schema(ranking_tables::drop_tables(tables)).await
    }

    pub async fn replace_tables(&self, made: &[Table], wanted: &[Table]) -> Result<(), StoreError> {
        self.schema(ranking_tables::replace_tables(made, wanted)).await
    }

    async fn schema(&self, sql: String) -> Result<(), StoreError> {
        self.write(false, move |connection| connection.execute_batch(&sql).map_err(classify)).await
    }

    pub async fn delete_rows(&self, of: RowsOf, to_delete: RowsToDelete) -> Result<usize, StoreError> {
        self.write(false, move |connection| {
            run(rules::delete_rows(&mut SqliteSession { connection }, &of, &to_delete))
        })
        .await
    }

    pub async fn lease(&self, request: LeaseRequest) -> Result<Vec<Leased>, StoreError> {
        self.write(false, move |connection| run(rules::lease(&mut SqliteSession { connection }, &request)))
            .await
    }

    pub async fn record_attempts(
        &self,
        records: Arc<Vec<AttemptRecord>>,
        tables: ViewTableLookup,
    ) -> Result<Vec<DeliveryKey>, StoreError> {
        self.write(false, move |connection| {
            run(rules::record_attempts(&mut SqliteSession { connection }, &records, &*tables))
        })
        .await
    }

    pub async fn decide_delivery(&self, decision: DeliveryDecision) -> Result<bool, StoreError> {
        self.write(false, move |connection| {
            run(rules::decide_delivery(&mut SqliteSession { connection }, &decision))
        })
        .await
    }

    async fn write<T: Send + 'static>(
        &self,
        alone: bool,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.send_job(|answer| Job::write(alone, answer, work)).await
    }

    /// Sends a job to the writer thread and waits for its result.
    async fn send_job<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = oneshot::channel();
        self.shared.writer.send(job(sender))?;
        receiver.await.unwrap_or(Err(StoreError::Closed))
    }

    pub async fn rows(&self, sql: String, parameters: Vec<Cell>) -> Result<Vec<Vec<Cell>>, StoreError> {
        let read = self.rows_together(vec![Select { sql, parameters }]).await?;
        Ok(read.into_iter().flatten().collect())
    }

    pub async fn rows_together(&self, selects: Vec<Select>) -> Result<Vec<Vec<Vec<Cell>>>, StoreError> {
        self.read(|connection| read_together(connection, &selects).map_err(classify)).await
    }

    /// Reads with a connection that no other read uses at the same time. After a failure the connection is closed.
    async fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let shared = &self.shared;
        let _permit = shared.readers.acquire().await.map_err(|_| StoreError::Closed)?;
        // Moving to another thread and back would wait for a CPU twice, and each wait takes as long as most reads.
        tokio::task::block_in_place(|| {
            let idle = event::lock(&shared.idle_readers).pop();
            let connection = match idle {
                Some(connection) => connection,
                None => connection::open_for_reading(&shared.path).map_err(classify)?,
            };
            let outcome = work(&connection)?;
            event::lock(&shared.idle_readers).push(connection);
            Ok(outcome)
        })
    }

    pub fn snapshot(
        &self,
        target: &Path,
        wanted: impl Fn() -> bool,
    ) -> Result<Vec<ViewPosition>, StoreError> {
        snapshot::take(&self.shared.path, target, wanted)
    }

    pub fn snapshot_bytes(&self) -> Result<u64, StoreError> {
        snapshot::bytes(&self.shared.path)
    }

    pub fn failure(&self) -> Option<String> {
        self.shared.writer.failure()
    }

    /// Waits until a check finds that the database's files were moved, removed, replaced or cut. Returns the reason.
    pub async fn failed(&self) -> String {
        self.shared.writer.failed().await
    }

    /// Returns what is damaged in the database file, as far as the last check found it.
    pub fn damage(&self) -> Option<String> {
        self.shared.damage_check.damage()
    }

    pub fn close(&self) {
        self.shared.damage_check.close();
        self.shared.writer.close();
    }
}

/// Runs all queries in one transaction, so that they read one snapshot. After a failure the caller drops the
/// connection, and with it the open transaction.
fn read_together(connection: &Connection, selects: &[Select]) -> rusqlite::Result<Vec<Vec<Vec<Cell>>>> {
    let read = |select: &Select| read_rows(connection, &select.sql, &select.parameters);
    if let [select] = selects {
        return Ok(vec![read(select)?]);
    }
    connection.execute_batch("BEGIN")?;
    let rows = selects.iter().map(read).collect::<rusqlite::Result<_>>()?;
    connection.execute_batch("COMMIT")?;
    Ok(rows)
}

fn read_rows(connection: &Connection, sql: &str, parameters: &[Cell]) -> rusqlite::Result<Vec<Vec<Cell>>> {
    let mut statement = connection.prepare_cached(sql)?;
    let width = statement.column_count();
    let mut rows = statement.query(rusqlite::params_from_iter(parameters))?;
    let mut read = Vec::new();
    while let Some(row) = rows.next()? {
        let cells: rusqlite::Result<Vec<Cell>> =
            (0..width).map(|index| row.get_ref(index).map(cell)).collect();
        read.push(cells?);
    }
    Ok(read)
}

fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(value) => Cell::Integer(value),
        ValueRef::Real(value) => Cell::Text(value.to_string()),
        ValueRef::Text(text) => Cell::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Cell::Bytes(bytes.to_vec()),
    }
}

impl rusqlite::ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        use rusqlite::types::ToSqlOutput::{Borrowed, Owned};
        Ok(match self {
            Self::Null => Borrowed(ValueRef::Null),
            Self::Text(text) => Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Integer(value) => Borrowed(ValueRef::Integer(*value)),
            Self::Decimal(value) => Owned(rusqlite::types::Value::Text(value.to_string())),
            Self::Time(time) => {
                let mut text = String::new();
                time.put_civil(&mut text);
                Owned(rusqlite::types::Value::Text(text))
            }
            Self::Bytes(bytes) => Borrowed(ValueRef::Blob(bytes)),
        })
    }
}
