//! The store: the database that views live in. It takes a whole plan and applies it as one transaction,
//! the claim first; it knows nothing of events, only of tables and rows. Each database carries the same
//! verbs out its fastest safe way; a closed set, so an enum.

mod backoff;
mod day_gaps;
mod dead_letters;
mod dedup;
mod deleted_history;
mod drop_view;
mod erasures;
mod halt;
mod merged_plans;
mod mysql;
mod numbered_rows;
mod plan;
mod postgres;
mod remote;
mod row_origin_entry;
mod row_origins;
mod snapshot;
mod sqlite;
mod stored_value;
mod tables;

use std::path::Path;
use std::sync::Arc;

use event::{Decimal, LogId, Stop};

pub use backoff::Backoff;
pub use dead_letters::{DeadLetter, DeadLetterStatus};
pub use deleted_history::{DeletedHistory, LOG_DELETED, rows_deleted};
pub use erasures::{Erasure, Open as OpenErasure};
pub use halt::Halt;
pub use numbered_rows::{RowChanges, Rows, RowsOf};
pub use plan::{
    Claim, CorrectedEvent, DeadLetterChange, DedupEntry, DedupKey, NewDeadLetter, Plan, Skipped, Stamp, Verb,
    Write,
};
pub use remote::Password;
pub use row_origins::RowOrigin;
pub use tables::{Cell, Column, ColumnKind, DayGaps, DerivedIndex, Opening, Table, TopK, ViewTables, quote};

/// Where views are kept: in a file of the data folder, or on a database server.
#[derive(Clone)]
pub enum Store {
    Sqlite(sqlite::Sqlite),
    Remote(remote::Remote),
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "`[store] url = \"{0}\"` begins with none of the stores that millrace knows: `sqlite:` is the one in the data folder, `sqlite:PATH` any other file, `postgres://...` and `mysql://...` are database servers"
    )]
    UnknownUrl(String),
    #[error("`[store] url`: {0}")]
    Url(String),
    /// Goes by itself: the server is not up yet.
    #[error("the store `{name}` does not answer: {reason}")]
    Unreachable { name: String, reason: String },
    #[error("the store `{name}` cannot be opened: {reason}")]
    Refused { name: String, reason: String },
}

/// One question to the store; `?` stands for a parameter.
#[derive(Clone, Debug)]
pub struct Select {
    pub sql: String,
    pub parameters: Vec<Cell>,
}

/// Why a plan, or a query, did not go through. Nothing of a failed plan is in the database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The stored position is not the one the claim starts from: somebody else was faster, or a commit
    /// that seemed lost was not.
    #[error("view `{view}` stands at {found:?} in the store, not at {expected}")]
    Claimed { view: String, expected: u64, found: Option<u64> },
    /// Goes by itself: busy, locked, out of room. Tried again for ever.
    #[error("{0}")]
    Transient(String),
    /// One of the rows is not to the database's liking.
    #[error("{0}")]
    Data(String),
    /// Needs a person: a table or right is missing, or nobody knows this error.
    #[error("{0}")]
    Blocked(String),
    #[error("table `{0}` does not exist")]
    NoTable(String),
    #[error("the store is closed")]
    Closed,
}

/// Where a view stands in one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewPosition {
    pub view: String,
    pub log: LogId,
    pub position: u64,
}

impl Store {
    /// Opens the store at `url`; a password that is given beside wins over the one in it.
    pub async fn open(url: &str, password: Option<&Password>, data: &Path) -> Result<Self, OpenError> {
        if remote::Remote::is_meant(url) {
            let password = password.cloned().unwrap_or_default();
            return remote::Remote::open(url, &password).await.map(Self::Remote);
        }
        match url.strip_prefix("sqlite:") {
            Some("") => sqlite::Sqlite::open(&data.join("millrace.db")).map(Self::Sqlite),
            Some(path) => {
                sqlite::Sqlite::open(Path::new(path.strip_prefix("//").unwrap_or(path))).map(Self::Sqlite)
            }
            // What follows may hold a password.
            None => {
                Err(OpenError::UnknownUrl(url.split_inclusive(':').next().unwrap_or_default().to_owned()))
            }
        }
    }

    /// The name for people: kind and place, never a password.
    pub fn name(&self) -> String {
        match self {
            Self::Sqlite(store) => store.name(),
            Self::Remote(store) => store.name(),
        }
    }

    /// Every view's position in every log.
    pub async fn positions(&self) -> Result<Vec<ViewPosition>, StoreError> {
        view_positions(self.rows(POSITIONS_SQL.to_owned(), Vec::new()).await?)
    }

