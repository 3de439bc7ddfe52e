//! PostgreSQL as the store: one connection, and the store's operations in this database's SQL.

mod cells;
mod connect;
mod errors;
mod existing_table;
mod numbered_rows;
mod preflight;
mod prepared;
mod repair_sql;
mod rights;
mod shape;
mod sql_views;
mod statements;
mod tables;
#[cfg(test)]
mod test_server;
mod tls;
mod url;
mod verbs;

use tokio::sync::oneshot;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Client, Error, Row, Statement};

pub use connect::Server;
pub use sql_views::sql_view_query;

use self::prepared::{Encoded, Prepared, as_parameters};
use crate::store::StoreError;
use crate::store::cell::Cell;
use crate::store::remote::begin::Begin;
use crate::store::remote::statement_timeout::StatementTimeout;

/// The time in milliseconds since 1970.
pub const NOW_SQL: &str = "CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)";

pub struct Session {
    client: Client,
    prepared: Prepared,
    pub statement_timeout: StatementTimeout,
    /// Ends the connection when it is dropped.
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

    /// Commits. In a failed transaction, COMMIT rolls back and the client reports success. The savepoint fails then,
    /// and it also fails outside a transaction.
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

    /// Runs statements without parameters, one after the other, until one fails.
    async fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        let outcome = self.statement_timeout.wait(self.client.batch_execute(sql)).await?;
        outcome.map_err(|error| self.classify(&error))
    }

    async fn statement(&mut self, sql: &str) -> Result<Statement, StoreError> {
        let outcome = self.statement_timeout.wait(self.prepared.statement(&self.client, sql)).await?;
        outcome.map_err(|error| self.classify(&error))
    }

    async fn select(
        &mut self,
        statement: &Statement,
        parameters: &[Encoded],
    ) -> Result<Vec<Vec<Cell>>, StoreError> {
        let parameters = as_parameters(parameters);
        let outcome = self.statement_timeout.wait(self.client.query(statement, &parameters)).await?;
        let rows = outcome.map_err(|error| self.classify(&error))?;
        rows.iter().map(cells_of).collect()
    }

    async fn execute(&mut self, statement: &Statement, parameters: &[Encoded]) -> Result<u64, StoreError> {
        let parameters = as_parameters(parameters);
        let outcome = self.statement_timeout.wait(self.client.execute(statement, &parameters)).await?;
        outcome.map_err(|error| self.classify(&error))
    }

    fn classify(&mut self, error: &Error) -> StoreError {
        if errors::is_stale(error) {
            self.prepared.forget();
        }
        errors::classify(error)
    }
}

