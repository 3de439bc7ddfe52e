//! The store on a database server: what PostgreSQL and MySQL share. A plan is one transaction in one session. Any
//! error rolls back the whole plan, and the caller tries again.

pub mod begin;
mod gate;
pub mod password;
mod pool;
mod schema;
mod server;
mod server_session;
pub mod statement_timeout;
pub mod url;

use std::sync::Arc;

use super::cell::Cell;
use super::dedup_rule::Skipped;
use super::delivery::{AttemptRecord, DeliveryDecision, DeliveryKey, LeaseRequest, Leased, ViewTableLookup};
use super::numbered_rows::{RowsOf, RowsToDelete};
use super::plan::{Claim, Plan};
use super::session::Session;
use super::sql_view::SqlView;
use super::table_fault::TableFault;
use super::tables::{Table, TopK, ViewTables, quote};
use super::{OpenError, Select, StoreError, StoreInspection, mysql, postgres, rules};
use begin::Begin;
use gate::Gate;
use pool::{Lease, Pool};
use server::Server;
use server_session::ServerSession;

pub use password::{Password, PasswordFrom, password_in};

/// Fails if the URL names no server that millrace can use. Reads the files of certificates that it names.
pub fn check_url(url: &str) -> Result<(), OpenError> {
    Server::parse(url, &Password::default()).map(drop)
}

#[derive(Clone)]
pub struct Remote {
    pool: Arc<Pool>,
    gate: Gate,
}

impl Remote {
    /// Describes the server. No work is admitted until `admit`.
    pub fn at(url: &str, password: &Password) -> Result<Self, OpenError> {
        let server = Server::parse(url, password)?;
        Ok(Self { pool: Arc::new(Pool::new(server)), gate: Gate::default() })
    }

    /// Creates or updates millrace's own tables. Returns warnings about the server's settings.
    pub async fn prepare(&self) -> Result<Vec<String>, OpenError> {
        let name = self.name();
        let failed = |error: StoreError| match error {
            StoreError::Transient(reason) => OpenError::Unreachable { name: name.clone(), reason },
            error => OpenError::Refused { name: name.clone(), reason: error.to_string() },
        };
        let warnings = self.pool.server().preflight().await.map_err(&failed)?;
        let mut lease = self.pool.to_write().await.map_err(&failed)?;
        let made = schema::make(&mut lease.session).await;
        lease.release(made).map_err(&failed)?;
        Ok(warnings)
    }

