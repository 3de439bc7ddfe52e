//! The files of the configuration, laid over each other: the defaults, the presets and the user's file become one
//! table, in which every value still knows the file and line that it comes from.

use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::ConfigError;
use super::location::{Declared, Location};

/// Sections whose inner sections, such as `[source.NAME]`, are merged setting by setting. Other inner sections replace
/// the ones below.
const MERGED_INSIDE: [&str; 2] = ["source", "read"];

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
        let mut merged = DeTable::new();
        for layer in &self.0 {
            let table = DeTable::parse(&layer.text).map_err(|error| self.wrong(&error, layer.begin))?;
            let depth = |name: &str| if MERGED_INSIDE.contains(&name) { 2 } else { 1 };
            lay_over(&mut merged, table.into_inner(), &depth);
        }
        let begin = self.0.last().map_or(0, |layer| layer.begin);
        let reader = Deserializer::from(Spanned::new(begin..begin, merged));
        T::deserialize(reader).map_err(|error| self.wrong(&error, begin))
    }

    /// Returns a value with the place where it is written.
    pub fn declared<T>(&self, value: Spanned<T>) -> Declared<T> {
        let location = self.location(value.span());
        Declared { value: value.into_inner(), location }
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

/// Lays a table over another. `depth` says how many levels of tables are merged under a key.
fn lay_over<'t>(below: &mut DeTable<'t>, above: DeTable<'t>, depth: &dyn Fn(&str) -> usize) {
    for (key, value) in above {
        let levels = depth(key.get_ref());
        let span = value.span();
        let value = match (below.remove(key.get_ref().as_ref()).map(Spanned::into_inner), value.into_inner())
        {
            (Some(DeValue::Table(mut lower)), DeValue::Table(upper)) if levels > 0 => {
                lay_over(&mut lower, upper, &|_| levels - 1);
                DeValue::Table(lower)
            }
            (_, value) => value,
        };
        // The key and the span are those of the upper table, so that an error names the file that changed the value.
        below.insert(key, Spanned::new(span, value));
    }
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
