//! Merges the files of the configuration: the defaults, the presets, the user's file, and settings from options and
//! variables become one table, in which every value still knows its file, line and column.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use super::location::{Location, Locations, SettingPath};
use super::syntax;

/// Sections are merged setting by setting. A setting replaces the one below as a whole, and so does an inner section
/// such as `[view.NAME]`. Only the inner sections of these are merged setting by setting, too, and views of this kind:
/// people change where they deliver to, and not what they consist of. An option or a variable changes a single setting,
/// wherever it is.
const MERGED_INSIDE: [&str; 2] = ["source", "read"];
const MERGED_VIEWS: &str = "notifications";

/// The origin of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file of millrace, which the user cannot edit.
    BuiltIn,
    /// The user's file.
    File,
    /// An option or a variable, which has no lines.
    Outside,
}

/// The files in their order: the last one wins.
#[derive(Default)]
pub struct Layers(Vec<Layer>);

struct Layer {
    name: String,
    origin: Origin,
    /// The file's text, after spaces in place of all files before it, so that an offset belongs to one file only.
    text: String,
    begin: usize,
}

impl Layers {
    pub fn add(&mut self, name: &str, text: &str, origin: Origin) {
        let begin = self.0.last().map_or(0, |layer| layer.text.len() + 1);
        let text = " ".repeat(begin) + text.trim_start_matches('\u{feff}');
        self.0.push(Layer { name: name.to_owned(), origin, text, begin });
    }

    /// Returns all files as one table, and the errors in their syntax. A file with such an error is left out: the rest
    /// of it could be misunderstood.
    pub fn merged(&self) -> (DeTable<'_>, Vec<ConfigError>) {
        let (mut merged, mut errors) = (DeTable::new(), Vec::new());
        for layer in &self.0 {
            let (table, wrong) = DeTable::parse_recoverable(&layer.text);
            if wrong.is_empty() {
                let inside = |name: &str| layer.origin == Origin::Outside || MERGED_INSIDE.contains(&name);
                let levels = |name: &str| if inside(name) { 2 } else { 1 };
                merged = merge(merged, table.into_inner(), levels);
                continue;
            }
            for (span, reason) in syntax::in_plain_words(&layer.text, &wrong) {
                errors.push(ConfigError { location: self.location(&span), reason });
            }
        }
        (merged, errors)
    }

    /// Returns the places of all settings of the merged table.
    pub fn locations(&self, merged: &DeTable<'_>) -> Locations {
        let mut locations = Locations::default();
        self.add_table(&mut locations, &Vec::new(), merged);
        locations
    }

    fn add_table(&self, locations: &mut Locations, path: &SettingPath, table: &DeTable<'_>) {
        for (name, value) in table {
            let path = [path.as_slice(), &[name.get_ref().to_string()]].concat();
            self.add_value(locations, path, Some(self.location(&name.span())), value);
        }
    }

    fn add_value(
        &self,
        locations: &mut Locations,
        path: SettingPath,
        name: Option<Location>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let mut place = self.location(&value.span());
        match value.get_ref() {
            DeValue::Table(table) => {
                self.add_table(locations, &path, table);
                // The place of a section is the place of its name.
                place = name.clone().unwrap_or(place);
            }
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let path = [path.as_slice(), &[index.to_string()]].concat();
                    self.add_value(locations, path, None, item);
                }
            }
            _ => {}
        }
        locations.add(path, name, place);
    }

    fn location(&self, span: &Range<usize>) -> Location {
        let layer = self.0.iter().rev().find(|layer| layer.begin <= span.start);
        let Some(layer) = layer else { return Location::default() };
        let before = &layer.text.as_bytes()[layer.begin..span.start.min(layer.text.len())];
        let line_at = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let (line, column) = match layer.origin {
            Origin::Outside => (0, 0),
            _ => (
                before.iter().filter(|byte| **byte == b'\n').count() + 1,
                String::from_utf8_lossy(&before[line_at..]).chars().count() + 1,
            ),
        };
        Location { built_in: layer.origin == Origin::BuiltIn, file: layer.name.clone(), line, column }
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
            (DeValue::Table(lower), DeValue::Table(upper)) if is_merged_view(&lower, &upper) => {
                DeValue::Table(merge_levels(lower, upper, 0))
            }
            (_, upper) => upper,
        };
        // Key and span are the upper ones, so that an error names the file that changed the value.
        merged.insert(upper_key, Spanned::new(span, value));
    }
    merged.extend(above);
    merged
}

/// Returns whether both are views of the kind that is merged. The upper one may leave the kind out.
fn is_merged_view(lower: &DeTable<'_>, upper: &DeTable<'_>) -> bool {
    let kind =
        |table: &DeTable<'_>| table.get("kind").map(|kind| kind.get_ref().as_str() == Some(MERGED_VIEWS));
    kind(lower) == Some(true) && kind(upper) != Some(false)
}

fn merge_levels<'t>(below: DeTable<'t>, above: DeTable<'t>, levels: usize) -> DeTable<'t> {
    merge(below, above, |_| levels)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use toml::Table;

    use super::*;
    use crate::config::toml_reader::Reader;

    #[test]
    fn the_last_file_wins_and_each_value_knows_its_place() {
        let mut layers = Layers::default();
        layers.add(
            "one",
            "listen = [1]\n[source.a]\npath = \"/a\"\nids = true\n[view.v]\nfrom = \"s\"",
            Origin::BuiltIn,
        );
        layers.add("two", "\u{feff}[source.a]\npath = \"/b\"\n[view.v]\nkind = \"table\"", Origin::File);
        let (merged, errors) = layers.merged();
        assert_eq!(errors, []);
        let locations = layers.locations(&merged);
        let place = |path: &[&str]| locations.of(path).to_string();
        assert_eq!(place(&["source", "a", "path"]), "two:2:8");
        assert_eq!(place(&["source", "a", "ids"]), "one:4:7");
        assert_eq!(place(&["source", "a", "none"]), "two:1:9");
        assert_eq!(place(&["listen", "0"]), "one:1:11");
        let merged = Table::deserialize(Reader::new(&DeValue::Table(merged))).expect("valid");
        let names: Vec<&String> = merged.keys().collect();
        assert_eq!(names, ["listen", "source", "view"], "the order of the first file is kept");
        let expected = "listen = [1]\n[source.a]\npath = \"/b\"\nids = true\n[view.v]\nkind = \"table\"";
        assert_eq!(merged, expected.parse().expect("valid"));
        layers.add("three", "a = 1\n[log", Origin::File);
        let (_, errors) = layers.merged();
        assert!(errors[0].to_string().starts_with("three:2:5: "), "{errors:?}");
    }
}
