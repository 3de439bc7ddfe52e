//! The SQL that carries out plans and declarations in SQLite.

use crate::store::tables::{Column, ColumnKind, Table, quote};

pub fn create_table(table: &Table, unless_there: bool) -> String {
    let columns: Vec<String> = table.columns.iter().map(column).collect();
    let key: Vec<String> =
        table.columns[..table.key_columns].iter().map(|column| quote(&column.name)).collect();
    let guard = if unless_there { "IF NOT EXISTS " } else { "" };
    format!(
        "CREATE TABLE {guard}{} ({}, PRIMARY KEY ({})) WITHOUT ROWID",
        quote(&table.name),
        columns.join(", "),
        key.join(", ")
    )
}

pub fn column(column: &Column) -> String {
    let kind = match column.kind {
        // An amount as text is exact; SQLite's NUMERIC is not.
        ColumnKind::Text { .. } | ColumnKind::LongText | ColumnKind::Decimal => "TEXT",
        ColumnKind::Integer => "INTEGER",
        ColumnKind::Bytes => "BLOB",
    };
    format!("{} {kind}{}", quote(&column.name), if column.null { "" } else { " NOT NULL" })
}

pub fn add(table: &Table) -> String {
    let names: Vec<String> = table.columns.iter().map(|column| quote(&column.name)).collect();
    let sums: Vec<String> =
        table.columns[table.key_columns..].iter().map(|column| sum(&table.name, column)).collect();
    format!(
        "INSERT INTO {} ({}) VALUES ({}) ON CONFLICT ({}) DO UPDATE SET {}",
        quote(&table.name),
        names.join(", "),
        vec!["?"; names.len()].join(", "),
        names[..table.key_columns].join(", "),
        sums.join(", ")
    )
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
