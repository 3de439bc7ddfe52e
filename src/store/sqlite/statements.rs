//! SQL text for SQLite: table declarations and the statements of plans.

use crate::store::sql_view::{SqlValue, SqlView};
use crate::store::tables::{Column, ColumnKind, Table, quote};

/// The name of an SQL function that this program registers (see `counts`).
pub const ADD_NOTED: &str = "add_noted";

pub fn create_table(table: &Table, if_not_exists: bool) -> String {
    let guard = if if_not_exists { "IF NOT EXISTS " } else { "" };
    let mut declared: Vec<String> = id_column(table).into_iter().collect();
    declared.extend(table.columns.iter().map(column));
    declared.extend(table.primary_key());
    let unique = table.unique.map(|index| quote(&table.columns[index].name));
    declared.extend(unique.map(|name| format!("UNIQUE ({name})")));
    let end = if table.id.is_some() { "" } else { " WITHOUT ROWID" };
    format!("CREATE TABLE {guard}{} ({}){end}", quote(&table.name), declared.join(", "))
}

/// Declares the numbering column. Without AUTOINCREMENT, SQLite could use the number of a deleted row again.
pub fn id_column(table: &Table) -> Option<String> {
    table.id.as_ref().map(|id| format!("{} INTEGER PRIMARY KEY AUTOINCREMENT", quote(id)))
}

pub fn column(column: &Column) -> String {
    format!("{} {}{}", quote(&column.name), kind(column.kind), if column.null { "" } else { " NOT NULL" })
}

pub fn kind(kind: ColumnKind) -> &'static str {
    match kind {
        // Amounts are exact as text. SQLite's NUMERIC is not exact.
        ColumnKind::Text { .. } | ColumnKind::LongText | ColumnKind::Json | ColumnKind::Decimal => "TEXT",
        ColumnKind::Time => "TEXT",
        ColumnKind::Integer | ColumnKind::Boolean => "INTEGER",
        ColumnKind::Bytes { .. } | ColumnKind::LongBytes => "BLOB",
    }
}

/// Returns the query of an SQL view. Amounts, which are text, become integers or doubles; days become text like
/// `2025-11-01`, which SQLite's date functions understand.
pub fn sql_view_query(sql_view: &SqlView) -> String {
    sql_view.query(|value| match value {
        SqlValue::Plain(sql) | SqlValue::Count(sql) => sql.clone(),
        SqlValue::Amount(sql) => format!("CAST({sql} AS NUMERIC)"),
        SqlValue::Day(sql) => {
            format!("printf('%04d-%02d-%02d', {sql} / 10000, {sql} / 100 % 100, {sql} % 100)")
        }
    })
}

/// Inserts `rows` rows with their numbers. With `update_existing`, a row whose number exists is updated instead.
pub fn numbered(table: &Table, id: &str, rows: usize, update_existing: bool) -> String {
    let names: Vec<String> = table.columns.iter().map(|column| quote(&column.name)).collect();
    let row = format!("({})", vec!["?"; names.len() + 1].join(", "));
    let sets: Vec<String> = names.iter().map(|name| format!("{name} = excluded.{name}")).collect();
    let on_conflict = if update_existing {
        format!(" ON CONFLICT ({}) DO UPDATE SET {}", quote(id), sets.join(", "))
    } else {
        String::new()
    };
    format!(
        "INSERT INTO {} ({}, {}) VALUES {}{on_conflict}",
        quote(&table.name),
        quote(id),
        names.join(", "),
        vec![row.as_str(); rows].join(", ")
    )
}

pub fn add(table: &Table) -> String {
    upsert(table, |column| sum(&table.name, column))
}

/// Inserts a row. If its key exists, runs the assignment that `update` returns for each column after the key.
fn upsert(table: &Table, update: impl Fn(&Column) -> String) -> String {
    let names: Vec<String> = table.columns.iter().map(|column| quote(&column.name)).collect();
    let assignments: Vec<String> = table.columns[table.key_columns..].iter().map(update).collect();
    format!(
        "INSERT INTO {} ({}) VALUES ({}) ON CONFLICT ({}) DO UPDATE SET {}",
        quote(&table.name),
        names.join(", "),
        vec!["?"; names.len()].join(", "),
        names[..table.key_columns].join(", "),
        assignments.join(", ")
    )
}

pub fn insert_new(table: &Table) -> String {
    let names: Vec<String> = table.columns.iter().map(|column| quote(&column.name)).collect();
    let (names, values) = (names.join(", "), vec!["?"; names.len()].join(", "));
    format!("INSERT INTO {} ({names}) VALUES ({values}) ON CONFLICT DO NOTHING", quote(&table.name))
}

pub fn put(table: &Table) -> String {
    let names: Vec<String> = table.columns.iter().map(|column| quote(&column.name)).collect();
    let (names, values) = (names.join(", "), vec!["?"; names.len()].join(", "));
    format!("INSERT OR REPLACE INTO {} ({names}) VALUES ({values})", quote(&table.name))
}

pub fn by_key(table: &Table) -> String {
    let names: Vec<String> = table.columns.iter().map(|column| quote(&column.name)).collect();
    let key = equal(&table.columns[..table.key_columns], 1);
    format!("SELECT {} FROM {} WHERE {key}", names.join(", "), quote(&table.name))
}

/// Returns the query for the next smaller and the next larger number with the same other key columns. Rows of the
/// same other columns are next to each other, so both are on the page of the key.
pub fn neighbours(table: &Table) -> String {
    let number = quote(&table.columns[table.key_columns - 1].name);
    let others = equal(&table.columns[..table.key_columns - 1], 1);
    let from = format!("FROM {} WHERE {others} AND {number}", quote(&table.name));
    let this = table.key_columns;
    format!("SELECT (SELECT MAX({number}) {from} < ?{this}), (SELECT MIN({number}) {from} > ?{this})")
}

pub fn remove(table: &Table) -> String {
    format!("DELETE FROM {} WHERE {}", quote(&table.name), equal(&table.columns, 1))
}

fn sum(table: &str, column: &Column) -> String {
    let (table, name) = (quote(table), quote(&column.name));
    match column.kind {
        ColumnKind::Decimal => {
            let column_name = column.name.replace('\'', "''");
            format!("{name} = decimal_add({table}.{name}, excluded.{name}, '{column_name}')")
        }
        _ => format!("{name} = {table}.{name} + excluded.{name}"),
    }
}

/// Adds a number to a row's number, and records the number before (see `counts`).
pub fn tally(table: &Table) -> String {
    let of = quote(&table.name);
    upsert(table, |column| {
        let name = quote(&column.name);
        format!("{name} = {ADD_NOTED}({of}.{name}, excluded.{name})")
    })
}

pub fn delete(table: &Table) -> String {
    format!("DELETE FROM {} WHERE {}", quote(&table.name), equal(&table.columns[..table.key_columns], 1))
}

/// Returns `"a" = ?1 AND "b" = ?2`, with parameters numbered from `first`.
pub fn equal(columns: &[Column], first: usize) -> String {
    let pair = |(index, column): (usize, &Column)| format!("{} = ?{}", quote(&column.name), first + index);
    columns.iter().enumerate().map(pair).collect::<Vec<_>>().join(" AND ")
}
