//! Why the gate or a view stands still, as its store's errors say.

use super::StoreError;

#[derive(Debug)]
pub enum Halt {
    /// Until a person, or a later look, says otherwise.
    Pause(String),
    /// It goes by itself, or the position has to be read again.
    Wait(String),
}

impl From<StoreError> for Halt {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Transient(_) | StoreError::Claimed { .. } => Self::Wait(error.to_string()),
            StoreError::NoTable(table) if !table.starts_with("millrace_") => Self::Pause(format!(
                "table `{table}` does not exist: put it back as it was, or have `millrace rebuild` make it anew from the log"
            )),
            StoreError::Data(_) | StoreError::Blocked(_) | StoreError::NoTable(_) | StoreError::Closed => {
                Self::Pause(error.to_string())
            }
        }
    }
}
