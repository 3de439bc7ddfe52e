//! Creates, replaces and drops tables, and adds columns and indexes.

use super::Session;
use super::statements::{self, NAME_BYTES_MAX};
use crate::store::StoreError;
use crate::store::cell::Cell;
use crate::store::tables::{Table, quote};

impl Session {
    pub async fn exists(&mut self, table: &str) -> Result<bool, StoreError> {
        let sql = "SELECT pg_catalog.to_regclass(?) IS NOT NULL";
        let rows = self.rows(sql, &[Cell::Text(quote(table))]).await?;
        Ok(rows.first().and_then(|row| row.first()) == Some(&Cell::Integer(1)))
    }

    pub async fn create(&mut self, table: &Table) -> Result<(), StoreError> {
        let names = table.columns.iter().map(|column| &column.name).chain(&table.id).chain([&table.name]);
        if let Some(name) = names.into_iter().find(|name| name.len() > NAME_BYTES_MAX) {
            return Err(StoreError::Blocked(format!(
                "the name `{name}` is too long for PostgreSQL; shorten it to at most {NAME_BYTES_MAX} bytes"
            )));
        }
        self.batch(&statements::create_table(table)).await?;
        match statements::ranking(table) {
            Some(sql) => self.batch(&sql).await,
            None => Ok(()),
        }
    }

    pub async fn index(&mut self, name: &str, table: &str, columns: &[&str]) -> Result<(), StoreError> {
        let columns: Vec<String> = columns.iter().map(|column| quote(column)).collect();
        let (name, table) = (quote(name), quote(table));
        self.batch(&format!("CREATE INDEX IF NOT EXISTS {name} ON {table} ({})", columns.join(", "))).await
    }

    pub async fn add_missing_columns(&mut self, table: &Table) -> Result<(), StoreError> {
        for column in &table.columns {
            self.batch(&statements::add_column(table, column)).await?;
        }
        self.prepared.forget();
        Ok(())
    }

    pub async fn drop_tables(&mut self, tables: &[Table]) -> Result<(), StoreError> {
        self.batch(&drop_sql(tables)).await
    }

    /// Replaces all tables in one transaction, and renames their keys and indexes with them.
    pub async fn replace_tables(&mut self, made: &[Table], wanted: &[Table]) -> Result<(), StoreError> {
        let mut sql = drop_sql(wanted);
        for (made, wanted) in made.iter().zip(wanted) {
            let (from, to) = (quote(&made.name), quote(&wanted.name));
            sql.push_str(&format!("ALTER TABLE {from} RENAME TO {to};"));
            for what in ["key", "ranking"] {
                let [from, to] =
                    [made, wanted].map(|table| quote(&statements::derived_name(&table.name, what)));
                sql.push_str(&format!("ALTER INDEX IF EXISTS {from} RENAME TO {to};"));
            }
        }
        // Statements that are sent together, outside a transaction, are one transaction.
        let outcome = self.batch(&sql).await;
        self.prepared.forget();
        outcome
    }
}

fn drop_sql(tables: &[Table]) -> String {
    tables.iter().map(|table| format!("DROP TABLE IF EXISTS {};", quote(&table.name))).collect()
}
