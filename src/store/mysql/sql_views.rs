//! SQL views in MySQL and MariaDB.

use mysql_async::Value;

use super::Session;
use crate::store::StoreError;
use crate::store::cell::Cell;
use crate::store::sql_view::{SqlValue, SqlView};

pub fn sql_view_query(sql_view: &SqlView) -> String {
    sql_view.query(|value| match value {
        SqlValue::Plain(sql) | SqlValue::Amount(sql) => sql.clone(),
        SqlValue::Count(sql) => format!("CAST({sql} AS SIGNED)"),
        SqlValue::Day(sql) => format!("CAST({sql} AS DATE)"),
    })
}

impl Session {
    pub async fn sql_view_definition(&mut self, name: &str) -> Result<Option<String>, StoreError> {
        let sql = "SELECT view_definition FROM information_schema.views WHERE table_schema = DATABASE() AND table_name = ?";
        let row = self.read(sql, vec![Value::from(name)]).await?.pop();
        // A user without the privilege SHOW VIEW sees an empty definition.
        Ok(row.map(|row| match row.into_iter().next() {
            Some(Cell::Text(text)) => text,
            Some(Cell::Bytes(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
            _ => String::new(),
        }))
    }

    pub async fn run_schema(&mut self, sql: &str) -> Result<(), StoreError> {
        let outcome = self.run(sql).await;
        // No transaction is open that could have failed.
        self.transaction_failed = false;
        outcome
    }
}
