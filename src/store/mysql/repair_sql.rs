//! The SQL that a person runs to repair a table, as parts of one `ALTER TABLE`. Names are in backticks, which work in
//! every SQL mode.

use super::catalogue::{Catalogue, ExistingColumn, UniqueIndex};
use super::{Flavour, tables};
use crate::store::tables::{ColumnKind, Table};

pub fn name(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

pub fn add_column(table: &Table, index: usize, flavour: Flavour) -> String {
    let column = &table.columns[index];
    let null = if column.null { "NULL" } else { "NOT NULL" };
    format!("ADD COLUMN {} {} {null}", name(&column.name), declared(table, index, None, flavour))
}

/// Changes a column to the type that the view needs. A generated column is replaced.
pub fn modify(table: &Table, index: usize, found: &ExistingColumn, flavour: Flavour) -> String {
    let column = &table.columns[index];
    let (own, kind) = (name(&found.name), declared(table, index, Some(found), flavour));
    if found.generated {
        let null = if column.null { "NULL" } else { "NOT NULL" };
        return format!("DROP COLUMN {own}, ADD COLUMN {own} {kind} {null}");
    }
    let null = if column.null || (found.null && index >= table.key_columns) { "NULL" } else { "NOT NULL" };
    format!("MODIFY {own} {kind} {null}{}", other_attributes(found, flavour))
}

/// Returns the type that the view needs, but no narrower than that of the existing column.
fn declared(table: &Table, index: usize, found: Option<&ExistingColumn>, flavour: Flavour) -> String {
    let indexed = index < table.key_columns || table.unique == Some(index);
    let kind = tables::kind(table, index);
    let both_varchar = |found: &&ExistingColumn| found.kind == "varchar" && kind.starts_with("VARCHAR(");
    let kind = match (table.columns[index].kind, found.filter(both_varchar)) {
        (ColumnKind::Text { chars_max }, Some(found)) if found.chars_max > i64::from(chars_max) => {
            format!("VARCHAR({})", found.chars_max)
        }
        _ => kind,
    };
    match table.columns[index].kind {
        ColumnKind::Text { .. } if indexed => {
            format!("{kind} CHARACTER SET utf8mb4 COLLATE {}", flavour.collation())
        }
        ColumnKind::Text { .. } | ColumnKind::LongText => format!("{kind} CHARACTER SET utf8mb4"),
        ColumnKind::Json if flavour == Flavour::Mariadb => format!("{kind} CHARACTER SET utf8mb4"),
        _ => kind,
    }
}

/// Lets an INSERT omit the column.
pub fn make_optional(found: &ExistingColumn, catalogue: &Catalogue, flavour: Flavour) -> String {
    let own = name(&found.name);
    let primary = catalogue.uniques.iter().any(|unique| unique.is_primary() && unique.covers(&[&found.name]));
    if primary {
        let zero = match found.kind.as_str() {
            "datetime" | "timestamp" => "'1970-01-02 00:00:00'",
            "date" => "'1970-01-02'",
            _ if found.character_set.is_some() || found.kind.contains("binary") => "''",
            _ => "0",
        };
        return format!("ALTER COLUMN {own} SET DEFAULT {zero}");
    }
    let collation = match (&found.character_set, &found.collation) {
        (Some(set), Some(collation)) => format!(" CHARACTER SET {set} COLLATE {collation}"),
        _ => String::new(),
    };
    format!("MODIFY {own} {}{collation} NULL{}", found.full_kind, other_attributes(found, flavour))
}

/// Returns the attributes of a column that `MODIFY` would otherwise drop: its default and `ON UPDATE`.
fn other_attributes(found: &ExistingColumn, flavour: Flavour) -> String {
    let default = match (&found.default, flavour) {
        (None, _) => String::new(),
        (Some(default), Flavour::Mariadb) if default == "NULL" => String::new(),
        (Some(default), Flavour::Mariadb) => format!(" DEFAULT {default}"),
        (Some(default), Flavour::Mysql) if !found.extra.contains("DEFAULT_GENERATED") => {
            format!(" DEFAULT {}", literal(default))
        }
        (Some(default), Flavour::Mysql) if default.starts_with("CURRENT_TIMESTAMP") => {
            format!(" DEFAULT {default}")
        }
        (Some(default), Flavour::Mysql) => format!(" DEFAULT ({default})"),
    };
    let extra = found.extra.to_ascii_lowercase();
    match extra.find("on update ") {
        Some(at) => format!("{default} {}", &found.extra[at..]),
        None => default,
    }
}

pub fn add_unique(key: &str, columns: &[&str]) -> String {
    let columns: Vec<String> = columns.iter().map(|column| name(column)).collect();
    format!("ADD UNIQUE KEY {} ({})", name(key), columns.join(", "))
}

pub fn drop_unique(unique: &UniqueIndex) -> String {
    if unique.is_primary() {
        "DROP PRIMARY KEY".to_owned()
    } else {
        format!("DROP INDEX {}", name(&unique.name))
    }
}

/// Makes `id` a column that the database numbers.
pub fn number_rows(id: &str, catalogue: &Catalogue) -> String {
    let key = if catalogue.has_primary_key() { "UNIQUE KEY" } else { "PRIMARY KEY" };
    let (own, existing) = (name(id), catalogue.column(id));
    // A table can have only one such column.
    let other = catalogue.columns.iter().find(|column| column.is_numbered());
    match (existing, other) {
        (None, Some(other)) => {
            format!("CHANGE {} {own} {} NOT NULL AUTO_INCREMENT", name(&other.name), other.full_kind)
        }
        (None, None) => format!("ADD COLUMN {own} BIGINT NOT NULL AUTO_INCREMENT {key}"),
        (Some(existing), _) => {
            let kind = if existing.is_integer() { existing.full_kind.as_str() } else { "BIGINT" };
            let is_key = catalogue.uniques.iter().any(|unique| unique.is_over(&[id]));
            let key = if is_key { String::new() } else { format!(", ADD {key} ({own})") };
            format!("MODIFY {own} {kind} NOT NULL AUTO_INCREMENT{key}")
        }
    }
}