    pub fn kind(&self) -> &'static str {
        match self.pool.server() {
            Server::Postgres(_) => "postgres",
            Server::Mysql(_) => "mysql",
        }
    }

    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Returns the same store without its gate, for the checks that decide whether work is admitted.
    pub fn without_gate(&self) -> Self {
        Self { pool: Arc::clone(&self.pool), gate: Gate::open() }
    }

    /// Fails if the server does not answer, or would refuse to write.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.pool.probe().await
    }

    async fn to_write(&self) -> Result<Lease<'_>, StoreError> {
        self.gate.check()?;
        self.pool.to_write().await
    }

    async fn to_read(&self) -> Result<Lease<'_>, StoreError> {
        self.gate.check()?;
        self.pool.to_read().await
    }

    pub fn name(&self) -> String {
        self.pool.server().name()
    }

    /// Returns an expression that sorts a text column by its bytes. In PostgreSQL, keys that compare byte for byte
    /// can still be sorted in another order.
    pub fn by_bytes(&self, column: &str) -> String {
        match self.pool.server() {
            Server::Postgres(_) => format!("{column} COLLATE \"C\""),
            Server::Mysql(_) => column.to_owned(),
        }
    }

    pub async fn begin_view(&self, claim: Claim, tables: ViewTables) -> Result<(), StoreError> {
        let mut lease = self.to_write().await?;
        let begun = begin_view(&mut lease.session, &claim, &tables).await;
        let lease = match begun {
            Ok(()) => lease,
            Err(_) => return lease.release(begun),
        };
        self.make_sql_views(lease, &claim.view, &tables.sql_views).await;
        Ok(())
    }

    /// Makes the SQL views of a view that has begun. The view works without them, so a failure is only logged. It closes
    /// the session, and with it releases the lock.
    async fn make_sql_views(&self, mut lease: Lease<'_>, view: &str, sql_views: &[SqlView]) {
        let made = async {
            rules::make_sql_views(&mut lease.session, sql_views).await?;
            lease.session.unlock(schema::LOCK).await
        }
        .await;
        match made {
            Ok(()) => drop(lease.release(Ok(()))),
            Err(error) => {
                tracing::warn!(view, %error, "the SQL views for reading could not be made now; millrace tries again when the view starts the next time");
            }
        }
    }

    pub async fn check_view(&self, view: &str, tables: &ViewTables) -> Result<Vec<TableFault>, StoreError> {
        let mut lease = self.pool.to_read().await?;
        let checked = rules::view_faults(&mut lease.session, view, tables).await;
        lease.release(checked)
    }

    pub async fn apply(&self, plan: Arc<Plan>) -> Result<Vec<Skipped>, StoreError> {
        let mut lease = self.to_write().await?;
        let applied = async {
            lease.session.begin(Begin::Writing).await?;
            let skipped = rules::apply(&mut lease.session, &plan).await?;
            failpoint::hit("store.commit");
            Ok(skipped)
        }
        .await;
        lease.end_transaction(applied).await
    }

    pub async fn rows(&self, sql: String, parameters: Vec<Cell>) -> Result<Vec<Vec<Cell>>, StoreError> {
        let mut lease = self.to_read().await?;
        let rows = lease.session.rows(&sql, &parameters).await;
        lease.release(rows)
    }

    pub async fn rows_together(&self, selects: Vec<Select>) -> Result<Vec<Vec<Vec<Cell>>>, StoreError> {
        let mut lease = self.to_read().await?;
        let read = async {
            lease.session.begin(Begin::Reading).await?;
            let mut read = Vec::with_capacity(selects.len());
            for select in &selects {
                read.push(lease.session.rows(&select.sql, &select.parameters).await?);
            }
            Ok(read)
        }
        .await;
        lease.end_transaction(read).await
    }

    pub async fn change_all(&self, statements: Vec<(String, Vec<Cell>)>) -> Result<usize, StoreError> {
        let mut lease = self.to_write().await?;
        let changed = async {
            lease.session.begin(Begin::Writing).await?;
            let mut changed = 0;
            for (sql, parameters) in &statements {
                changed += lease.session.change(sql, parameters).await?;
            }
            Ok(changed as usize)
        }
        .await;
        lease.end_transaction(changed).await
    }

    pub async fn delete_rows(&self, of: RowsOf, to_delete: RowsToDelete) -> Result<usize, StoreError> {
        let mut lease = self.to_write().await?;
        let deleted = async {
            lease.session.begin(Begin::Writing).await?;
            rules::delete_rows(&mut lease.session, &of, &to_delete).await
        }
        .await;
        lease.end_transaction(deleted).await
    }

    /// Runs `work` in one transaction that writes.
    async fn transaction<T>(
        &self,
        work: impl AsyncFnOnce(&mut ServerSession) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut lease = self.to_write().await?;
        let done = async {
            lease.session.begin(Begin::Writing).await?;
            work(&mut lease.session).await
        }
        .await;
        lease.end_transaction(done).await
    }

    pub async fn lease(&self, request: LeaseRequest) -> Result<Vec<Leased>, StoreError> {
        self.transaction(async |session| rules::lease(session, &request).await).await
    }

    pub async fn record_attempts(
        &self,
        records: Arc<Vec<AttemptRecord>>,
        tables: ViewTableLookup,
    ) -> Result<Vec<DeliveryKey>, StoreError> {
        self.transaction(async |session| rules::record_attempts(session, &records, &*tables).await).await
    }

    pub async fn decide_delivery(&self, decision: DeliveryDecision) -> Result<bool, StoreError> {
        self.transaction(async |session| rules::decide_delivery(session, &decision).await).await
    }

    /// Returns the SQL of the server's time in milliseconds since 1970.
    pub fn now_sql(&self) -> &'static str {
        match self.pool.server() {
            Server::Postgres(_) => postgres::NOW_SQL,
            Server::Mysql(_) => mysql::NOW_SQL,
        }
    }

    pub async fn make_table(&self, table: Table) -> Result<(), StoreError> {
        let mut lease = self.to_write().await?;
        lease.session.statement_timeout().lengthen();
        let made = lease.session.create(&table).await;
        lease.release(made)
    }

    pub async fn drop_tables(&self, tables: &[Table]) -> Result<(), StoreError> {
        let mut lease = self.to_write().await?;
        lease.session.statement_timeout().lengthen();
        let dropped = lease.session.drop_tables(tables).await;
        lease.release(dropped)
    }

    pub async fn replace_tables(&self, made: &[Table], wanted: &[Table]) -> Result<(), StoreError> {
        let mut lease = self.to_write().await?;
        lease.session.statement_timeout().lengthen();
        let put = lease.session.replace_tables(made, wanted).await;
        lease.release(put)
    }

    pub fn close(&self) {
        self.pool.close();
    }
}

