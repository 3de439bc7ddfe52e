//! Collects the errors of a configuration while it is read. One wrong setting would end the whole deserialisation, so
//! each error is noted, its cause is taken out of the tree, and the tree is read again.

use std::borrow::Cow;
use std::collections::BTreeSet;

use event::nearest;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::location::{Locations, SettingPath};
use super::preset::Preset;
use super::toml_reader::{KIND, ReadError, Reader, TAKEN_OUT, Wrong};

/// The sections with one inner section for each name.
pub const NAMED_SECTIONS: [&str; 4] = ["source", "stream", "view", "read"];

/// The outcome of reading.
#[derive(Default)]
pub struct Reading<T> {
    pub value: T,
    pub errors: Vec<ReadError>,
    /// The sections of which a part could not be read. Checks of their meaning would report errors that follow from the
    /// missing part.
    pub incomplete: BTreeSet<SettingPath>,
}

/// Reads a tree, and corrects it at each error.
pub fn read<T: DeserializeOwned + Default>(tree: &mut DeValue<'_>, locations: &mut Locations) -> Reading<T> {
    let (mut reading, mut corrections) = (Reading::default(), Corrections::default());
    let mut last = None;
    loop {
        match T::deserialize(Reader::new(tree)) {
            Ok(value) => {
                reading.value = value;
                reading.incomplete = corrections.incomplete;
                return reading;
            }
            Err(error) => {
                let at_top = error.path.is_empty() && !matches!(error.wrong, Wrong::UnknownSetting { .. });
                let was_corrected = last.as_ref() != Some(&error);
                if !was_corrected {
                    corrections.remove(tree, &error.path);
                } else if corrections.correct(tree, locations, &error) {
                    reading.errors.push(error.clone());
                }
                if at_top {
                    return reading;
                }
                last = Some(error);
            }
        }
    }
}

/// The changes of a tree that was read with errors.
#[derive(Default)]
struct Corrections {
    incomplete: BTreeSet<SettingPath>,
    removed: BTreeSet<SettingPath>,
    /// Settings that the user's file lacks, filled in to find further errors of the same section.
    filled_in: BTreeSet<SettingPath>,
}

impl Corrections {
    /// Changes the tree so that the error does not come again. Returns whether it is worth reporting: an error that
    /// follows from an earlier correction is not.
    fn correct(&mut self, tree: &mut DeValue<'_>, locations: &mut Locations, error: &ReadError) -> bool {
        match &error.wrong {
            Wrong::UnknownSetting { name, names } => {
                let Some(DeValue::Table(table)) = find(tree, &error.path) else { return true };
                let meant = nearest(name, names.iter().copied()).filter(|meant| !table.contains_key(*meant));
                let path = [error.path.as_slice(), std::slice::from_ref(name)].concat();
                if let Some((key, value)) = table.remove_entry(name.as_str())
                    && let Some(meant) = meant
                {
                    table.insert(Spanned::new(key.span(), Cow::Borrowed(meant)), value);
                    locations.rename(&path, meant);
                }
                true
            }
            Wrong::Missing { name } => self.fill_in(tree, &error.path, name),
            Wrong::UnknownWord { word, words } => {
                if let (Some(meant), Some(value)) =
                    (nearest(word, words.iter().copied()), find(tree, &error.path))
                {
                    *value = DeValue::String(Cow::Borrowed(meant));
                    return true;
                }
                // Without its kind, nothing of a section can be read.
                let section = error.path.split_last().filter(|(last, _)| *last == KIND);
                self.remove(tree, section.map_or(error.path.as_slice(), |(_, section)| section))
            }
            Wrong::NoKind { .. } => {
                let kind = [error.path.as_slice(), &[KIND.to_owned()]].concat();
                let follows = self.removed.contains(&kind);
                self.remove(tree, &error.path) && !follows
            }
            Wrong::Type { .. } | Wrong::Refused(_) => self.remove(tree, &error.path),
        }
    }

    /// Fills in a missing setting from a preset, or removes the section if that did not help before.
    fn fill_in(&mut self, tree: &mut DeValue<'_>, section: &[String], name: &str) -> bool {
        let path = [section, &[name.to_owned()]].concat();
        let is_first = self.filled_in.insert(path.clone());
        let is_new = is_first && !self.removed.contains(&path);
        self.incomplete.insert(section_of(section));
        let Some(DeValue::Table(table)) = find(tree, section) else { return is_new };
        if is_first {
            let value = example(section, table, name).unwrap_or(DeValue::String(Cow::Borrowed("")));
            table.insert(Spanned::new(0..0, Cow::Owned(name.to_owned())), Spanned::new(0..0, value));
        } else {
            self.remove(tree, section);
        }
        is_new
    }

    fn remove(&mut self, tree: &mut DeValue<'_>, path: &[String]) -> bool {
        let follows = self.filled_in.iter().any(|filled_in| path.starts_with(filled_in));
        self.incomplete.insert(section_of(path));
        self.removed.insert(path.to_vec());
        let Some((name, parent)) = path.split_last() else { return !follows };
        match find(tree, parent) {
            Some(DeValue::Table(table)) => drop(table.remove(name.as_str())),
            // An element leaves a gap, so that the indexes of the others stay the same.
            Some(DeValue::Array(list)) => {
                if let Some(item) = name.parse().ok().and_then(|index: usize| list.get_mut(index)) {
                    *item = Spanned::new(TAKEN_OUT, DeValue::Boolean(false));
                }
            }
            _ => {}
        }
        !follows
    }
}

/// Returns the section that a setting belongs to.
fn section_of(path: &[String]) -> SettingPath {
    let is_named = path.first().is_some_and(|first| NAMED_SECTIONS.contains(&first.as_str()));
    path.iter().take(if is_named { 2 } else { 1 }).cloned().collect()
}

fn find<'v, 't>(tree: &'v mut DeValue<'t>, path: &[String]) -> Option<&'v mut DeValue<'t>> {
    path.iter().try_fold(tree, |value, name| match value {
        DeValue::Table(table) => table.get_mut(name.as_str()).map(Spanned::get_mut),
        DeValue::Array(list) => list.get_mut(name.parse::<usize>().ok()?).map(Spanned::get_mut),
        _ => None,
    })
}

/// Returns the value of a setting in a preset's section of the same kind.
fn example(section: &[String], table: &DeTable<'_>, name: &str) -> Option<DeValue<'static>> {
    let [top, _] = section else { return None };
    let kind = |table: &DeTable<'_>| match table.get(KIND).map(Spanned::get_ref) {
        Some(DeValue::String(kind)) => Some(kind.to_string()),
        _ => None,
    };
    let kind_wanted = kind(table);
    Preset::ALL.into_iter().find_map(|preset| {
        let mut preset = DeTable::parse(preset.text).ok()?.into_inner();
        let DeValue::Table(sections) = preset.remove(top.as_str())?.into_inner() else { return None };
        sections.into_iter().find_map(|(_, section)| match section.into_inner() {
            DeValue::Table(mut section) if kind(&section) == kind_wanted => {
                section.remove(name).map(Spanned::into_inner)
            }
            _ => None,
        })
    })
}
