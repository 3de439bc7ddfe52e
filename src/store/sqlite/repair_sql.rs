//! The SQL that repairs a table that does not fit its view. A person runs it unchanged, from top to bottom.

use super::existing_table::Existing;
use super::shape::is_declared;
use super::statements;
use crate::store::tables::{Column, Table, quote};

/// Adds a missing column, also a missing key column: existing rows then have no key, and stay as they are.
pub fn add_column(table: &Table, column: &Column) -> String {
    let (table, name) = (quote(&table.name), quote(&column.name));
    format!("ALTER TABLE {table} ADD COLUMN {name} {}", statements::kind(column.kind))
}

pub fn add_key(table: &Table) -> String {
    let key: Vec<String> = table.columns[..table.key_columns]
        .iter()
        .map(|column| quote(&column.name) + " COLLATE BINARY")
        .collect();
    format!(
        "CREATE UNIQUE INDEX {} ON {} ({})",
        quote(&format!("{}_key", table.name)),
        quote(&table.name),
        key.join(", ")
    )
}

/// Replaces the table, because SQLite cannot alter a column or a key. A new table takes the rows, then the name, the
/// indexes and the triggers. The old table stays under another name, and existing SQL views and the triggers of other
/// tables refer to the new table.
pub fn replace_table(table: &Table, found: &Existing, dropped_indexes: &[String]) -> Vec<String> {
    let (name, new, before) =
        (quote(&table.name), quote(&format!("{}_new", table.name)), quote(&format!("{}_before", table.name)));
    let Copied { declared, names, values } = copied(table, found);
    let mut statements = vec![
        "PRAGMA legacy_alter_table = ON".to_owned(),
        "BEGIN".to_owned(),
        format!("CREATE TABLE {new} ({})", declared.join(", ")),
        format!("INSERT INTO {new} ({}) SELECT {} FROM {name}", names.join(", "), values.join(", ")),
    ];
    let moved = || found.attached.iter().filter(|attached| !dropped_indexes.contains(&attached.name));
    statements.extend(moved().map(|attached| format!("DROP {} {}", attached.kind, quote(&attached.name))));
    statements.push(format!("ALTER TABLE {name} RENAME TO {before}"));
    statements.push(format!("ALTER TABLE {new} RENAME TO {name}"));
    statements.extend(moved().map(|attached| attached.sql.clone()));
    statements.push("COMMIT".to_owned());
    statements
}

/// The columns of the new table, and what is copied into it.
struct Copied {
    declared: Vec<String>,
    names: Vec<String>,
    values: Vec<String>,
}

fn copied(table: &Table, found: &Existing) -> Copied {
    let mut declared: Vec<String> = statements::id_column(table).into_iter().collect();
    let (mut names, mut values) = (Vec::new(), Vec::new());
    for (index, column) in table.columns.iter().enumerate() {
        let existing = found.column(&column.name);
        // A column that allows NULL keeps allowing it. A missing column has no value in existing rows.
        let not_null = existing.is_some_and(|existing| existing.not_null) && !column.null;
        let null = existing.is_none() || (index >= table.key_columns && !not_null);
        declared.push(statements::column(&Column { null, ..column.clone() }));
        if existing.is_some() {
            names.push(quote(&column.name));
            values.push(format!("CAST({} AS {})", quote(&column.name), statements::kind(column.kind)));
        }
    }
    if let Some(existing) = table.id.as_ref().and_then(|id| found.column(id)) {
        let name = quote(&existing.name);
        if existing.kind.to_ascii_uppercase().contains("INT") {
            names.push(name.clone());
            values.push(name);
        } else {
            // Values that are not integers cannot number rows. They are kept under another name.
            let kept = quote(&format!("{}_before", existing.name));
            declared.push(format!("{kept} {}", existing.kind));
            names.push(kept);
            values.push(name);
        }
    }
    for more in found.columns.iter().filter(|existing| !is_declared(table, &existing.name)) {
        // Millrace writes no value into this column, so it must have a default or allow NULL.
        let not_null = if more.not_null && more.default.is_some() { " NOT NULL" } else { "" };
        let default = more.default.as_ref().map(|text| format!(" DEFAULT ({text})")).unwrap_or_default();
        declared.push(format!("{} {}{not_null}{default}", quote(&more.name), more.kind));
        names.push(quote(&more.name));
        values.push(quote(&more.name));
    }
    declared.extend(table.primary_key());
    Copied { declared, names, values }
}
