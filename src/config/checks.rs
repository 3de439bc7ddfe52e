//! Collects the errors of the checks that follow reading: names that do not exist, settings that contradict each other.

use std::collections::BTreeSet;

use event::SettingErrors;

use super::error::ConfigError;
use super::location::{Location, Locations, SettingPath};

pub struct Checks<'a> {
    pub locations: &'a Locations,
    /// The sections of which a part could not be read.
    pub incomplete: &'a BTreeSet<SettingPath>,
    pub errors: &'a mut Vec<ConfigError>,
}

impl Checks<'_> {
    /// Returns whether every setting of the section could be read. The others are not checked.
    pub fn is_complete(&self, section: &[&str]) -> bool {
        !self.incomplete.iter().any(|path| path.iter().eq(section.iter()))
    }

    pub fn error(&mut self, path: &[&str], reason: impl Into<String>) {
        self.errors.push(ConfigError { location: self.locations.of(path), reason: reason.into() });
    }

    /// Adds an error about two settings. It names the place of the user's one, because a built-in one cannot be changed.
    pub fn conflict(&mut self, [one, other]: [&[&str]; 2], reason: String) {
        let user = |location: &Location| !location.built_in;
        let location = Some(self.locations.of(one)).filter(user).unwrap_or_else(|| self.locations.of(other));
        self.errors.push(ConfigError { location, reason });
    }

    /// Adds the errors of `[TOP.NAME]`. Returns whether there are none.
    pub fn section(&mut self, top: &str, name: &str, errors: SettingErrors) -> bool {
        let is_valid = errors.is_empty();
        for error in errors {
            let path = [vec![top.to_owned(), name.to_owned()], error.path].concat();
            let reason = format!("{top} `{name}` {}", error.reason);
            self.errors.push(ConfigError { location: self.locations.of(&path), reason });
        }
        is_valid
    }
}
