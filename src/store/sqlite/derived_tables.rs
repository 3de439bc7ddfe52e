//! The additional tables of a derived index: they are created, dropped and replaced together with their table.

use super::top_k;
use crate::store::tables::{DerivedIndex, Table, quote};

/// Returns the additional tables of a table's derived index. The day-gaps table is not one of them: its view declares
/// it.
pub fn derived_tables(table: &Table) -> Vec<Table> {
    match &table.derived_index {
        DerivedIndex::TopK(ranking) => top_k::tables(table, ranking).into(),
        DerivedIndex::DayGaps(_) | DerivedIndex::Nothing => Vec::new(),
    }
}

pub fn drop_tables(tables: &[Table]) -> String {
    let drop = |table: &Table| format!("DROP TABLE IF EXISTS {};", quote(&table.name));
    with_derived_tables(tables).iter().map(drop).collect()
}

pub fn replace_tables(made: &[Table], wanted: &[Table]) -> String {
    let rename = |(made, wanted): (&Table, &Table)| {
        format!("ALTER TABLE {} RENAME TO {};", quote(&made.name), quote(&wanted.name))
    };
    let renames: String =
        with_derived_tables(made).iter().zip(&with_derived_tables(wanted)).map(rename).collect();
    drop_tables(wanted) + &renames
}

fn with_derived_tables(tables: &[Table]) -> Vec<Table> {
    tables.iter().flat_map(|table| std::iter::once(table.clone()).chain(derived_tables(table))).collect()
}
