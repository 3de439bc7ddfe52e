//! Reads the definition of an existing table: its columns, and its unique keys over the view's key columns.

use rusqlite::Connection;

use crate::store::tables::Table;

/// The definition of an existing table.
pub struct Existing {
    pub columns: Vec<ColumnInfo>,
    pub keys: Vec<Key>,
    /// True if the primary key is a separate index, and not SQLite's rowid.
    key_is_index: bool,
    /// The name and the SQL of each index and trigger that is not part of the table's own definition.
    pub attached: Vec<Attached>,
}

pub struct ColumnInfo {
    pub name: String,
    pub kind: String,
    pub not_null: bool,
    pub default: Option<String>,
    pub in_key: bool,
}

/// A unique index on exactly the key columns.
pub struct Key {
    pub name: String,
    /// True if `CREATE INDEX` made it, false if it is part of the table.
    pub made_by_index: bool,
    /// True if it covers all rows.
    pub whole: bool,
    /// True if it compares byte for byte.
    pub binary: bool,
}

/// An index or a trigger of a table.
pub struct Attached {
    /// `index` or `trigger`.
    pub kind: String,
    pub name: String,
    pub sql: String,
}

impl Existing {
    pub fn read(connection: &Connection, table: &Table) -> rusqlite::Result<Self> {
        let sql = "SELECT count(*) FROM pragma_index_list(?1) WHERE origin = 'pk'";
        let key_indexes: i64 = connection.query_row(sql, [&table.name], |row| row.get(0))?;
        Ok(Self {
            columns: columns(connection, &table.name)?,
            keys: keys(connection, table)?,
            key_is_index: key_indexes > 0,
            attached: attached(connection, &table.name)?,
        })
    }

    pub fn column(&self, name: &str) -> Option<&ColumnInfo> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// Returns whether `id` is SQLite's rowid: the whole primary key, without a separate index.
    pub fn numbers_rows(&self, id: &str) -> bool {
        let mut key = self.columns.iter().filter(|column| column.in_key);
        let alone =
            key.next().is_some_and(|column| column.name.eq_ignore_ascii_case(id)) && key.next().is_none();
        alone && !self.key_is_index
    }
}

fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<ColumnInfo>> {
    let sql = "SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info(?1)";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([table], |row| {
        let in_key: i64 = row.get(4)?;
        Ok(ColumnInfo {
            name: row.get(0)?,
            kind: row.get(1)?,
            not_null: row.get(2)?,
            default: row.get(3)?,
            in_key: in_key > 0,
        })
    })?;
    rows.collect()
}

fn attached(connection: &Connection, table: &str) -> rusqlite::Result<Vec<Attached>> {
    let sql = "SELECT type, name, sql FROM sqlite_schema WHERE tbl_name = ?1 COLLATE NOCASE
         AND type IN ('index', 'trigger') AND sql IS NOT NULL ORDER BY rowid";
    let mut statement = connection.prepare(sql)?;
    let rows = statement
        .query_map([table], |row| Ok(Attached { kind: row.get(0)?, name: row.get(1)?, sql: row.get(2)? }))?;
    rows.collect()
}

fn keys(connection: &Connection, table: &Table) -> rusqlite::Result<Vec<Key>> {
    let mut statement = connection
        .prepare("SELECT name, origin = 'c', partial = 0 FROM pragma_index_list(?1) WHERE \"unique\" = 1")?;
    let indexes = statement.query_map([&table.name], |row| {
        Ok(Key { name: row.get(0)?, made_by_index: row.get(1)?, whole: row.get(2)?, binary: true })
    })?;
    let mut wanted: Vec<String> =
        table.columns[..table.key_columns].iter().map(|column| column.name.to_lowercase()).collect();
    wanted.sort();
    let mut keys = Vec::new();
    for key in indexes {
        let key = key?;
        let mut statement =
            connection.prepare("SELECT lower(name), coll FROM pragma_index_xinfo(?1) WHERE key = 1")?;
        let parts: Vec<(Option<String>, String)> = statement
            .query_map([&key.name], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let mut names: Vec<String> = parts.iter().filter_map(|(name, _)| name.clone()).collect();
        names.sort();
        if names == wanted && names.len() == parts.len() {
            keys.push(Key { binary: parts.iter().all(|(_, collation)| collation == "BINARY"), ..key });
        }
    }
    Ok(keys)
}