/// The bytes of any column, as the server sends them.
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
        let Raw(raw) = row.try_get(index).map_err(|error| errors::classify(&error))?;
        cells::read(column.type_(), raw).ok_or_else(|| {
            let (name, kind) = (column.name(), column.type_().name());
            StoreError::Blocked(format!("column `{name}` has the type {kind}, which millrace cannot read"))
        })
    };
    (0..row.len()).map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_commit_succeeds_only_if_the_server_committed() {
        let mut session = test_server::shared().session().await;
        session.batch("CREATE TABLE t (n INT PRIMARY KEY)").await.expect("a table");
        assert!(session.commit().await.is_err(), "no transaction is open");
        session.begin(Begin::Writing).await.expect("begins");
        session.change("INSERT INTO t VALUES (?)", &[Cell::Integer(1)]).await.expect("a row");
        let twice = session.change("INSERT INTO t VALUES (?)", &[Cell::Integer(1)]).await;
        assert!(matches!(twice, Err(StoreError::Data(_))), "{twice:?}");
        assert!(session.commit().await.is_err(), "the transaction has failed");
        session.rollback().await.expect("rolls back");
        assert_eq!(session.rows("SELECT n FROM t", &[]).await, Ok(vec![]));
        session.begin(Begin::Writing).await.expect("begins");
        session.change("INSERT INTO t VALUES (?)", &[Cell::Integer(2)]).await.expect("a row");
        session.commit().await.expect("commits");
        assert_eq!(session.rows("SELECT n FROM t", &[]).await, Ok(vec![vec![Cell::Integer(2)]]));
    }

    #[tokio::test]
    async fn a_session_that_timed_out_is_not_reused() {
        let mut session = test_server::shared().session().await;
        session.statement_timeout = StatementTimeout::new(std::time::Duration::from_millis(50));
        session.begin(Begin::Writing).await.expect("begins");
        let late = session.rows("SELECT 1 FROM pg_sleep(1)", &[]).await;
        assert!(matches!(late, Err(StoreError::Transient(_))), "{late:?}");
        // A longer timeout does not make the session usable again.
        session.statement_timeout.shorten();
        session.rollback().await.expect_err("its next answer would be the late one");
    }

    #[tokio::test]
    async fn a_session_has_the_settings_that_millrace_relies_on() {
        let mut session = test_server::shared().session().await;
        for (name, value) in [
            ("TimeZone", "UTC"),
            ("synchronous_commit", "on"),
            ("lock_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "1min"),
            ("application_name", "millrace"),
            ("client_connection_check_interval", "5s"),
        ] {
            let shown = session.rows("SELECT current_setting(?)", &[Cell::Text(name.to_owned())]).await;
            assert_eq!(shown, Ok(vec![vec![Cell::Text(value.to_owned())]]), "{name}");
        }
    }

    #[tokio::test]
    async fn a_number_beyond_the_range_of_a_column_can_be_compared_with_it() {
        let mut session = test_server::shared().session().await;
        session.batch("CREATE TABLE t (n INT); INSERT INTO t VALUES (7)").await.expect("a table");
        let rows = session.rows("SELECT n FROM t WHERE n < ?", &[Cell::Integer(i64::MAX)]).await;
        assert_eq!(rows, Ok(vec![vec![Cell::Integer(7)]]));
        let too_large = session.change("INSERT INTO t VALUES (?)", &[Cell::Integer(i64::MAX)]).await;
        assert!(matches!(too_large, Err(StoreError::Data(_))), "{too_large:?}");
    }

    #[tokio::test]
    async fn a_statement_survives_the_change_of_its_table() {
        let mut session = test_server::shared().session().await;
        session.batch("CREATE TABLE t (n INT); INSERT INTO t VALUES (7)").await.expect("a table");
        session.rows("SELECT n FROM t", &[]).await.expect("a row");
        session.batch("ALTER TABLE t ALTER n TYPE TEXT").await.expect("another type");
        let stale = session.rows("SELECT n FROM t", &[]).await;
        assert!(matches!(stale, Err(StoreError::Transient(_))), "{stale:?}");
        assert_eq!(session.rows("SELECT n FROM t", &[]).await, Ok(vec![vec![Cell::Text("7".to_owned())]]));
    }

    #[tokio::test]
    async fn a_session_that_is_dropped_in_a_transaction_releases_its_locks() {
        let server = test_server::shared().server().await;
        let mut first = server.connect().await.expect("connects");
        let mut second = server.connect().await.expect("connects");
        first.batch("CREATE TABLE t (n INT)").await.expect("a table");
        first.begin(Begin::Writing).await.expect("begins");
        first.batch("LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.expect("locks");
        first.lock("turn").await.expect("locks");
        drop(first);
        second.lock("turn").await.expect("is free");
        assert_eq!(second.rows("SELECT n FROM t", &[]).await, Ok(vec![]));
        second.unlock("turn").await.expect("unlocks");
    }

    #[tokio::test]
    async fn errors_contain_no_values() {
        let mut session = test_server::shared().session().await;
        session
            .batch(
                "CREATE TABLE t (n INT UNIQUE, v VARCHAR(3), u UUID, d TIMESTAMP CHECK (d > '2000-01-01'))",
            )
            .await
            .expect("a table");
        session.batch("INSERT INTO t (n) VALUES (4711)").await.expect("a row");
        for sql in [
            "INSERT INTO t (n) VALUES (4711)",
            "INSERT INTO t (n) VALUES ('4711x')",
            "INSERT INTO t (n) VALUES (4711471147114711)",
            "INSERT INTO t (v) VALUES ('4711')",
            "INSERT INTO t (u) VALUES ('4711')",
            "INSERT INTO t (d) VALUES ('4711-99-99')",
            "INSERT INTO t (d) VALUES ('1999-04-07 11:00:00')",
            "SELECT '{4711'::json",
        ] {
            match session.change(sql, &[]).await {
                Err(StoreError::Data(reason)) => assert!(!reason.contains("4711"), "{reason}"),
                other => panic!("{sql}: {other:?}"),
            }
        }
        assert_eq!(
            session.rows("SELECT n FROM \"no such table\"", &[]).await,
            Err(StoreError::NoTable("no such table".to_owned()))
        );
    }
}
