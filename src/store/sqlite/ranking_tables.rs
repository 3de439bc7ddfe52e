//! The additional tables of a ranking: they are created, dropped and replaced together with their table.

use super::top_k;
use crate::store::tables::{Table, quote};

/// Returns the additional tables of a table's ranking.
pub fn ranking_tables(table: &Table) -> Vec<Table> {
    table.ranking.as_ref().map(|ranking| top_k::tables(table, ranking).into()).unwrap_or_default()
}

pub fn drop_tables(tables: &[Table]) -> String {
    let drop = |table: &Table| format!("DROP TABLE IF EXISTS {};", quote(&table.name));
    with_ranking_tables(tables).iter().map(drop).collect()
}

pub fn replace_tables(made: &[Table], wanted: &[Table]) -> String {
    let rename = |(made, wanted): (&Table, &Table)| {
        format!("ALTER TABLE {} RENAME TO {};", quote(&made.name), quote(&wanted.name))
    };
    let renames: String =
        with_ranking_tables(made).iter().zip(&with_ranking_tables(wanted)).map(rename).collect();
    drop_tables(wanted) + &renames
}

fn with_ranking_tables(tables: &[Table]) -> Vec<Table> {
    tables.iter().flat_map(|table| std::iter::once(table.clone()).chain(ranking_tables(table))).collect()
}