    pub async fn position(&self, view: &str, log: LogId) -> Result<Option<u64>, StoreError> {
        Ok(self
            .positions()
            .await?
            .into_iter()
            .find(|row| row.view == view && row.log == log)
            .map(|row| row.position))
    }

    /// Makes a view's tables at its first event, or checks that those that are there are of the right
    /// shape, and notes the view's position and what its table held before.
    pub async fn begin_view(&self, claim: Claim, tables: ViewTables) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.begin_view(claim, tables).await,
            Self::Remote(store) => store.begin_view(claim, tables).await,
        }
    }

    /// Applies a plan as one transaction. The answer lists what the gate's entries turned out to be.
    pub async fn apply(&self, plan: Arc<Plan>) -> Result<Vec<Skipped>, StoreError> {
        match self {
            Self::Sqlite(store) => store.apply(plan).await,
            Self::Remote(store) => store.apply(plan).await,
        }
    }

    /// Applies a plan, trying again for ever what goes by itself; `waiting` hears of each such failure.
    /// `None` once `stop` is asked for: the plan is not known to be applied then, and its claim tells at the next start.
    pub async fn apply_surely(
        &self,
        plan: Arc<Plan>,
        stop: &Stop,
        mut waiting: impl FnMut(&str),
    ) -> Option<Result<Vec<Skipped>, StoreError>> {
        let mut backoff = Backoff::default();
        loop {
            match self.apply(Arc::clone(&plan)).await {
                Err(StoreError::Transient(reason)) => waiting(&reason),
                outcome => return Some(outcome),
            }
            metrics::counter!("millrace_store_retries_total", "view" => plan.claim.view.clone()).increment(1);
            if stop.within(backoff.pause()).await {
                return None;
            }
        }
    }

    /// Reads rows; `?` stands for a parameter.
    pub async fn rows(&self, sql: String, parameters: Vec<Cell>) -> Result<Vec<Vec<Cell>>, StoreError> {
        match self {
            Self::Sqlite(store) => store.rows(sql, parameters).await,
            Self::Remote(store) => store.rows(sql, parameters).await,
        }
    }

    /// Reads several times, all of it as it was at one moment.
    pub async fn rows_together(&self, selects: Vec<Select>) -> Result<Vec<Vec<Vec<Cell>>>, StoreError> {
        match self {
            Self::Sqlite(store) => store.rows_together(selects).await,
            Self::Remote(store) => store.rows_together(selects).await,
        }
    }

    /// Asks for the first of a group in a table's ranking: the last column of the key, and the number.
    pub fn top(&self, table: &Table, ranking: &TopK, group: Vec<Cell>, limit: usize) -> Select {
        match self {
            Self::Sqlite(_) => sqlite::top(table, ranking, group, limit),
            Self::Remote(_) => remote::top(table, ranking, group, limit),
        }
    }

    /// A text column in the order of its bytes, whatever its collation is.
    pub fn by_bytes(&self, column: &str) -> String {
        match self {
            Self::Sqlite(_) => column.to_owned(),
            Self::Remote(store) => store.by_bytes(column),
        }
    }

    /// Changes rows outside of any view: keys, a dead letter's status. Answers how many.
    pub async fn change(&self, sql: String, parameters: Vec<Cell>) -> Result<usize, StoreError> {
        match self {
            Self::Sqlite(store) => store.change(sql, parameters).await,
            Self::Remote(store) => store.change_all(vec![(sql, parameters)]).await,
        }
    }

    /// The same for several statements: all of them, or none.
    pub async fn change_all(&self, statements: Vec<(String, Vec<Cell>)>) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.change_all(statements).await.map(drop),
            Self::Remote(store) => store.change_all(statements).await.map(drop),
        }
    }

    /// Leaves nothing of deleted rows behind in the database's files. A server's files are its own, and
    /// `docs/OPERATING.md` says what its administrator does.
    pub async fn scrub(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.scrub().await,
            Self::Remote(_) => Ok(()),
        }
    }

    /// What the table of `view` held for a key before the view began.
    pub async fn opening(&self, view: &str, key: &str) -> Result<Option<Decimal>, StoreError> {
        let sql = "SELECT amount FROM millrace_opening WHERE view = ? AND row_key = ?";
        let rows =
            self.rows(sql.to_owned(), vec![Cell::Text(view.to_owned()), Cell::Text(key.to_owned())]).await?;
        let amount = |row: Vec<Cell>| row.first().and_then(Cell::decimal);
        rows.into_iter()
            .next()
            .map(|row| amount(row).ok_or_else(|| corrupt_row("millrace_opening")))
            .transpose()
    }

    /// Makes a table unless it is there.
    pub async fn make_table(&self, table: Table) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.make_table(table).await,
            Self::Remote(store) => store.make_table(table).await,
        }
    }

    /// Drops tables, if they are there, with what is kept beside them.
    pub async fn drop_tables(&self, tables: &[Table]) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.drop_tables(tables).await,
            Self::Remote(store) => store.drop_tables(tables).await,
        }
    }

    /// Puts each table of `made` in the place of the one of `wanted`, all of them or none.
    pub async fn put_in_place(&self, made: &[Table], wanted: &[Table]) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.put_in_place(made, wanted).await,
            Self::Remote(store) => store.put_in_place(made, wanted).await,
        }
    }

    /// The positions of `log` within `from..to` that the gate lets no view see, in order.
    pub async fn skipped_positions(&self, log: LogId, from: u64, to: u64) -> Result<Vec<u64>, StoreError> {
        let sql = "SELECT position FROM millrace_skipped WHERE log_id = ? AND part = 0 AND position >= ? AND position < ? ORDER BY position";
        let parameters =
            vec![Cell::Bytes(log.0.to_vec()), Cell::Integer(from as i64), Cell::Integer(to as i64)];
        self.position_list("millrace_skipped", sql, parameters).await
    }

    /// The positions of `log` within `from..to` that `view` passed by, in order.
    pub async fn passed_positions(
        &self,
        view: &str,
        log: LogId,
        from: u64,
        to: u64,
    ) -> Result<Vec<u64>, StoreError> {
        let sql = "SELECT position FROM millrace_passed WHERE view = ? AND log_id = ? AND part = 0 AND position >= ? AND position < ? ORDER BY position";
        let log = Cell::Bytes(log.0.to_vec());
        let parameters =
            vec![Cell::Text(view.to_owned()), log, Cell::Integer(from as i64), Cell::Integer(to as i64)];
        self.position_list("millrace_passed", sql, parameters).await
    }

    async fn position_list(
        &self,
        table: &'static str,
        sql: &str,
        parameters: Vec<Cell>,
    ) -> Result<Vec<u64>, StoreError> {
        let position = |row: Vec<Cell>| match row.as_slice() {
            [Cell::Integer(position)] => Ok(*position as u64),
            // Passed over, a position that is to be left out would count.
            _ => Err(corrupt_row(table)),
        };
        self.rows(sql.to_owned(), parameters).await?.into_iter().map(position).collect()
    }

    /// The corrections of `log` within `from..to` that take an event back, each with that event's position.
    pub async fn corrections(&self, log: LogId, from: u64, to: u64) -> Result<Vec<(u64, u64)>, StoreError> {
        let sql = "SELECT by_position, position FROM millrace_taken_back WHERE log_id = ? AND part = 0 AND by_position >= ? AND by_position < ? ORDER BY by_position";
        let parameters =
            vec![Cell::Bytes(log.0.to_vec()), Cell::Integer(from as i64), Cell::Integer(to as i64)];
        let pair = |row: Vec<Cell>| match row.as_slice() {
            [Cell::Integer(by), Cell::Integer(position)] => Ok((*by as u64, *position as u64)),
            _ => Err(corrupt_row("millrace_taken_back")),
        };
        self.rows(sql.to_owned(), parameters).await?.into_iter().map(pair).collect()
    }

    /// The positions of `log` within `from..to` whose events were taken back, in order.
    pub async fn taken_back_positions(&self, log: LogId, from: u64, to: u64) -> Result<Vec<u64>, StoreError> {
        let sql = "SELECT position FROM millrace_taken_back WHERE log_id = ? AND part = 0 AND position >= ? AND position < ? ORDER BY position";
        let parameters =
            vec![Cell::Bytes(log.0.to_vec()), Cell::Integer(from as i64), Cell::Integer(to as i64)];
        self.position_list("millrace_taken_back", sql, parameters).await
    }

    /// The correction that takes the event at `position` back, if one does.
    pub async fn taken_back_by(&self, log: LogId, position: u64) -> Result<Option<u64>, StoreError> {
        let sql =
            "SELECT by_position FROM millrace_taken_back WHERE log_id = ? AND part = 0 AND position = ?";
        let parameters = vec![Cell::Bytes(log.0.to_vec()), Cell::Integer(position as i64)];
        Ok(self.position_list("millrace_taken_back", sql, parameters).await?.into_iter().next())
    }

    /// Returns why the store cannot be used any more, if it cannot.
    pub fn failure(&self) -> Option<String> {
        match self {
            Self::Sqlite(store) => store.failure(),
            Self::Remote(_) => None,
        }
    }

    /// Ends when the store cannot be used any more, with the reason: the process has to end then.
    pub async fn failed(&self) -> String {
        match self {
            Self::Sqlite(store) => store.failed().await,
            Self::Remote(_) => std::future::pending().await,
        }
    }

    /// Finishes what waits. Blocks.
    pub fn close(&self) {
        match self {
            Self::Sqlite(store) => store.close(),
            Self::Remote(store) => store.close(),
        }
    }
}

