//! Finds the privileges that the user lacks for a view's table.

use super::{Session, repair_sql};
use crate::store::StoreError;
use crate::store::table_fault::TableFault;
use crate::store::tables::Table;

impl Session {
    /// Explains the statements that the view will run, because an explanation needs the same privileges. Reading the
    /// user's grants instead would miss those of roles. Privileges for a missing table cannot be checked in this way.
    pub async fn missing_rights(
        &mut self,
        table: &Table,
        exists: bool,
    ) -> Result<Option<TableFault>, StoreError> {
        if !exists {
            return Ok(None);
        }
        let name = repair_sql::name(&table.name);
        let columns: Vec<String> =
            table.columns.iter().map(|column| repair_sql::name(&column.name)).collect();
        let (all, first) = (columns.join(", "), &columns[0]);
        let mut statements = vec![
            format!("EXPLAIN SELECT {all} FROM {name}"),
            format!("EXPLAIN INSERT INTO {name} ({all}) VALUES ({})", vec!["NULL"; columns.len()].join(", ")),
        ];
        // Rows without a key are never updated in the normal course.
        if let (None, Some(last)) = (&table.id, columns.last()) {
            statements.push(format!("EXPLAIN UPDATE {name} SET {last} = NULL WHERE {first} IS NULL"));
        }
        let (mut problems, mut repair) = (Vec::new(), Vec::new());
        for sql in statements {
            match self.rows(&sql, &[]).await {
                Err(StoreError::Blocked(reason)) if reason.contains(" command denied to user ") => {
                    let (reason, grant) = reason.split_once("; to fix it, run: ").unwrap_or((&reason, ""));
                    problems.push(format!("cannot be used: {reason}"));
                    if !grant.is_empty() && !repair.iter().any(|known| known == grant) {
                        repair.push(grant.to_owned());
                    }
                }
                Err(error @ (StoreError::Transient(_) | StoreError::Closed)) => return Err(error),
                // Some servers explain less than they run. Only the refusals count.
                _ => {}
            }
        }
        // No transaction is open that could have failed.
        self.transaction_failed = false;
        let refused = !problems.is_empty();
        Ok(refused.then(|| TableFault { table: table.name.clone(), problems, repair }))
    }
}
