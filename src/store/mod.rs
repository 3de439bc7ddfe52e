//! The store: the database that holds the views' tables.
//!
//! The store applies a whole plan as one transaction, starting with the claim. It knows tables and rows, but
//! nothing about events. Every database implements the same verbs in its fastest safe way. The set of databases
//! is closed, so [`Store`] is an enum.

/// Calls the same method of whichever variant a value has.
macro_rules! either {
    ($self:ident: $one:ident | $other:ident, $it:ident => $call:expr) => {
        match $self {
            Self::$one($it) => $call,
            Self::$other($it) => $call,
        }
    };
}

mod apply_with_retry;
mod cell;
mod dead_letter_change;
mod dead_letters;
mod dedup;
mod dedup_name;
mod dedup_rule;
mod definitions;
mod deleted_history;
mod deliveries;
mod delivery;
mod drop_view;
mod erasures;
mod generation;
mod halt;
mod health;
mod inspect;
mod merged_plans;
mod millrace_tables;
mod mysql;
mod notification_status;
mod numbered_rows;
mod open;
mod paused_destinations;
mod plan;
mod postgres;
mod remote;
mod row_origin_entry;
mod row_origins;
mod rows_of_events;
mod rules;
mod session;
mod snapshot;
mod sql_view;
mod sqlite;
mod stored_row;
mod stored_value;
mod table_fault;
mod tables;
mod unapplied;
mod view_reads;
mod visits;

use std::sync::Arc;

use event::{Decimal, LogId};

pub use cell::{AnyCell, Cell, CellRef};
pub use dead_letter_change::{DeadLetterChange, NewDeadLetter};
pub use dead_letters::{DeadLetter, DeadLetterFilter, DeadLetterStatus, NewDeadLetters, retry_id};
pub use dedup_name::{DEDUP_NAME, DEDUP_STORED_NAME, shown_name};
pub use dedup_rule::{ClockJumps, DedupEntry, DedupKey, Skipped};
pub use definitions::{DefinitionChange, DefinitionHash, DefinitionReason, NewDefinition, StoredDefinition};
pub use deleted_history::{DeletedHistory, LOG_DELETED, rows_deleted};
pub use delivery::{
    AfterAttempt, AttemptRecord, DeliveryDecision, DeliveryKey, DeliveryState, LeaseId, LeaseRequest, Leased,
    NewDelivery, NotificationChange, NotificationChanges, NotificationTables, QueuedNotification,
    StoredAttempt, StoredDelivery, ViewTableLookup,
};
pub use erasures::{Erasure, OpenErasure};
pub use generation::Generation;
pub use halt::{Halt, publish_pause};
pub use health::{StoreHealth, StoreState};
pub use inspect::{StoreInspection, inspect_store};
pub use notification_status::NotificationStatus;
pub use numbered_rows::{RowChanges, Rows, RowsOf};
pub use plan::{Claim, CorrectedEvent, Plan, Stamp, Verb, Write};
pub use remote::{Password, PasswordFrom, password_in};
pub use row_origins::RowOrigin;
pub use sql_view::{SqlValue, SqlView};
pub use table_fault::TableFault;
pub use tables::{Column, ColumnKind, Opening, Table, TopK, ViewTables, quote};
pub use unapplied::DeadLetterSummary;
pub use visits::{MEMBER_BYTES, MemberKey, Visit, Visits};

use stored_row::{FromRow, corrupt_row};

/// The database that holds the views: an SQLite file, or a database server.
#[derive(Clone)]
pub enum Store {
    Sqlite(sqlite::Sqlite),
    Remote(remote::Remote),
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "`[store] url` {begin} Use `sqlite:` (a file in the data folder), `sqlite:PATH` (another file), `postgres://...` or `mysql://...`", begin = unknown_scheme(.0)
    )]
    UnknownUrl(String),
    #[error("`[store] url` {0}")]
    Url(String),
    /// Temporary: the server is not up yet. The caller retries.
    #[error("store `{name}` is unreachable: {reason}")]
    Unreachable { name: String, reason: String },
    #[error("store `{name}` cannot be opened: {reason}")]
    Refused { name: String, reason: String },
}

/// The schemes of URLs of stores.
const SCHEMES: [&str; 5] = ["sqlite", "postgres", "postgresql", "mysql", "mariadb"];