/// A row of ours that somebody else has changed.
fn corrupt_row(table: &'static str) -> StoreError {
    StoreError::Blocked(format!("table `{table}` holds a row that is not in its form"))
}

const POSITIONS_SQL: &str = "SELECT view, log_id, position FROM millrace_positions ORDER BY view, log_id";

fn view_positions(rows: Vec<Vec<Cell>>) -> Result<Vec<ViewPosition>, StoreError> {
    rows.into_iter().map(|row| view_position(row).ok_or_else(|| corrupt_row("millrace_positions"))).collect()
}

fn view_position(row: Vec<Cell>) -> Option<ViewPosition> {
    match <[Cell; 3]>::try_from(row) {
        Ok([Cell::Text(view), Cell::Bytes(log), Cell::Integer(position)]) => {
            Some(ViewPosition { view, log: LogId(log.try_into().ok()?), position: position as u64 })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use event::UploadId;

    use super::*;

    fn own_row_is_refused(error: Option<StoreError>, table: &str) {
        let reason = format!("table `{table}` holds a row that is not in its form");
        assert_eq!(error, Some(StoreError::Blocked(reason)));
    }

    /// A skipped position that is passed over counts twice; a view's position, and all of it does.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn rows_of_ours_that_somebody_spoilt_are_refused_and_not_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open("sqlite:", None, folder.path()).await.expect("opens");
        let log = LogId([7; 16]);
        let (source, id) = (UploadId([8; 16]), || Cell::Bytes(vec![7; 16]));
        for (sql, parameters) in [
            (
                "INSERT INTO millrace_positions (view, log_id, part, position) VALUES ('v', ?, 0, 'far')",
                vec![id()],
            ),
            ("INSERT INTO millrace_skipped VALUES (?, 0, 1.5, ?, 0, 1)", vec![id(), id()]),
            ("INSERT INTO millrace_skipped VALUES (?, 0, 1, 'elsewhere', 0, 1)", vec![id()]),
            ("INSERT INTO millrace_passed VALUES ('v', ?, 0, 1.5)", vec![id()]),
            (
                "INSERT INTO millrace_seen VALUES (?, 1, 'some', ?, 0, ?, 0, 1)",
                vec![Cell::Bytes(source.0.to_vec()), id(), id()],
            ),
        ] {
            store.change(sql.to_owned(), parameters).await.expect(sql);
        }
        own_row_is_refused(store.positions().await.err(), "millrace_positions");
        own_row_is_refused(store.skipped_positions(log, 0, 9).await.err(), "millrace_skipped");
        own_row_is_refused(store.skipped(log, 1).await.err(), "millrace_skipped");
        own_row_is_refused(store.passed_positions("v", log, 0, 9).await.err(), "millrace_passed");
        own_row_is_refused(store.upload_lines(source, 0, 9).await.err(), "millrace_seen");
        tokio::task::spawn_blocking(move || store.close()).await.expect("closes");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_was_left_out_names_the_log_that_its_first_lies_in() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open("sqlite:", None, folder.path()).await.expect("opens");
        let (log, first_log) = (LogId([7; 16]), LogId([9; 16]));
        let parameters = [log, first_log].map(|log| Cell::Bytes(log.0.to_vec())).to_vec();
        let sql = "INSERT INTO millrace_skipped VALUES (?, 0, 3, ?, 2, 1)";
        store.change(sql.to_owned(), parameters).await.expect("a row");
        let skipped = Skipped { position: 3, first_log, first_position: 2, same_body: true };
        assert_eq!(store.skipped(log, 3).await, Ok(Some(skipped)));
        tokio::task::spawn_blocking(move || store.close()).await.expect("closes");
    }
}