/// Inspects the database for these views, and changes nothing.
pub async fn inspect(
    url: &str,
    password: &Password,
    views: &[(String, ViewTables)],
) -> Result<StoreInspection, OpenError> {
    let server = Server::parse(url, password)?;
    let name = server.name();
    let failed = |error: StoreError| match error {
        StoreError::Transient(reason) => OpenError::Unreachable { name: name.clone(), reason },
        error => OpenError::Refused { name: name.clone(), reason: error.to_string() },
    };
    let mut found = StoreInspection { name: name.clone(), ..StoreInspection::default() };
    let Some((mut session, warnings)) = server.inspect().await.map_err(&failed)? else { return Ok(found) };
    found.exists = true;
    found.warnings = warnings;
    for (view, tables) in views {
        let faults = rules::view_faults(&mut session, view, tables).await.map_err(&failed)?;
        found.faults.extend(faults.into_iter().map(|fault| (view.clone(), fault)));
    }
    Ok(found)
}

/// Begins a view, and returns with the schema lock held. A lock admits one node at a time: rows that another node writes meanwhile would be recorded as
/// content from before the view.
async fn begin_view(
    session: &mut ServerSession,
    claim: &Claim,
    tables: &ViewTables,
) -> Result<(), StoreError> {
    session.statement_timeout().lengthen();
    session.lock(schema::LOCK).await?;
    let table_existed = rules::begin_view_tables(session, claim, tables).await?;
    session.begin(Begin::Writing).await?;
    rules::record_view(session, claim, tables, table_existed).await?;
    session.commit().await
}

/// Returns the query for the first rows of a group in its ranking; the query follows the index. The index puts empty
/// text first, so one more row is read, and empty text is moved behind all rows with the same number.
pub fn top(table: &Table, ranking: &TopK, group: Vec<Cell>, limit: usize) -> Select {
    let limit = limit.min(ranking.limit_max);
    let (value, number) = (&table.columns[table.key_columns - 1], &table.columns[table.key_columns]);
    let (value, number) = (quote(&value.name), quote(&number.name));
    let in_group: Vec<String> = table.columns[..table.key_columns - 1]
        .iter()
        .map(|column| format!("{} = ?", quote(&column.name)))
        .collect();
    let sql = format!(
        "SELECT {value}, {number} FROM (SELECT {value}, {number} FROM {} WHERE {} ORDER BY {number} DESC, {value} LIMIT {}) AS ahead \
         ORDER BY {number} DESC, {value} = '', {value} LIMIT {limit}",
        quote(&table.name),
        in_group.join(" AND "),
        limit + 1
    );
    Select { sql, parameters: group }
}
