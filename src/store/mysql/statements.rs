//! The SQL that carries out verbs in MySQL and MariaDB.

use std::borrow::Cow;

use super::Flavour;
use crate::store::tables::{Cell, Column, ColumnKind, Table, quote};

/// Exact to as many places as an amount has.
pub const DECIMAL: &str = "DECIMAL(38,4)";

/// What a row is called that meets another.
const NEW: &str = "millrace_new";

pub fn insert(table: &Table, rows: usize) -> String {
    insert_into(&table.name, table.columns.iter().map(|column| column.name.as_str()), rows)
}

/// The same under numbers that are given first.
pub fn insert_numbered(table: &Table, id: &str, rows: usize) -> String {
    let names = std::iter::once(id).chain(table.columns.iter().map(|column| column.name.as_str()));
    insert_into(&table.name, names, rows)
}

fn insert_into<'n>(table: &str, names: impl Iterator<Item = &'n str>, rows: usize) -> String {
    let names: Vec<String> = names.map(quote).collect();
    let row = format!("({})", repeated("?", ",", names.len()));
    format!("INSERT INTO {} ({}) VALUES {}", quote(table), names.join(","), repeated(&row, ",", rows))
}

/// Columns beyond the key are added to what is there.
pub fn add(table: &Table, rows: usize, flavour: Flavour) -> String {
    meeting(table, rows, flavour, |there, new| format!("{there} = COALESCE({there}, 0) + {new}"))
}

/// Columns beyond the key take the place of what is there.
pub fn put(table: &Table, rows: usize, flavour: Flavour) -> String {
    meeting(table, rows, flavour, |there, new| format!("{there} = {new}"))
}

/// What is there by any unique key stays. `INSERT IGNORE` would do that too, and mend bad values silently.
pub fn insert_new(table: &Table, rows: usize) -> String {
    format!("{} ON DUPLICATE KEY UPDATE {}", insert(table, rows), kept(table))
}

fn meeting(table: &Table, rows: usize, flavour: Flavour, set: impl Fn(&str, &str) -> String) -> String {
    let beyond = &table.columns[table.key_columns..];
    if beyond.is_empty() {
        return insert_new(table, rows);
    }
    let insert = insert(table, rows);
    let sets = beyond.iter().map(|column| {
        let name = quote(&column.name);
        let there = format!("{}.{name}", quote(&table.name));
        match flavour {
            Flavour::Mysql => set(&there, &format!("{}.{name}", quote(NEW))),
            Flavour::Mariadb => set(&there, &format!("VALUES({name})")),
        }
    });
    let sets = sets.collect::<Vec<_>>().join(", ");
    match flavour {
        Flavour::Mysql => format!("{insert} AS {} ON DUPLICATE KEY UPDATE {sets}", quote(NEW)),
        Flavour::Mariadb => format!("{insert} ON DUPLICATE KEY UPDATE {sets}"),
    }
}

fn kept(table: &Table) -> String {
    let first = format!("{}.{}", quote(&table.name), quote(&table.columns[0].name));
    format!("{first} = {first}")
}

pub fn remove(table: &Table, rows: usize) -> String {
    format!("DELETE FROM {} WHERE {}", quote(&table.name), any_of(&table.columns, rows))
}

pub fn found(table: &Table, keys: usize) -> String {
    let names: Vec<String> = table.columns.iter().map(|column| quote(&column.name)).collect();
    let keys = any_of(&table.columns[..table.key_columns], keys);
    format!("SELECT {} FROM {} WHERE {keys}", names.join(","), quote(&table.name))
}

/// For each key its place among those asked for, the number before its own and the one after it.
pub fn neighbours(table: &Table, keys: usize) -> String {
    let (of, number) = table.columns[..table.key_columns].split_at(table.key_columns - 1);
    let (name, number) = (quote(&table.name), quote(&number[0].name));
    let of: String = of.iter().map(|column| format!("{} AND ", equal(column))).collect();
    let ask = |place: usize| {
        format!(
            "SELECT {place}, (SELECT MAX({number}) FROM {name} WHERE {of}{number} < ?), \
             (SELECT MIN({number}) FROM {name} WHERE {of}{number} > ?)"
        )
    };
    (0..keys).map(ask).collect::<Vec<_>>().join(" UNION ALL ")
}

pub fn delete_numbers(table: &Table, id: &str, numbers: usize) -> String {
    let marks = repeated("?", ",", numbers);
    format!("DELETE FROM {} WHERE {} IN ({marks})", quote(&table.name), quote(id))
}

/// Keeps the rows from others until the transaction ends.
pub fn numbers_there(table: &Table, id: &str, numbers: usize) -> String {
    let (id, marks) = (quote(id), repeated("?", ",", numbers));
    format!("SELECT {id} FROM {} WHERE {id} IN ({marks}) FOR UPDATE", quote(&table.name))
}

pub fn update_numbered(table: &Table, id: &str) -> String {
    let sets: Vec<String> =
        table.columns.iter().map(|column| format!("{} = ?", quote(&column.name))).collect();
    format!("UPDATE {} SET {} WHERE {} = ?", quote(&table.name), sets.join(", "), quote(id))
}

/// Either of so many rows. (Both databases look each of them up in an index when it is said this way.)
fn any_of(columns: &[Column], rows: usize) -> String {
    let row = columns.iter().map(equal).collect::<Vec<_>>().join(" AND ");
    repeated(&format!("({row})"), " OR ", rows)
}

fn equal(column: &Column) -> String {
    let name = quote(&column.name);
    let sign = if column.null { "<=>" } else { "=" };
    match column.kind {
        // Compared to a text, an amount would be a float.
        ColumnKind::Decimal => format!("{name} {sign} CAST(? AS {DECIMAL})"),
        _ => format!("{name} {sign} ?"),
    }
}

fn repeated(part: &str, between: &str, times: usize) -> String {
    vec![part; times].join(between)
}

/// Parameters that are amounts are said to be, so that nothing compares or adds them as floats.
pub fn with_exact_decimals<'s>(sql: &'s str, parameters: &[Cell]) -> Cow<'s, str> {
    if !parameters.iter().any(|cell| matches!(cell, Cell::Decimal(_))) {
        return Cow::Borrowed(sql);
    }
    let mut exact = String::with_capacity(sql.len() + 64);
    let (mut parameters, mut within) = (parameters.iter(), None);
    for letter in sql.chars() {
        match (letter, within) {
            ('\'' | '"', None) => within = Some(letter),
            (letter, Some(quote)) if letter == quote => within = None,
            ('?', None) => {
                if let Some(Cell::Decimal(_)) = parameters.next() {
                    exact.push_str(&format!("CAST(? AS {DECIMAL})"));
                    continue;
                }
            }
            _ => {}
        }
        exact.push(letter);
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
    fn rows_that_meet_others_are_said_in_each_database_s_words() {
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
    fn only_parameters_that_are_amounts_are_said_to_be() {
        let amount = Cell::Decimal("1.5".parse().expect("an amount"));
        let sql = r#"SELECT '?', "?" FROM t WHERE a = ? AND b = ?"#;
        assert_eq!(
            with_exact_decimals(sql, &[Cell::Integer(1), amount]),
            r#"SELECT '?', "?" FROM t WHERE a = ? AND b = CAST(? AS DECIMAL(38,4))"#
        );
        assert_eq!(with_exact_decimals(sql, &[Cell::Integer(1), Cell::Null]), sql);
    }
}
