//! PostgreSQL as the store: one connection, and the verbs as this database carries them out.

mod cells;
mod connect;
mod errors;
mod look;
mod mends;
mod prepared;
mod rows;
mod shape;
mod statements;
mod tables;
mod tls;
mod url;
mod verbs;

use tokio::sync::oneshot;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Client, Error, Row, Statement};

pub use connect::Server;

use self::prepared::{Encoded, Prepared, as_parameters};
use crate::store::StoreError;
use crate::store::remote::Begin;
use crate::store::tables::Cell;

pub struct Session {
    client: Client,
    prepared: Prepared,
    /// Dropped, it ends the connection.
    _alive: oneshot::Sender<()>,
}

impl Session {
    pub async fn begin(&mut self, begin: Begin) -> Result<(), StoreError> {
        self.batch(match begin {
            Begin::Writing => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
            Begin::Reading => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        })
        .await
    }

    /// A transaction that has failed answers COMMIT with a rollback, and the client says that all is well;
    /// a savepoint it answers with an error, and so does a session that is in no transaction.
    pub async fn commit(&mut self) -> Result<(), StoreError> {
        self.batch("SAVEPOINT millrace_commit; COMMIT").await
    }

    pub async fn rollback(&mut self) -> Result<(), StoreError> {
        self.batch("ROLLBACK").await
    }

    pub async fn rows(&mut self, sql: &str, parameters: &[Cell]) -> Result<Vec<Vec<Cell>>, StoreError> {
        let statement = self.statement(sql).await?;
        let encoded = prepared::encoded(&statement, parameters)?;
        self.select(&statement, &encoded).await
    }

    pub async fn change(&mut self, sql: &str, parameters: &[Cell]) -> Result<u64, StoreError> {
        let statement = self.statement(sql).await?;
        let encoded = prepared::encoded(&statement, parameters)?;
        self.execute(&statement, &encoded).await
    }

    pub async fn lock(&mut self, name: &str) -> Result<(), StoreError> {
        let sql = "SELECT pg_catalog.pg_advisory_lock(pg_catalog.hashtextextended('millrace ' || ?, 0))";
        self.rows(sql, &[Cell::Text(name.to_owned())]).await.map(drop)
    }

    pub async fn unlock(&mut self, name: &str) -> Result<(), StoreError> {
        let sql = "SELECT pg_catalog.pg_advisory_unlock(pg_catalog.hashtextextended('millrace ' || ?, 0))";
        self.rows(sql, &[Cell::Text(name.to_owned())]).await.map(drop)
    }

    /// Statements without parameters, one after the other until one fails.
    async fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        let outcome = self.client.batch_execute(sql).await;
        outcome.map_err(|error| self.sorted(&error))
    }

    async fn statement(&mut self, sql: &str) -> Result<Statement, StoreError> {
        let outcome = self.prepared.statement(&self.client, sql).await;
        outcome.map_err(|error| self.sorted(&error))
    }

    async fn select(
        &mut self,
        statement: &Statement,
        parameters: &[Encoded],
    ) -> Result<Vec<Vec<Cell>>, StoreError> {
        let outcome = self.client.query(statement, &as_parameters(parameters)).await;
        let rows = outcome.map_err(|error| self.sorted(&error))?;
        rows.iter().map(cells_of).collect()
    }

    async fn execute(&mut self, statement: &Statement, parameters: &[Encoded]) -> Result<u64, StoreError> {
        let outcome = self.client.execute(statement, &as_parameters(parameters)).await;
        outcome.map_err(|error| self.sorted(&error))
    }

    fn sorted(&mut self, error: &Error) -> StoreError {
        if errors::is_stale(error) {
            self.prepared.forget();
        }
        errors::sorted(error)
    }
}

/// Whatever a column holds, as the server sends it.
struct Raw<'a>(Option<&'a [u8]>);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn cells_of(row: &Row) -> Result<Vec<Cell>, StoreError> {
    let cell = |index: usize| {
        let column = &row.columns()[index];
        let Raw(raw) = row.try_get(index).map_err(|error| errors::sorted(&error))?;
        cells::read(column.type_(), raw).ok_or_else(|| {
            let (name, kind) = (column.name(), column.type_().name());
            StoreError::Blocked(format!("column `{name}` is of type {kind}, which millrace does not read"))
        })
    };
    (0..row.len()).map(cell).collect()
}
