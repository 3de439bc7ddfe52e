//! The reason why dedup or a view cannot go on after a store error.

use super::StoreError;

#[derive(Debug)]
pub enum Halt {
    /// Paused until a person acts, or until a later check finds the problem solved.
    Pause(String),
    /// The failure is temporary, or the stored position has to be read again.
    Wait(String),
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Transient(_) | StoreError::Claimed { .. } | StoreError::Redefined(_) => {
                Self::Wait(error.to_string())
            }
            StoreError::NoTable(table) if !table.starts_with("millrace_") => Self::Pause(format!(
                "table `{table}` does not exist; restore it, or run `millrace view rebuild VIEW` to recreate it from the log"
            )),
            StoreError::Data(_) | StoreError::Blocked(_) | StoreError::NoTable(_) | StoreError::Closed => {
                Self::Pause(error.to_string())
            }
        }
    }
}
