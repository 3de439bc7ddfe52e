//! Statements that a session keeps prepared, and what of a table's columns is known through them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut, BytesMut};
use event::limits::{POSTGRES_FORMS_AGE_MAX, POSTGRES_STATEMENTS_MAX};
use tokio_postgres::types::{Format, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Error, Statement};

use super::cells::{Form, Piece};
use super::statements;
use crate::store::StoreError;
use crate::store::tables::{Cell, Table};

#[derive(Default)]
pub struct Prepared {
    statements: HashMap<String, Known>,
    forms: HashMap<String, (Instant, Arc<[Form]>)>,
    uses: u64,
}

struct Known {
    statement: Statement,
    last_use: u64,
}

impl Prepared {
    /// `sql` in the form that all databases share.
    pub async fn statement(&mut self, client: &Client, sql: &str) -> Result<Statement, Error> {
        self.uses += 1;
        if let Some(known) = self.statements.get_mut(sql) {
            known.last_use = self.uses;
            return Ok(known.statement.clone());
        }
        let statement = prepare(client, &statements::numbered(sql)).await?;
        if self.statements.len() >= POSTGRES_STATEMENTS_MAX {
            let oldest = self.statements.iter().min_by_key(|(_, known)| known.last_use);
            if let Some(oldest) = oldest.map(|(sql, _)| sql.clone()) {
                self.statements.remove(&oldest);
            }
        }
        let known = Known { statement: statement.clone(), last_use: self.uses };
        self.statements.insert(sql.to_owned(), known);
        Ok(statement)
    }

    /// Of what types a table's columns are, its number first where it has one.
    pub async fn forms(&mut self, client: &Client, table: &Table) -> Result<Arc<[Form]>, Error> {
        let sql = statements::columns_of(table);
        if let Some((since, forms)) = self.forms.get(&sql)
            && since.elapsed() < POSTGRES_FORMS_AGE_MAX
        {
            return Ok(Arc::clone(forms));
        }
        let statement = client.prepare(&sql).await?;
        let forms: Arc<[Form]> = statement
            .columns()
            .iter()
            .map(|column| Form::new(column.type_(), column.type_modifier()))
            .collect();
        if self.forms.len() >= POSTGRES_STATEMENTS_MAX {
            self.forms.clear();
        }
        self.forms.insert(sql, (Instant::now(), Arc::clone(&forms)));
        Ok(forms)
    }

    /// Tables may have changed.
    pub fn forget(&mut self) {
        self.statements.clear();
        self.forms.clear();
    }

    pub fn forget_forms(&mut self) {
        self.forms.clear();
    }
}

/// Integers are given as the widest there are: a number beyond a narrow column is then smaller or larger than
/// all in it, and not an error.
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

/// A parameter in PostgreSQL's binary form; `None` is null.
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

/// Parameters as a statement takes them.
pub fn encoded(statement: &Statement, parameters: &[Cell]) -> Result<Vec<Encoded>, StoreError> {
    let kinds = statement.params();
    if kinds.len() != parameters.len() {
        let (wanted, given) = (kinds.len(), parameters.len());
        return Err(StoreError::Blocked(format!("a statement takes {wanted} parameters, and got {given}")));
    }
    let encode = |(index, (cell, kind)): (usize, (&Cell, &Type))| {
        let mut bytes = BytesMut::new();
        let form = Form::new(kind, -1);
        match Piece::from(cell).put(&form.kind, &mut bytes) {
            Ok(there) => Ok(Encoded(there.then_some(bytes))),
            Err(misfit) => Err(StoreError::Data(format!("parameter {} of a statement {misfit}", index + 1))),
        }
    };
    parameters.iter().zip(kinds).enumerate().map(encode).collect()
}

pub fn as_parameters(encoded: &[Encoded]) -> Vec<&(dyn ToSql + Sync)> {
    encoded.iter().map(|parameter| parameter as &(dyn ToSql + Sync)).collect()
}
