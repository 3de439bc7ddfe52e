//! The file and line of a setting, for error messages.

use std::fmt;

/// The file and line of a declaration, for errors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    pub file: String,
    pub line: usize,
    /// The file belongs to millrace, so the user cannot edit it.
    pub built_in: bool,
}

/// Returns which of two conflicting sections an error names: the user's, because a built-in one cannot be changed.
pub fn user_location([one, other]: [&Location; 2]) -> &Location {
    if one.built_in { other } else { one }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// A value, and where it is declared.
#[derive(Clone, Debug)]
pub struct Declared<T> {
    pub value: T,
    pub location: Location,
}
