//! Queries of a ledger, and the removal of a key from it.

use event::Decimal;

use super::Ledger;
use crate::store::{Cell, Select, Store, StoreError, quote};

/// One row of a ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    pub key: String,
    pub amount: Decimal,
}

impl Ledger {
    /// Returns the balance of a key, or `None` if the key has no row.
    pub async fn balance(&self, store: &Store, key: &str) -> Result<Option<Balance>, StoreError> {
        let Select { sql, parameters } = self.select(key);
        self.balance_of(store.rows(sql, parameters).await?)
    }

    /// Returns the query of the database whose answer is the balance of a key.
    pub fn select(&self, key: &str) -> Select {
        let [key_column, amount_column] = self.columns().map(quote);
        let table = quote(&self.table.name);
        let sql = format!("SELECT {key_column}, {amount_column} FROM {table} WHERE {key_column} = ?");
        Select { sql, parameters: vec![key.into()] }
    }

    /// Reads the balance from the answer to that query.
    pub fn balance_of(&self, rows: Vec<Vec<Cell>>) -> Result<Option<Balance>, StoreError> {
        rows.into_iter().next().map(|row| self.read(row)).transpose()
    }

    /// Returns up to `limit` rows in the order of their keys, starting after the key `after`.
    pub async fn balances(
        &self,
        store: &Store,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Balance>, StoreError> {
        let [key_column, amount_column] = self.columns().map(quote);
        let in_order = store.by_bytes(&key_column);
        let (condition, parameters) = match after {
            Some(after) => (format!("WHERE {in_order} > ?"), vec![Cell::Text(after.to_owned())]),
            None => (String::new(), Vec::new()),
        };
        let table = quote(&self.table.name);
        let sql = format!(
            "SELECT {key_column}, {amount_column} FROM {table} {condition} ORDER BY {in_order} LIMIT {limit}"
        );
        store.rows(sql, parameters).await?.into_iter().map(|row| self.read(row)).collect()
    }

    /// Subtracts the amount that `key` had before the view began, and deletes the row if nothing else is left.
    /// Amounts of later events stay. The view must be on hold.
    pub async fn forget(&self, store: &Store, view: &str, key: &str) -> Result<(), StoreError> {
        let balance = match self.balance(store, key).await {
            Ok(Some(balance)) => balance.amount,
            Ok(None) | Err(StoreError::NoTable(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        let before = store.opening(view, key).await?.unwrap_or_default();
        let rest = balance.checked_sub(before).unwrap_or(balance);
        let [key_column, amount_column] = self.columns().map(quote);
        let (table, key) = (quote(&self.table.name), Cell::Text(key.to_owned()));
        let (sql, parameters) = if rest == Decimal::ZERO {
            (format!("DELETE FROM {table} WHERE {key_column} = ?"), vec![key.clone()])
        } else {
            (
                format!("UPDATE {table} SET {amount_column} = ? WHERE {key_column} = ?"),
                vec![Cell::Decimal(rest), key.clone()],
            )
        };
        let forget = "DELETE FROM millrace_opening WHERE view = ? AND row_key = ?".to_owned();
        let opening = (forget, vec![Cell::Text(view.to_owned()), key]);
        store.change_all(vec![(sql, parameters), opening]).await.map(drop)
    }

    fn read(&self, row: Vec<Cell>) -> Result<Balance, StoreError> {
        let [key_column, amount_column] = self.columns();
        // The message does not quote the value, which is a user's: errors are logged.
        let wrong = |column: &str, what: &str| {
            let table = &self.table.name;
            StoreError::Blocked(format!("table `{table}`: column `{column}` holds {what}"))
        };
        match <[Cell; 2]>::try_from(row) {
            Ok([Cell::Text(key), cell]) => match (cell.decimal(), cell) {
                (Some(amount), _) => Ok(Balance { key, amount }),
                (None, Cell::Text(_)) => Err(wrong(amount_column, "text that is not a number")),
                (None, Cell::Integer(_)) => {
                    Err(wrong(amount_column, "an integer that is too large for a ledger"))
                }
                (None, _) => Err(wrong(amount_column, "a value that is not a number")),
            },
            Ok(_) | Err(_) => Err(wrong(key_column, "a value that is not text")),
        }
    }
}
