//! Errors in the settings of one section of the configuration. Each kind of source and view checks its own section,
//! and the configuration adds file, line and column.

/// An error in one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingError {
    /// The names that lead from the section to the setting, such as `columns` and `total`. Empty for the section itself.
    pub path: Vec<String>,
    /// Continues a sentence that begins with the name of the section.
    pub reason: String,
}

/// All errors of a section, so that a user can correct them together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingErrors(Vec<SettingError>);

impl SettingErrors {
    pub fn add(&mut self, path: &[&str], reason: impl Into<String>) {
        let path = path.iter().map(|&name| name.to_owned()).collect();
        self.0.push(SettingError { path, reason: reason.into() });
    }

    /// Returns the value, or adds the error and returns `None`.
    pub fn take<T>(&mut self, path: &[&str], outcome: Result<T, String>) -> Option<T> {
        outcome.map_err(|reason| self.add(path, reason)).ok()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl IntoIterator for SettingErrors {
    type Item = SettingError;
    type IntoIter = std::vec::IntoIter<SettingError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
