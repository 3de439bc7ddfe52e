//! An open store with its own database, and functions to make plans for it.

use std::sync::Arc;

use event::{Decimal, LogId};
use millrace::store::{Cell, Claim, Plan, Skipped, Store, StoreError, Table, Verb, ViewTables, Write};
use tokio::runtime::Runtime;

use crate::harness::{StoreKind, Stored};

pub const LOG: LogId = LogId([7; 16]);

pub struct Opened {
    pub stored: Stored,
    pub store: Store,
    runtime: Runtime,
    folder: Arc<tempfile::TempDir>,
}

impl Opened {
    pub fn on(store_kind: StoreKind) -> Self {
        Self::in_folder(store_kind, Arc::new(tempfile::tempdir().unwrap())).unwrap()
    }

    fn in_folder(store_kind: StoreKind, folder: Arc<tempfile::TempDir>) -> Result<Self, String> {
        let stored = Stored::for_folder(store_kind, folder.path(), &folder.path().join("millrace.db"));
        let runtime = Runtime::new().unwrap();
        let store = runtime
            .block_on(Store::open(&stored.url(), None, folder.path()))
            .map_err(|error| error.to_string())?;
        Ok(Self { stored, store, runtime, folder })
    }

    /// Opens the same database again, as another process would.
    pub fn again(&self) -> Self {
        self.try_again().unwrap()
    }

    pub fn try_again(&self) -> Result<Self, String> {
        Self::in_folder(self.stored.store_kind, Arc::clone(&self.folder))
    }

    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub fn begin(&self, view: &str, tables: ViewTables) -> Result<(), StoreError> {
        self.run(self.store.begin_view(claim(view, 0, 0), tables))
    }

    pub fn apply(&self, plan: Plan) -> Result<Vec<Skipped>, StoreError> {
        self.run(self.store.apply(Arc::new(plan)))
    }

    pub fn position(&self, view: &str) -> Option<u64> {
        self.run(self.store.position(view, LOG)).unwrap()
    }

    pub fn rows(&self, sql: &str) -> Vec<Vec<Cell>> {
        self.run(self.store.rows(sql.to_owned(), Vec::new())).unwrap()
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.store.close();
    }
}

pub fn claim(view: &str, from: u64, to: u64) -> Claim {
    Claim { view: view.to_owned(), log: LOG, from, to, definition: None }
}

/// Returns a plan with one verb for rows of one table.
pub fn plan(claim: Claim, table: &Arc<Table>, verb: Verb, cells: Vec<Cell>) -> Plan {
    let mut plan = Plan::new(claim);
    plan.writes.push(Write { table: Arc::clone(table), verb, cells });
    plan
}

pub fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

pub fn amount(text: &str) -> Cell {
    Cell::Decimal(text.parse().unwrap())
}

/// Returns the amount of a cell. Each database returns amounts in another form.
pub fn amount_of(cell: &Cell) -> Decimal {
    match cell {
        Cell::Decimal(value) => *value,
        Cell::Text(text) => text.parse().unwrap(),
        Cell::Integer(value) => value.to_string().parse().unwrap(),
        other => panic!("{other:?} is not an amount"),
    }
}

pub fn text_of(cell: &Cell) -> &str {
    match cell {
        Cell::Text(text) => text,
        other => panic!("{other:?} is not a text"),
    }
}

pub fn integer_of(cell: &Cell) -> i64 {
    match cell {
        Cell::Integer(value) => *value,
        other => panic!("{other:?} is not an integer"),
    }
}
