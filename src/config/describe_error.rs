//! Describes errors of reading as sentences: which section, which setting, what was expected, and which names exist.

use event::suggestion;

use super::collect_errors::NAMED_SECTIONS;
use super::error::ConfigError;
use super::location::Locations;
use super::preset::Preset;
use super::toml_reader::{KIND, ReadError, Wrong};

/// The settings that stand above all sections. A file often has them below a section by mistake.
const SINGLE_SETTINGS: [&str; 4] = ["presets", "listen", "hosts", "trusted_proxies"];

/// Returns the error with its place. `is_on` tells whether a preset is used.
pub fn describe(error: &ReadError, locations: &Locations, is_on: impl Fn(&Preset) -> bool) -> ConfigError {
    let path = &error.path;
    let (subject, setting) = split(path);
    let place = || if setting.is_empty() { subject.clone() } else { format!("{subject}, `{setting}`") };
    let location = match &error.wrong {
        Wrong::UnknownSetting { name, .. } => {
            locations.of_name(&[path.as_slice(), std::slice::from_ref(name)].concat())
        }
        _ => locations.of(path),
    };
    let reason = match &error.wrong {
        Wrong::UnknownSetting { name, names } if path.is_empty() => {
            let names = suggestion(name, "settings and sections", names.iter().copied());
            format!("`{name}` is not a setting or section{names}")
        }
        Wrong::UnknownSetting { name, .. } if SINGLE_SETTINGS.contains(&name.as_str()) => {
            format!(
                "{} has no setting `{name}`; move the line to the top of the file, above all `[sections]`",
                place()
            )
        }
        Wrong::UnknownSetting { name, names } => {
            let names = suggestion(name, "settings", names.iter().copied());
            format!("{} has no setting `{name}`{names}", place())
        }
        Wrong::UnknownWord { word, words } => {
            let what = if path.last().is_some_and(|last| last == KIND) { "kinds" } else { "values" };
            format!("{}: `{word}` does not exist{}", place(), suggestion(word, what, words.iter().copied()))
        }
        Wrong::Missing { name } => format!("{} needs the setting `{name}`", place()),
        Wrong::NoKind { kinds } => match Preset::declaring(&path.join(".")).filter(|preset| !is_on(preset)) {
            Some(preset) => format!("{subject} {}", preset.is_not_on()),
            None => format!("{subject} needs a `kind` (kinds: `{}`)", kinds.join("`, `")),
        },
        Wrong::Type { .. } if is_section(path) => {
            let name = path.join(".");
            format!("`{name}` is a section: write `[{name}]`, and its settings below it")
        }
        Wrong::Type { expected, found } => format!("{}: expected {expected}, but found {found}", place()),
        Wrong::Refused(reason) => format!("{}: {reason}", place()),
    };
    ConfigError { location, reason }
}

/// Splits a path into the section as it is named in sentences, and the setting in it. Indexes of lists are left out:
/// the column shows the element.
fn split(path: &[String]) -> (String, String) {
    let names: Vec<&str> =
        path.iter().map(String::as_str).filter(|name| name.parse::<usize>().is_err()).collect();
    match names.as_slice() {
        [] => ("the file".to_owned(), String::new()),
        [top, name, rest @ ..] if NAMED_SECTIONS.contains(top) => (format!("{top} `{name}`"), rest.join(".")),
        [single] if SINGLE_SETTINGS.contains(single) => (format!("`{single}`"), String::new()),
        [section, rest @ ..] => (format!("`[{section}]`"), rest.join(".")),
    }
}

/// Returns whether the path leads to a section, or to all sections of one type.
fn is_section(path: &[String]) -> bool {
    match path {
        [single] => !SINGLE_SETTINGS.contains(&single.as_str()),
        [top, _] => NAMED_SECTIONS.contains(&top.as_str()),
        _ => false,
    }
}
