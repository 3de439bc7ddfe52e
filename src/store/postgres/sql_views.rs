//! SQL views in PostgreSQL.

use super::Session;
use super::statements::NAME_BYTES_MAX;
use crate::store::StoreError;
use crate::store::cell::Cell;
use crate::store::sql_view::{SqlValue, SqlView};
use crate::store::tables::{Table, quote};

const DEFINITION: &str = "SELECT pg_catalog.pg_get_viewdef(c.oid) FROM pg_catalog.pg_class c \
     WHERE c.oid = pg_catalog.to_regclass(?) AND c.relkind = 'v'";

/// The SQL views that read a table: name, query, and the options in brackets that `CREATE VIEW` would reset.
const READERS: &str = "SELECT DISTINCT c.oid::pg_catalog.regclass::text, pg_catalog.pg_get_viewdef(c.oid), \
     coalesce(' WITH (' || pg_catalog.array_to_string(c.reloptions, ', ') || ')', '') \
     FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid \
     JOIN pg_catalog.pg_class c ON c.oid = r.ev_class \
     WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass \
     AND d.refobjid = pg_catalog.to_regclass(?) AND c.relkind = 'v'";

pub fn sql_view_query(sql_view: &SqlView) -> String {
    sql_view.query(|value| match value {
        SqlValue::Plain(sql) | SqlValue::Amount(sql) => sql.clone(),
        SqlValue::Count(sql) => format!("CAST({sql} AS BIGINT)"),
        SqlValue::Day(sql) => format!("to_date(CAST({sql} AS TEXT), 'YYYYMMDD')"),
    })
}

impl Session {
    /// PostgreSQL cuts a name that is too long, so that two SQL views could get the same name.
    pub async fn sql_view_definition(&mut self, name: &str) -> Result<Option<String>, StoreError> {
        if name.len() > NAME_BYTES_MAX {
            return Err(StoreError::Blocked(format!(
                "the name is longer than PostgreSQL's {NAME_BYTES_MAX} bytes; shorten the view's `table`"
            )));
        }
        let rows = self.rows(DEFINITION, &[Cell::Text(quote(name))]).await?;
        Ok(match rows.into_iter().next().as_deref() {
            Some([Cell::Text(definition)]) => Some(definition.clone()),
            _ => None,
        })
    }

    pub async fn run_schema(&mut self, sql: &str) -> Result<(), StoreError> {
        self.batch(sql).await
    }

    /// Returns the SQL that makes the SQL views that read one of these tables read it again by its name. They belong to
    /// the table itself and not to its name, so they follow a table that is renamed. Their privileges and the SQL views
    /// that read them stay.
    pub(super) async fn point_readers_at_names(&mut self, tables: &[Table]) -> Result<String, StoreError> {
        let mut statements: Vec<String> = Vec::new();
        for table in tables {
            for row in self.rows(READERS, &[Cell::Text(quote(&table.name))]).await? {
                let [Cell::Text(name), Cell::Text(query), Cell::Text(options)] = row.as_slice() else {
                    continue;
                };
                let sql =
                    format!("CREATE OR REPLACE VIEW {name}{options} AS {}", query.trim_end_matches(';'));
                if !statements.contains(&sql) {
                    statements.push(sql);
                }
            }
        }
        Ok(statements.into_iter().map(|sql| sql + ";").collect())
    }
}
