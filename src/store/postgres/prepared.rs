//! The prepared statements of a session, and the cached types of tables' columns.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut, BytesMut};
use event::limits::{POSTGRES_COLUMN_TYPES_AGE_MAX, POSTGRES_STATEMENTS_MAX};
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Error, Statement};

use super::cells::ColumnType;
use super::statements;
use crate::store::StoreError;
use crate::store::cell::{Cell, CellRef};
use crate::store::tables::Table;

#[derive(Default)]
pub struct Prepared {
    statements: HashMap<String, CachedStatement>,
    column_types: HashMap<String, (Instant, Arc<[ColumnType]>)>,
    uses: u64,
}

struct CachedStatement {
    statement: Statement,
    last_use: u64,
}

impl Prepared {
    /// Returns the prepared statement for `sql`, which has `?` for its parameters as for all databases.
    pub async fn statement(&mut self, client: &Client, sql: &str) -> Result<Statement, Error> {
        self.uses += 1;
        if let Some(cached) = self.statements.get_mut(sql) {
            cached.last_use = self.uses;
            return Ok(cached.statement.clone());
        }
        let statement = prepare(client, &statements::numbered(sql)).await?;
        if self.statements.len() >= POSTGRES_STATEMENTS_MAX {
            let oldest = self.statements.iter().min_by_key(|(_, cached)| cached.last_use);
            if let Some(oldest) = oldest.map(|(sql, _)| sql.clone()) {
                self.statements.remove(&oldest);
            }
        }
        let cached = CachedStatement { statement: statement.clone(), last_use: self.uses };
        self.statements.insert(sql.to_owned(), cached);
        Ok(statement)
    }

    /// Returns the types of a table's columns. That of the number column, if there is one, comes first.
    pub async fn column_types(&mut self, client: &Client, table: &Table) -> Result<Arc<[ColumnType]>, Error> {
        let sql = statements::columns_of(table);
        if let Some((since, column_types)) = self.column_types.get(&sql)
            && since.elapsed() < POSTGRES_COLUMN_TYPES_AGE_MAX
        {
            return Ok(Arc::clone(column_types));
        }
        let statement = client.prepare(&sql).await?;
        let column_types: Arc<[ColumnType]> = statement
            .columns()
            .iter()
            .map(|column| ColumnType::new(column.type_(), column.type_modifier()))
            .collect();
        if self.column_types.len() >= POSTGRES_STATEMENTS_MAX {
            self.column_types.clear();
        }
        self.column_types.insert(sql, (Instant::now(), Arc::clone(&column_types)));
        Ok(column_types)
    }

    /// Clears both caches, because tables have changed.
    pub fn forget(&mut self) {
        self.statements.clear();
        self.column_types.clear();
    }

    pub fn forget_column_types(&mut self) {
        self.column_types.clear();
    }
}

/// Prepares a statement with 8-byte integers as parameters. A number beyond the range of a narrower column then
/// compares as smaller or larger than all of its values, and is not an error.
async fn prepare(client: &Client, sql: &str) -> Result<Statement, Error> {
    let statement = client.prepare(sql).await?;
    let is_narrow = |kind: &Type| matches!(*kind, Type::INT2 | Type::INT4);
    if !statement.params().iter().any(is_narrow) {
        return Ok(statement);
    }
    let wide = |kind: &Type| if is_narrow(kind) { Type::INT8 } else { kind.clone() };
    let kinds: Vec<Type> = statement.params().iter().map(wide).collect();
    client.prepare_typed(sql, &kinds).await
}

/// A parameter in PostgreSQL's binary format; `None` is null.
#[derive(Debug)]
pub struct Encoded(pub Option<BytesMut>);

impl ToSql for Encoded {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match &self.0 {
            Some(bytes) => out.put_slice(bytes),
            None => return Ok(IsNull::Yes),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Binary
    }

    to_sql_checked!();
}

/// Encodes parameters for a statement.
pub fn encoded(statement: &Statement, parameters: &[Cell]) -> Result<Vec<Encoded>, StoreError> {
    let kinds = statement.params();
    if kinds.len() != parameters.len() {
        let (wanted, given) = (kinds.len(), parameters.len());
        return Err(StoreError::Blocked(format!("a statement needs {wanted} parameters, but has {given}")));
    }
    let encode = |(index, (cell, kind)): (usize, (&Cell, &Type))| {
        let mut bytes = BytesMut::new();
        let column_type = ColumnType::new(kind, -1);
        match CellRef::from(cell).put(&column_type.kind, &mut bytes) {
            Ok(has_value) => Ok(Encoded(has_value.then_some(bytes))),
            Err(error) => Err(StoreError::Data(format!("parameter {} of a statement {error}", index + 1))),
        }
    };
    parameters.iter().zip(kinds).enumerate().map(encode).collect()
}

pub fn as_parameters(encoded: &[Encoded]) -> Vec<&(dyn ToSql + Sync)> {
    encoded.iter().map(|parameter| parameter as &(dyn ToSql + Sync)).collect()
}
