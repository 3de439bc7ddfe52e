//! The verbs over rows that have keys. Rows go as arrays, one a column, so that a statement is the same for
//! any number of them.

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::Type;

use super::Session;
use super::cells::{Form, Misfit, Piece};
use super::prepared::Encoded;
use super::statements::{self, Carrier};
use crate::store::StoreError;
use crate::store::tables::{Cell, Table};

impl Session {
    pub async fn add(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        let written = self.write(table, cells, statements::add).await?;
        all_written(table, written, cells.len() / table.columns.len())
    }

    pub async fn insert_new(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        self.write(table, cells, statements::insert_new).await.map(drop)
    }

    pub async fn put(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        let written = self.write(table, cells, statements::put).await?;
        match table.columns.len() > table.key_columns {
            true => all_written(table, written, cells.len() / table.columns.len()),
            false => Ok(()),
        }
    }

    pub async fn remove(&mut self, table: &Table, cells: &[Cell]) -> Result<(), StoreError> {
        self.write(table, cells, statements::remove).await.map(drop)
    }

    pub async fn found(&mut self, table: &Table, keys: &[Cell]) -> Result<Vec<Vec<Cell>>, StoreError> {
        let pieces: Vec<Piece<'_>> = keys.iter().map(Piece::from).collect();
        let given = self.arrays(table, table.key_columns, false, &pieces).await?;
        let statement = self.statement(&statements::found(table, &given.carriers)).await?;
        self.select(&statement, &given.arrays).await
    }

    pub async fn neighbours(
        &mut self,
        table: &Table,
        keys: &[Cell],
    ) -> Result<Vec<(Option<i64>, Option<i64>)>, StoreError> {
        let pieces: Vec<Piece<'_>> = keys.iter().map(Piece::from).collect();
        let given = self.arrays(table, table.key_columns, false, &pieces).await?;
        let statement = self.statement(&statements::neighbours(table, &given.carriers)).await?;
        let number = |cell: &Cell| match cell {
            Cell::Integer(number) => Some(*number),
            _ => None,
        };
        let rows = self.select(&statement, &given.arrays).await?;
        Ok(rows.iter().map(|row| (number(&row[0]), number(&row[1]))).collect())
    }

    async fn write(
        &mut self,
        table: &Table,
        cells: &[Cell],
        sql: fn(&Table, &[Carrier]) -> String,
    ) -> Result<u64, StoreError> {
        if cells.is_empty() {
            return Ok(0);
        }
        let pieces: Vec<Piece<'_>> = cells.iter().map(Piece::from).collect();
        let given = self.arrays(table, table.columns.len(), false, &pieces).await?;
        let statement = self.statement(&sql(table, &given.carriers)).await?;
        self.execute(&statement, &given.arrays).await
    }

    /// The first `width` columns of rows as arrays; with `numbered`, each row begins with its number.
    pub(super) async fn arrays(
        &mut self,
        table: &Table,
        width: usize,
        numbered: bool,
        pieces: &[Piece<'_>],
    ) -> Result<Arrays, StoreError> {
        match self.try_arrays(table, width, numbered, pieces).await {
            // What is known of the columns may be from before somebody widened one.
            Err(StoreError::Data(_)) => {
                self.prepared.forget_forms();
                self.try_arrays(table, width, numbered, pieces).await
            }
            outcome => outcome,
        }
    }

    async fn try_arrays(
        &mut self,
        table: &Table,
        width: usize,
        numbered: bool,
        pieces: &[Piece<'_>],
    ) -> Result<Arrays, StoreError> {
        let forms = self.forms(table).await?;
        let skipped = usize::from(table.id.is_some() && !numbered);
        let width = width + usize::from(numbered);
        let forms = &forms[skipped..skipped + width];
        let name = |index: usize| match (&table.id, numbered, index) {
            (Some(id), true, 0) => id.as_str(),
            (_, true, _) => table.columns[index - 1].name.as_str(),
            (_, false, _) => table.columns[index].name.as_str(),
        };
        let carriers = forms
            .iter()
            .enumerate()
            .map(|(index, form)| Carrier::of(form).ok_or_else(|| not_written(table, name(index), form)));
        let carriers = carriers.collect::<Result<Vec<Carrier>, StoreError>>()?;
        let array = |(index, (form, carrier)): (usize, (&Form, &Carrier))| {
            let values = pieces.iter().skip(index).step_by(width);
            let encoded = array(values.copied(), form, carrier);
            encoded.map_err(|misfit| does_not_fit(table, name(index), &misfit))
        };
        let arrays = forms.iter().zip(&carriers).enumerate().map(array).collect::<Result<Vec<_>, _>>()?;
        Ok(Arrays { carriers, arrays })
    }

    pub(super) async fn forms(&mut self, table: &Table) -> Result<std::sync::Arc<[Form]>, StoreError> {
        let outcome = self.prepared.forms(&self.client, table).await;
        outcome.map_err(|error| self.sorted(&error))
    }
}

pub(super) struct Arrays {
    pub carriers: Vec<Carrier>,
    pub arrays: Vec<Encoded>,
}

/// One dimension, a flag for nulls, the type of the values, how many, counted from 1, the values.
fn array<'a>(
    values: impl ExactSizeIterator<Item = Piece<'a>>,
    form: &Form,
    carrier: &Carrier,
) -> Result<Encoded, Misfit> {
    let count = i32::try_from(values.len()).map_err(|_| Misfit::TooBig(i32::MAX as usize))?;
    let mut bytes = BytesMut::with_capacity(20 + values.len() * 16);
    for word in [1, 1, carrier.kind.oid() as i32, count, 1] {
        bytes.put_i32(word);
    }
    for value in values {
        value.fitted(form)?.put_sized(&carrier.kind, &mut bytes)?;
    }
    Ok(Encoded(Some(bytes)))
}

pub(super) fn integers(values: &[i64]) -> Encoded {
    let mut bytes = BytesMut::with_capacity(20 + values.len() * 12);
    for word in [1, 0, Type::INT8.oid() as i32, values.len() as i32, 1] {
        bytes.put_i32(word);
    }
    for value in values {
        bytes.put_i32(8);
        bytes.put_i64(*value);
    }
    Encoded(Some(bytes))
}

pub(super) fn does_not_fit(table: &Table, column: &str, misfit: &Misfit) -> StoreError {
    StoreError::Data(format!("a value for column `{column}` of table `{}` {misfit}", table.name))
}

pub(super) fn not_written(table: &Table, column: &str, form: &Form) -> StoreError {
    StoreError::Blocked(format!(
        "column `{column}` of table `{}` is of type {}, which millrace does not write",
        table.name,
        form.kind.name()
    ))
}

/// A rule or trigger of the table's owner can drop rows without a word.
pub(super) fn all_written(table: &Table, written: u64, wanted: usize) -> Result<(), StoreError> {
    match written == wanted as u64 {
        true => Ok(()),
        false => Err(StoreError::Blocked(format!(
            "table `{}` took {written} of {wanted} rows: a trigger or rule of its own keeps the others out",
            table.name
        ))),
    }
}