/// Describes the scheme of a URL that is not supported. The text may be a password instead, unless it is a plain word.
fn unknown_scheme(url: &str) -> String {
    let scheme = url.split_once(':').map(|(scheme, _)| scheme);
    match scheme.filter(|scheme| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
        Some(scheme) => {
            let meant = event::nearest(scheme, SCHEMES);
            let meant = meant.map_or_else(|| ".".to_owned(), |meant| format!("; did you mean `{meant}:`?"));
            format!("starts with `{scheme}:`, which is not a supported store{meant}")
        }
        None => "does not begin with the kind of a store.".to_owned(),
    }
}

/// Fails if no store can be opened at this URL, whether its server is running or not. Does not connect.
pub fn check_url(url: &str) -> Result<(), OpenError> {
    if url.starts_with("sqlite:") { Ok(()) } else { remote::check_url(url) }
}

/// One query; `?` stands for a parameter.
#[derive(Clone, Debug)]
pub struct Select {
    pub sql: String,
    pub parameters: Vec<Cell>,
}

/// The reason why a plan or a query failed. A failed plan changes nothing in the database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The stored position is not the one that the claim starts from. Either another node applied a plan first,
    /// or a commit succeeded although its result was lost.
    #[error(
        "the stored position of view `{view}` is {}, but {expected} was expected",
        .found.map_or_else(|| "missing".to_owned(), |at| at.to_string())
    )]
    Claimed { view: String, expected: u64, found: Option<u64> },
    /// The definition of a view in the store is not the one that the claim shows: somebody has accepted another one.
    #[error("view `{0}` has another definition in the store")]
    Redefined(String),
    /// Temporary: the database is busy, locked or out of space. Retried without a limit.
    #[error("{0}")]
    Transient(String),
    /// The database rejected a row's data.
    #[error("{0}")]
    Data(String),
    /// Needs a person: a table or a privilege is missing, or the error is unknown.
    #[error("{0}")]
    Blocked(String),
    #[error("table `{0}` does not exist")]
    NoTable(String),
    #[error("the store is closed")]
    Closed,
}

/// The position of a view in one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewPosition {
    pub view: String,
    pub log: LogId,
    pub position: u64,
    /// The definition in force; `None` if the rows come from a millrace that did not store definitions.
    pub definition: Option<DefinitionHash>,
    pub generation: Generation,
}

impl Store {
    /// Returns the store's name for logs and messages: its kind and location, never a password.
    pub fn name(&self) -> String {
        either!(self: Sqlite | Remote, store => store.name())
    }

    /// Returns every view's position in every log.
    pub async fn positions(&self) -> Result<Vec<ViewPosition>, StoreError> {
        self.read("millrace_positions", POSITIONS_SQL, Vec::new()).await
    }

    /// Returns the position of `view` in `log`, or `None` if the view has not begun there.
    pub async fn position(&self, view: &str, log: LogId) -> Result<Option<u64>, StoreError> {
        Ok(self
            .positions()
            .await?
            .into_iter()
            .find(|row| row.view == view && row.log == log)
            .map(|row| row.position))
    }

    /// Creates a view's tables at its first event, or checks that existing tables have the right shape. At the
    /// first event, also stores the view's position and the amounts that its table already held.
    pub async fn begin_view(&self, claim: Claim, tables: ViewTables) -> Result<(), StoreError> {
        either!(self: Sqlite | Remote, store => store.begin_view(claim, tables).await)
    }

    /// Applies a plan as one transaction. Returns the positions that the plan's dedup entries made views skip.
    pub async fn apply(&self, plan: Arc<Plan>) -> Result<Vec<Skipped>, StoreError> {
        either!(self: Sqlite | Remote, store => store.apply(plan).await)
    }

    /// Runs one query and returns its rows; `?` stands for a parameter.
    pub async fn rows(&self, sql: String, parameters: Vec<Cell>) -> Result<Vec<Vec<Cell>>, StoreError> {
        either!(self: Sqlite | Remote, store => store.rows(sql, parameters).await)
    }

    /// Runs several queries on one snapshot of the database.
    pub async fn rows_together(&self, selects: Vec<Select>) -> Result<Vec<Vec<Vec<Cell>>>, StoreError> {
        either!(self: Sqlite | Remote, store => store.rows_together(selects).await)
    }

