//! Places in the configuration, for error messages: file, line and column of each setting.

use std::collections::BTreeMap;
use std::fmt;

/// The place of a setting.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The file belongs to millrace, so the user cannot edit it.
    pub built_in: bool,
    pub file: String,
    /// 0 if the setting does not come from a file, but from an option or a variable.
    pub line: usize,
    /// Counts characters from 1.
    pub column: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

/// The names that lead to a setting, such as `view`, `orders` and `amount`. An element of a list has its index as name.
pub type SettingPath = Vec<String>;

/// The places of all settings.
#[derive(Clone, Debug, Default)]
pub struct Locations {
    names: BTreeMap<SettingPath, Location>,
    values: BTreeMap<SettingPath, Location>,
}

impl Locations {
    pub fn add(&mut self, path: SettingPath, name: Option<Location>, value: Location) {
        if let Some(name) = name {
            self.names.insert(path.clone(), name);
        }
        self.values.insert(path, value);
    }

    /// Returns the place of a setting's value, or of the section's name if the setting is not in a file.
    pub fn of<S: AsRef<str>>(&self, path: &[S]) -> Location {
        let whole: SettingPath = path.iter().map(|name| name.as_ref().to_owned()).collect();
        let found = (1..=whole.len()).rev().find_map(|length| {
            let places = if length == whole.len() { &self.values } else { &self.names };
            places.get(&whole[..length])
        });
        found.cloned().unwrap_or_default()
    }

    /// Returns the place of a setting's name.
    pub fn of_name<S: AsRef<str>>(&self, path: &[S]) -> Location {
        let whole: SettingPath = path.iter().map(|name| name.as_ref().to_owned()).collect();
        self.names.get(&whole).cloned().unwrap_or_else(|| self.of(path))
    }

    /// Notes that the setting at `path` is read under another name.
    pub fn rename(&mut self, path: &[String], name: &str) {
        let renamed = |old: &SettingPath| {
            let mut new = old.clone();
            name.clone_into(&mut new[path.len() - 1]);
            new
        };
        for places in [&mut self.names, &mut self.values] {
            let moved: Vec<(SettingPath, Location)> = places
                .iter()
                .filter(|(old, _)| old.starts_with(path))
                .map(|(old, place)| (renamed(old), place.clone()))
                .collect();
            places.extend(moved);
        }
    }
}
