//! Finds the privileges that the user lacks for a view's table.

use super::Session;
use super::statements::NAME_BYTES_MAX;
use crate::store::StoreError;
use crate::store::cell::Cell;
use crate::store::table_fault::TableFault;
use crate::store::tables::{Table, quote};

/// A privilege for some columns is enough here: whether these are the right columns is found when they are used.
const MISSING_FOR_TABLE: &str = "SELECT wanted.name, current_user::text FROM (VALUES ('SELECT'), ('INSERT'), ('UPDATE')) AS wanted (name) \
     WHERE NOT pg_catalog.has_any_column_privilege(pg_catalog.to_regclass(?), wanted.name) ORDER BY wanted.name";

const MISSING_TO_CREATE: &str = "SELECT current_schema()::text, current_user::text \
     WHERE NOT coalesce(pg_catalog.has_schema_privilege(current_schema(), 'CREATE'), FALSE)";

impl Session {
    pub async fn missing_rights(
        &mut self,
        table: &Table,
        exists: bool,
    ) -> Result<Option<TableFault>, StoreError> {
        let (problem, repair) = if exists {
            let rows = self.rows(MISSING_FOR_TABLE, &[Cell::Text(quote(&table.name))]).await?;
            // Rows without a key are never updated in the normal course.
            let needed = |right: &str| right != "UPDATE" || table.id.is_none();
            let mut rights: Vec<String> = Vec::new();
            let mut user = String::new();
            for row in rows {
                if let [Cell::Text(right), Cell::Text(name)] = row.as_slice()
                    && needed(right)
                {
                    rights.push(right.clone());
                    user.clone_from(name);
                }
            }
            if rights.is_empty() {
                return Ok(None);
            }
            let grant =
                format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO {}", quote(&table.name), quote(&user));
            (format!("does not grant user `{user}` the privileges {}", rights.join(", ")), grant)
        } else if let Some(name) = too_long(table) {
            (
                format!(
                    "cannot be created: the name `{name}` is too long for PostgreSQL; shorten it to at most {NAME_BYTES_MAX} bytes"
                ),
                String::new(),
            )
        } else {
            let rows = self.rows(MISSING_TO_CREATE, &[]).await?;
            match rows.first().map(Vec::as_slice) {
                None => return Ok(None),
                Some([Cell::Text(schema), Cell::Text(user)]) => (
                    format!("cannot be created: user `{user}` may not create tables in schema `{schema}`"),
                    format!("GRANT CREATE ON SCHEMA {} TO {}", quote(schema), quote(user)),
                ),
                Some(_) => (
                    "cannot be created: no schema of the user's `search_path` exists; create one, or change `search_path`"
                        .to_owned(),
                    String::new(),
                ),
            }
        };
        let repair = Some(repair).filter(|sql| !sql.is_empty()).into_iter().collect();
        Ok(Some(TableFault { table: table.name.clone(), problems: vec![problem], repair }))
    }
}

fn too_long(table: &Table) -> Option<&String> {
    let names = table.columns.iter().map(|column| &column.name).chain(&table.id).chain([&table.name]);
    names.into_iter().find(|name| name.len() > NAME_BYTES_MAX)
}