    /// Builds the query for the top rows of a group: the last key column and the number.
    pub fn top(&self, table: &Table, ranking: &TopK, group: Vec<Cell>, limit: usize) -> Select {
        match self {
            Self::Sqlite(_) => sqlite::top(table, ranking, group, limit),
            Self::Remote(_) => remote::top(table, ranking, group, limit),
        }
    }

    /// Returns the SQL that orders a text column by its bytes, independent of the column's collation.
    pub fn by_bytes(&self, column: &str) -> String {
        match self {
            Self::Sqlite(_) => column.to_owned(),
            Self::Remote(store) => store.by_bytes(column),
        }
    }

    /// Changes rows outside of a plan, such as keys or a dead letter's status. Returns the number of rows.
    pub async fn change(&self, sql: String, parameters: Vec<Cell>) -> Result<usize, StoreError> {
        self.change_all(vec![(sql, parameters)]).await
    }

    /// Runs several statements in one transaction. Returns the number of rows that all of them changed.
    pub async fn change_all(&self, statements: Vec<(String, Vec<Cell>)>) -> Result<usize, StoreError> {
        either!(self: Sqlite | Remote, store => store.change_all(statements).await)
    }

    /// Removes the remains of deleted rows from the database files. Does nothing on a database server:
    /// `docs/OPERATING.md` explains what its administrator has to do.
    pub async fn scrub(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.scrub().await,
            Self::Remote(_) => Ok(()),
        }
    }

    /// Returns the amount that the table of `view` held for a key before the view began.
    pub async fn opening(&self, view: &str, key: &str) -> Result<Option<Decimal>, StoreError> {
        let sql = "SELECT amount FROM millrace_opening WHERE view = ? AND row_key = ?";
        let found: Option<Cell> =
            self.read_first("millrace_opening", sql, vec![view.into(), key.into()]).await?;
        found.map(|cell| cell.decimal().ok_or_else(|| corrupt_row("millrace_opening"))).transpose()
    }

    /// Creates a table if it does not exist.
    pub async fn make_table(&self, table: Table) -> Result<(), StoreError> {
        either!(self: Sqlite | Remote, store => store.make_table(table).await)
    }

    /// Drops tables that exist, together with the tables derived from them.
    pub async fn drop_tables(&self, tables: &[Table]) -> Result<(), StoreError> {
        either!(self: Sqlite | Remote, store => store.drop_tables(tables).await)
    }

    /// Replaces each table of `wanted` by the table of `made` at the same index: drops the old one and renames the
    /// new one. Replaces all of them or none.
    pub async fn replace_tables(&self, made: &[Table], wanted: &[Table]) -> Result<(), StoreError> {
        either!(self: Sqlite | Remote, store => store.replace_tables(made, wanted).await)
    }

    /// Returns the positions of `log` within `from..to` that dedup hides from all views, in order.
    pub async fn skipped_positions(&self, log: LogId, from: u64, to: u64) -> Result<Vec<u64>, StoreError> {
        let sql = "SELECT position FROM millrace_skipped WHERE log_id = ? AND part = 0 AND position >= ? AND position < ? ORDER BY position";
        // A row that cannot be read is an error: without it, a view would apply an event that it has to skip.
        self.read("millrace_skipped", sql, vec![log.into(), from.into(), to.into()]).await
    }

    /// Returns the positions of `log` within `from..to` that `view` passed over because it could not apply them, in
    /// order. Each has a dead letter.
    pub async fn passed_positions(
        &self,
        view: &str,
        log: LogId,
        from: u64,
        to: u64,
    ) -> Result<Vec<u64>, StoreError> {
        let sql = "SELECT position FROM millrace_passed WHERE view = ? AND log_id = ? AND part = 0 AND position >= ? AND position < ? ORDER BY position";
        let parameters = vec![view.into(), log.into(), from.into(), to.into()];
        self.read("millrace_passed", sql, parameters).await
    }

    /// Returns the corrections at `from..to` in `log` that undo an event, each with that event's position.
    pub async fn corrections(&self, log: LogId, from: u64, to: u64) -> Result<Vec<(u64, u64)>, StoreError> {
        let sql = "SELECT by_position, position FROM millrace_taken_back WHERE log_id = ? AND part = 0 AND by_position >= ? AND by_position < ? ORDER BY by_position";
        self.read("millrace_taken_back", sql, vec![log.into(), from.into(), to.into()]).await
    }

    /// Returns the positions of `log` within `from..to` whose events were corrected, in order.
    pub async fn corrected_positions(&self, log: LogId, from: u64, to: u64) -> Result<Vec<u64>, StoreError> {
        let sql = "SELECT position FROM millrace_taken_back WHERE log_id = ? AND part = 0 AND position >= ? AND position < ? ORDER BY position";
        self.read("millrace_taken_back", sql, vec![log.into(), from.into(), to.into()]).await
    }

    /// Returns the position of the correction that undoes the event at `position`, if there is one.
    pub async fn corrected_by(&self, log: LogId, position: u64) -> Result<Option<u64>, StoreError> {
        let sql =
            "SELECT by_position FROM millrace_taken_back WHERE log_id = ? AND part = 0 AND position = ?";
        self.read_first("millrace_taken_back", sql, vec![log.into(), position.into()]).await
    }

    /// Returns the reason why the store has become unusable, if it has.
    pub fn failure(&self) -> Option<String> {
        match self {
            Self::Sqlite(store) => store.failure(),
            Self::Remote(_) => None,
        }
    }

    /// Returns what is damaged in the store, as far as a check in the background found it. Database servers check their
    /// files themselves.
    pub fn damage(&self) -> Option<String> {
        match self {
            Self::Sqlite(store) => store.damage(),
            Self::Remote(_) => None,
        }
    }

    /// Waits until the store becomes unusable and returns the reason. The process has to end then.
    pub async fn failed(&self) -> String {
        match self {
            Self::Sqlite(store) => store.failed().await,
            Self::Remote(_) => std::future::pending().await,
        }
    }

    /// Blocks until all pending work is done, then closes the store.
    pub fn close(&self) {
        either!(self: Sqlite | Remote, store => store.close());
    }
}

