//! Errors in the configuration. All of them are reported together, in the order of the file.

use std::fmt;

use super::location::Location;

/// One error, shown as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub location: Location,
    pub reason: String,
}

/// All errors of a configuration. There is at least one, and each is one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// Returns `None` if there is no error.
    pub fn new(mut errors: Vec<ConfigError>) -> Option<Self> {
        // Errors about one place stay in the order in which they were found.
        errors.sort_by(|one, other| one.location.cmp(&other.location));
        errors.dedup();
        (!errors.is_empty()).then_some(Self(errors))
    }

    /// Returns the errors in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }

    /// Returns the number of errors, in words.
    pub fn summary(&self) -> String {
        match self.0.len() {
            1 => "the configuration has 1 error".to_owned(),
            errors => format!("the configuration has {errors} errors"),
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Some reasons come from other libraries and have several lines.
        write!(f, "{}: {}", self.location, self.reason.replace('\n', " "))
    }
}
