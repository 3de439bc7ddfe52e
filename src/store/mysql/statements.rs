//! The SQL that writes and finds rows in MySQL and MariaDB.

use std::borrow::Cow;

use super::Flavour;
use crate::store::cell::Cell;
use crate::store::tables::{Column, ColumnKind, Table, quote};

/// The type of amounts, with as many decimal places as an amount has.
pub const DECIMAL: &str = "DECIMAL(38,4)";

/// The alias of the new row in `ON DUPLICATE KEY UPDATE`.
const NEW: &str = "millrace_new";

pub fn insert(table: &Table, rows: usize) -> String {
    insert_into(&table.name, table.columns.iter().map(|column| column.name.as_str()), rows)
}

/// Inserts rows under given numbers; the number is the first value of each row.
pub fn insert_numbered(table: &Table, id: &str, rows: usize) -> String {
    let names = std::iter::once(id).chain(table.columns.iter().map(|column| column.name.as_str()));
    insert_into(&table.name, names, rows)
}

fn insert_into<'n>(table: &str, names: impl Iterator<Item = &'n str>, rows: usize) -> String {
    let names: Vec<String> = names.map(quote).collect();
    let row = format!("({})", repeated("?", ",", names.len()));
    format!("INSERT INTO {} ({}) VALUES {}", quote(table), names.join(","), repeated(&row, ",", rows))
}

/// Inserts rows. In an existing row, adds to the columns beyond the key.
pub fn add(table: &Table, rows: usize, flavour: Flavour) -> String {
    upsert(table, rows, flavour, |stored, new| format!("{stored} = COALESCE({stored}, 0) + {new}"))
}

/// Inserts rows. In an existing row, replaces the columns beyond the key.
pub fn put(table: &Table, rows: usize, flavour: Flavour) -> String {
    upsert(table, rows, flavour, |stored, new| format!("{stored} = {new}"))
}

/// Inserts rows, and leaves existing rows alone, whichever unique key they share. `INSERT IGNORE` would do so too,
/// but would also silently change invalid values.
pub fn insert_new(table: &Table, rows: usize) -> String {
    format!("{} ON DUPLICATE KEY UPDATE {}", insert(table, rows), no_change(table))
}

fn upsert(table: &Table, rows: usize, flavour: Flavour, set: impl Fn(&str, &str) -> String) -> String {
    let beyond = &table.columns[table.key_columns..];
    if beyond.is_empty() {
        return insert_new(table, rows);
    }
    let insert = insert(table, rows);
    let sets = beyond.iter().map(|column| {
        let name = quote(&column.name);
        let stored = format!("{}.{name}", quote(&table.name));
        match flavour {
            Flavour::Mysql => set(&stored, &format!("{}.{name}", quote(NEW))),
            Flavour::Mariadb => set(&stored, &format!("VALUES({name})")),
        }
    });
    let sets = sets.collect::<Vec<_>>().join(", ");
    match flavour {
        Flavour::Mysql => format!("{insert} AS {} ON DUPLICATE KEY UPDATE {sets}", quote(NEW)),
        Flavour::Mariadb => format!("{insert} ON DUPLICATE KEY UPDATE {sets}"),
    }
}

/// Assigns the first column to itself.
fn no_change(table: &Table) -> String {
    let first = format!("{}.{}", quote(&table.name), quote(&table.columns[0].name));
    format!("{first} = {first}")
}

pub fn remove(table: &Table, rows: usize) -> String {
    format!("DELETE FROM {} WHERE {}", quote(&table.name), any_of(&table.columns, rows))
}

pub fn rows_by_key(table: &Table, keys: usize) -> String {
    let names: Vec<String> = table.columns.iter().map(|column| quote(&column.name)).collect();
    let keys = any_of(&table.columns[..table.key_columns], keys);
    format!("SELECT {} FROM {} WHERE {keys}", names.join(","), quote(&table.name))
}

/// Selects for each key its index among the given ones, the next smaller number and the next larger one.
pub fn neighbours(table: &Table, keys: usize) -> String {
    let (others, number) = table.columns[..table.key_columns].split_at(table.key_columns - 1);
    let (name, number) = (quote(&table.name), quote(&number[0].name));
    let others: String = others.iter().map(|column| format!("{} AND ", equal(column))).collect();
    let select = |index: usize| {
        format!(
            "SELECT {index}, (SELECT MAX({number}) FROM {name} WHERE {others}{number} < ?), \
             (SELECT MIN({number}) FROM {name} WHERE {others}{number} > ?)"
        )
    };
    (0..keys).map(select).collect::<Vec<_>>().join(" UNION ALL ")
}