const POSITIONS_SQL: &str =
    "SELECT view, log_id, position, definition, generation FROM millrace_positions ORDER BY view, log_id";

impl FromRow for ViewPosition {
    fn from_row(row: Vec<Cell>) -> Option<Self> {
        let (view, log, position, definition, generation): (_, _, _, Option<_>, Option<_>) =
            FromRow::from_row(row)?;
        let definition = definition.map(DefinitionHash);
        Some(Self { view, log, position, definition, generation: generation.unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use event::UploadId;

    use super::*;

    fn assert_corrupt_row(error: Option<StoreError>, table: &str) {
        let reason = format!("table `{table}` contains a row that millrace cannot decode");
        assert_eq!(error, Some(StoreError::Blocked(reason)));
    }

    /// Ignoring a corrupt row of a skipped event would apply the event twice. Ignoring a corrupt view position would
    /// apply all events twice.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn corrupt_rows_in_own_tables_are_errors_and_are_not_ignored() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open("sqlite:", None, folder.path()).await.expect("opens");
        let log = LogId([7; 16]);
        let (upload, id) = (UploadId([8; 16]), || Cell::Bytes(vec![7; 16]));
        for (sql, parameters) in [
            (
                "INSERT INTO millrace_positions (view, log_id, part, position) VALUES ('v', ?, 0, 'far')",
                vec![id()],
            ),
            ("INSERT INTO millrace_skipped VALUES (?, 0, 1.5, ?, 0, 1)", vec![id(), id()]),
            ("INSERT INTO millrace_skipped VALUES (?, 0, 1, 'elsewhere', 0, 1)", vec![id()]),
            ("INSERT INTO millrace_passed VALUES ('v', ?, 0, 1.5)", vec![id()]),
            (
                "INSERT INTO millrace_seen VALUES (?, 1, 'some', ?, 0, ?, 0, 1, NULL)",
                vec![Cell::Bytes(upload.0.to_vec()), id(), id()],
            ),
        ] {
            store.change(sql.to_owned(), parameters).await.expect(sql);
        }
        assert_corrupt_row(store.positions().await.err(), "millrace_positions");
        assert_corrupt_row(store.skipped_positions(log, 0, 9).await.err(), "millrace_skipped");
        assert_corrupt_row(store.skipped(log, 1).await.err(), "millrace_skipped");
        assert_corrupt_row(store.passed_positions("v", log, 0, 9).await.err(), "millrace_passed");
        assert_corrupt_row(store.upload_lines(upload, 0, 9).await.err(), "millrace_seen");
        tokio::task::spawn_blocking(move || store.close()).await.expect("closes");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_skipped_event_names_the_log_of_its_first_occurrence() {
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
