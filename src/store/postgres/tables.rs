//! Creates, replaces and drops tables, and adds columns and indexes.

use sha2::{Digest, Sha256};

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

    /// Replaces all tables in one transaction, and renames their keys and indexes with them. SQL views that read the
    /// replaced tables read the new ones.
    pub async fn replace_tables(&mut self, made: &[Table], wanted: &[Table]) -> Result<(), StoreError> {
        let readers = self.point_readers_at_names(wanted).await?;
        let replaced: Vec<Table> =
            wanted.iter().map(|table| Table { name: replaced_name(&table.name), ..table.clone() }).collect();
        let mut sql = drop_sql(&replaced);
        for (from, to) in wanted.iter().zip(&replaced).chain(made.iter().zip(wanted)) {
            sql.push_str(&rename_sql(&from.name, &to.name));
        }
        sql.push_str(&readers);
        sql.push_str(&drop_sql(&replaced));
        // Statements that are sent together, outside a transaction, are one transaction.
        let outcome = self.batch(&sql).await;
        self.prepared.forget();
        outcome
    }
}

/// Returns the SQL that renames a table, if it exists, with its key and its ranking.
fn rename_sql(from: &str, to: &str) -> String {
    let mut sql = format!("ALTER TABLE IF EXISTS {} RENAME TO {};", quote(from), quote(to));
    for what in ["key", "ranking"] {
        let [from, to] = [from, to].map(|table| quote(&statements::derived_name(table, what)));
        sql.push_str(&format!("ALTER INDEX IF EXISTS {from} RENAME TO {to};"));
    }
    sql
}

/// Returns the name of a replaced table until it is dropped. It is a hash, because adding to the table's name could
/// exceed the database's limit.
fn replaced_name(table: &str) -> String {
    format!("millrace_gone_{}", event::hex(&Sha256::digest(table.as_bytes())[..8]))
}

fn drop_sql(tables: &[Table]) -> String {
    tables.iter().map(|table| format!("DROP TABLE IF EXISTS {};", quote(&table.name))).collect()
}