pub fn delete_numbers(table: &Table, id: &str, numbers: usize) -> String {
    let marks = repeated("?", ",", numbers);
    format!("DELETE FROM {} WHERE {} IN ({marks})", quote(&table.name), quote(id))
}

/// Selects the numbers that exist, and locks their rows until the transaction ends.
pub fn existing_numbers(table: &Table, id: &str, numbers: usize) -> String {
    let (id, marks) = (quote(id), repeated("?", ",", numbers));
    format!("SELECT {id} FROM {} WHERE {id} IN ({marks}) FOR UPDATE", quote(&table.name))
}

pub fn update_numbered(table: &Table, id: &str) -> String {
    let sets: Vec<String> =
        table.columns.iter().map(|column| format!("{} = ?", quote(&column.name))).collect();
    format!("UPDATE {} SET {} WHERE {} = ?", quote(&table.name), sets.join(", "), quote(id))
}

/// A condition that matches any of `rows` rows. In this form, both databases look up each of them in an index.
fn any_of(columns: &[Column], rows: usize) -> String {
    let row = columns.iter().map(equal).collect::<Vec<_>>().join(" AND ");
    repeated(&format!("({row})"), " OR ", rows)
}

fn equal(column: &Column) -> String {
    let name = quote(&column.name);
    let sign = if column.null { "<=>" } else { "=" };
    match column.kind {
        // An amount that is compared to a text would become a float.
        ColumnKind::Decimal => format!("{name} {sign} CAST(? AS {DECIMAL})"),
        _ => format!("{name} {sign} ?"),
    }
}

fn repeated(part: &str, between: &str, times: usize) -> String {
    vec![part; times].join(between)
}

/// Casts the parameters that are amounts, so that the database never compares or adds them as floats.
pub fn with_exact_decimals<'s>(sql: &'s str, parameters: &[Cell]) -> Cow<'s, str> {
    if !parameters.iter().any(|cell| matches!(cell, Cell::Decimal(_))) {
        return Cow::Borrowed(sql);
    }
    let mut exact = String::with_capacity(sql.len() + 64);
    let (mut parameters, mut open_quote) = (parameters.iter(), None);
    for character in sql.chars() {
        match (character, open_quote) {
            ('\'' | '"', None) => open_quote = Some(character),
            (character, Some(quote)) if character == quote => open_quote = None,
            ('?', None) => {
                if let Some(Cell::Decimal(_)) = parameters.next() {
                    exact.push_str(&format!("CAST(? AS {DECIMAL})"));
                    continue;
                }
            }
            _ => {}
        }
        exact.push(character);
    }
    Cow::Owned(exact)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> Table {
        let text = ColumnKind::Text { chars_max: 9 };
        let columns = [("who", text), ("day?", ColumnKind::Integer), ("sum", ColumnKind::Decimal)];
        Table::new("t", 2, &columns)
    }

    #[test]
    fn upserts_use_the_syntax_of_each_database() {
        assert_eq!(
            add(&counts(), 2, Flavour::Mariadb),
            r#"INSERT INTO "t" ("who","day","sum") VALUES (?,?,?),(?,?,?) ON DUPLICATE KEY UPDATE "t"."sum" = COALESCE("t"."sum", 0) + VALUES("sum")"#
        );
        assert_eq!(
            put(&counts(), 1, Flavour::Mysql),
            r#"INSERT INTO "t" ("who","day","sum") VALUES (?,?,?) AS "millrace_new" ON DUPLICATE KEY UPDATE "t"."sum" = "millrace_new"."sum""#
        );
        assert_eq!(
            remove(&counts(), 1),
            r#"DELETE FROM "t" WHERE ("who" = ? AND "day" <=> ? AND "sum" = CAST(? AS DECIMAL(38,4)))"#
        );
    }

    #[test]
    fn only_parameters_that_are_amounts_are_cast() {
        let amount = Cell::Decimal("1.5".parse().expect("an amount"));
        let sql = r#"SELECT '?', "?" FROM t WHERE a = ? AND b = ?"#;
        assert_eq!(
            with_exact_decimals(sql, &[Cell::Integer(1), amount]),
            r#"SELECT '?', "?" FROM t WHERE a = ? AND b = CAST(? AS DECIMAL(38,4))"#
        );
        assert_eq!(with_exact_decimals(sql, &[Cell::Integer(1), Cell::Null]), sql);
    }
}
