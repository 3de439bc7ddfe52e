//! Merges the files of the configuration: the defaults, the presets and the user's file become one table, in which
//! every value still knows the file and line that it comes from.

use std::borrow::Cow;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::location::{Declared, Location};
use super::{ConfigError, Preset};

/// Sections are merged setting by setting. A setting replaces the one below as a whole, and so does an inner section
/// such as `[view.NAME]`. Only the inner sections of these are merged setting by setting, too.
const MERGED_INSIDE: [&str; 2] = ["source", "read"];

/// The sections whose inner sections have a `kind`.
const OF_KINDS: [&str; 2] = ["source", "view"];

/// The files in their order: the last one wins.
#[derive(Default)]
pub struct Layers(Vec<Layer>);

struct Layer {
    name: String,
    built_in: bool,
    /// The file's text, after spaces in place of all files before it, so that an offset belongs to one file only.
    text: String,
    begin: usize,
}

impl Layers {
    pub fn add(&mut self, name: &str, text: &str, built_in: bool) {
        let begin = self.0.last().map_or(0, |layer| layer.text.len() + 1);
        let text = " ".repeat(begin) + text.trim_start_matches('\u{feff}');
        self.0.push(Layer { name: name.to_owned(), built_in, text, begin });
    }

    /// Reads the merged files.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        self.deserialize(self.merged()?)
    }

    /// Reads the merged files, in which a section of several kinds such as `[view.NAME]` has become a table with one
    /// key, its kind. So each kind reads its own settings, and errors name the line of the setting.
    pub fn read_by_kind<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        let mut merged = self.merged()?;
        for of in OF_KINDS {
            let Some(DeValue::Table(sections)) = merged.get_mut(of).map(Spanned::get_mut) else { continue };
            for (name, section) in sections.iter_mut() {
                let whole = section.span();
                let DeValue::Table(settings) = section.get_mut() else { continue };
                let kind = match settings.remove("kind") {
                    Some(kind) => kind,
                    None => return Err(self.no_kind(of, name)),
                };
                let (span, DeValue::String(kind)) = (kind.span(), kind.into_inner()) else {
                    let reason = format!("{of} `{}` has a `kind` that is not a text", name.get_ref());
                    return Err(ConfigError::at(&self.location(name.span()), reason));
                };
                let settings = Spanned::new(whole, DeValue::Table(std::mem::take(settings)));
                *section.get_mut() =
                    DeValue::Table(DeTable::from_iter([(Spanned::new(span, kind), settings)]));
            }
        }
        self.deserialize(merged)
    }

    fn no_kind(&self, of: &str, name: &Spanned<Cow<'_, str>>) -> ConfigError {
        let section = format!("{of}.{}", name.get_ref());
        let on = |preset: &Preset| self.0.iter().any(|layer| layer.name == preset.file_name());
        let reason = match Preset::declaring(&section).filter(|preset| !on(preset)) {
            Some(preset) => preset.is_not_on(),
            None => "needs a `kind`".to_owned(),
        };
        ConfigError::at(&self.location(name.span()), format!("{of} `{}` {reason}", name.get_ref()))
    }

    fn merged(&self) -> Result<DeTable<'_>, ConfigError> {
        let mut merged = DeTable::new();
        for layer in &self.0 {
            let table = DeTable::parse(&layer.text).map_err(|error| self.wrong(&error, layer.begin))?;
            merged =
                merge(merged, table.into_inner(), |name| if MERGED_INSIDE.contains(&name) { 2 } else { 1 });
        }
        self.expect_section(&merged, "store", "url")?;
        Ok(merged)
    }

    fn deserialize<T: DeserializeOwned>(&self, merged: DeTable<'_>) -> Result<T, ConfigError> {
        let begin = self.0.last().map_or(0, |layer| layer.begin);
        let reader = Deserializer::from(Spanned::new(begin..begin, merged));
        T::deserialize(reader).map_err(|error| self.wrong(&error, begin))
    }

    /// Returns a value with the place where it is written.
    pub fn declared<T>(&self, value: Spanned<T>) -> Declared<T> {
        let location = self.location(value.span());
        Declared { value: value.into_inner(), location }
    }

    /// Fails if `name` is set to a value where a section belongs. The library's message would show the value, which may
    /// contain a password.
    fn expect_section(&self, merged: &DeTable<'_>, name: &str, setting: &str) -> Result<(), ConfigError> {
        match merged.get(name) {
            Some(value) if !matches!(value.get_ref(), DeValue::Table(_)) => {
                let reason =
                    format!("`{name}` is a section: write `[{name}]`, and `{setting} = \"...\"` below it");
                Err(ConfigError::at(&self.location(value.span()), reason))
            }
            _ => Ok(()),
        }
    }

    fn wrong(&self, error: &toml::de::Error, otherwise: usize) -> ConfigError {
        let span = error.span().unwrap_or(otherwise..otherwise);
        ConfigError::at(&self.location(span), error.message().replace('\n', " "))
    }

    fn location(&self, span: Range<usize>) -> Location {
        let layer = self.0.iter().rev().find(|layer| layer.begin <= span.start);
        let Some(layer) = layer else { return Location::default() };
        let before = &layer.text.as_bytes()[layer.begin..span.start.min(layer.text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Location { file: layer.name.clone(), line, built_in: layer.built_in }
    }
}

/// Merges the settings of `above` into `below`, in the order of `below`. `depth` is the number of levels of tables that
/// are merged under a key.
fn merge<'t>(below: DeTable<'t>, mut above: DeTable<'t>, depth: impl Fn(&str) -> usize) -> DeTable<'t> {
    let mut merged = DeTable::new();
    for (key, lower) in below {
        let Some((upper_key, upper)) = above.remove_entry(key.get_ref().as_ref()) else {
            merged.insert(key, lower);
            continue;
        };
        let levels = depth(key.get_ref());
        let span = upper.span();
        let value = match (lower.into_inner(), upper.into_inner()) {
            (DeValue::Table(lower), DeValue::Table(upper)) if levels > 0 => {
                DeValue::Table(merge_levels(lower, upper, levels - 1))
            }
            (_, upper) => upper,
        };
        // Key and span are the upper ones, so that an error names the file that changed the value.
        merged.insert(upper_key, Spanned::new(span, value));
    }
    merged.extend(above);
    merged
}

fn merge_levels<'t>(below: DeTable<'t>, above: DeTable<'t>, levels: usize) -> DeTable<'t> {
    merge(below, above, |_| levels)
}

#[cfg(test)]
mod tests {
    use toml::Table;

    use super::*;

    #[test]
    fn the_last_file_wins_and_errors_name_the_file_that_they_come_from() {
        let mut layers = Layers::default();
        layers.add(
            "one",
            "listen = [1]\n[source.a]\npath = \"/a\"\nids = true\n[view.v]\nfrom = \"s\"",
            true,
        );
        layers.add("two", "\u{feff}[source.a]\npath = \"/b\"\n[view.v]\nkind = \"table\"", false);
        let merged = layers.read::<Table>().expect("valid");
        let names: Vec<&String> = merged.keys().collect();
        assert_eq!(names, ["listen", "source", "view"], "the order of the first file is kept");
        let expected = "listen = [1]\n[source.a]\npath = \"/b\"\nids = true\n[view.v]\nkind = \"table\"";
        assert_eq!(merged, expected.parse().expect("valid"));

        #[derive(Debug, serde::Deserialize)]
        struct Ports {
            #[allow(dead_code)]
            listen: Vec<u16>,
        }
        layers.add("three", "\nlisten = 7", false);
        let error = layers.read::<Ports>().expect_err("no list").to_string();
        assert!(error.starts_with("three:2: invalid type"), "{error}");
        layers.add("four", "[log", false);
        let error = layers.read::<Ports>().expect_err("no TOML").to_string();
        assert!(error.starts_with("four:1: "), "{error}");
    }
}
