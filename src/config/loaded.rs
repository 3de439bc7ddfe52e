//! Loads the configuration with all its errors.

use std::path::Path;

use event::{nearest, suggestion};
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::checks::Checks;
use super::error::ConfigError;
use super::file::{DEFAULT, File};
use super::layers::{Layers, Origin};
use super::location::{Location, Locations};
use super::toml_reader::Reader;
use super::{Config, ConfigErrors, Overrides, Preset, collect_errors, describe_error};

/// The configuration as far as it could be read, and all errors so far. Later checks may add more.
pub struct Loaded {
    /// Without the parts that have errors.
    pub config: Config,
    errors: Vec<ConfigError>,
    locations: Locations,
    /// The user's file could not be read at all, so that the rest says nothing about it.
    pub is_file_unread: bool,
}

/// The files in their order, and the presets that are on.
pub struct Files {
    pub layers: Layers,
    pub presets: Vec<Preset>,
    errors: Vec<ConfigError>,
    is_file_unread: bool,
}

impl Loaded {
    pub fn read(path: Option<&Path>, overrides: &Overrides) -> Self {
        let Files { layers, presets, mut errors, is_file_unread } = Files::open(path, overrides);
        let (merged, wrong) = layers.merged();
        let is_file_unread = is_file_unread || !wrong.is_empty();
        errors.extend(wrong);
        let mut locations = layers.locations(&merged);
        let mut tree = DeValue::Table(merged);
        let reading = collect_errors::read::<File>(&mut tree, &mut locations);
        let is_on = |preset: &Preset| presets.contains(preset);
        errors.extend(reading.errors.iter().map(|error| describe_error::describe(error, &locations, is_on)));
        let mut checks =
            Checks { locations: &locations, incomplete: &reading.incomplete, errors: &mut errors };
        let config = reading.value.check(presets, overrides, &mut checks);
        Self { config, errors, locations, is_file_unread }
    }

    /// Adds an error about the setting at `path`.
    pub fn refuse(&mut self, path: &[&str], reason: impl Into<String>) {
        self.errors.push(ConfigError { location: self.locations.of(path), reason: reason.into() });
    }

    /// Adds an error about an option or a variable.
    pub fn refuse_outside(&mut self, place: &str, reason: impl Into<String>) {
        let location = Location { file: place.to_owned(), ..Location::default() };
        self.errors.push(ConfigError { location, reason: reason.into() });
    }

    /// Fails with all errors, if there are any.
    pub fn checked(self) -> Result<Config, ConfigErrors> {
        ConfigErrors::new(self.errors).map_or(Ok(self.config), Err)
    }
}

impl Files {
    /// Opens the defaults, the presets, the store of the replaced services, the user's file, the batches of the replaced
    /// services, and the overrides.
    pub fn open(path: Option<&Path>, overrides: &Overrides) -> Self {
        let mut errors = Vec::new();
        let outside = |file: String| Location { file, ..Location::default() };
        let text = path.and_then(|path| {
            let unreadable = |error: std::io::Error| {
                let location = outside(path.display().to_string());
                ConfigError { location, reason: format!("the file cannot be read: {error}") }
            };
            std::fs::read_to_string(path).map_err(|error| errors.push(unreadable(error))).ok()
        });
        let is_file_unread = path.is_some() && text.is_none();
        let user = path.zip(text.as_deref()).map(|(path, text)| (path.display().to_string(), text));
        let mut only = Layers::default();
        if let Some((name, text)) = &user {
            only.add(name, text, Origin::File);
        }
        // Errors in the syntax of the user's file are reported later, together with all others.
        let (table, _) = only.merged();
        let presets = match &user {
            Some(_) => presets(&table, &only.locations(&table), &mut errors),
            None => Preset::ALL.to_vec(),
        };
        let mut layers = Layers::default();
        layers.add("default.toml", DEFAULT, Origin::BuiltIn);
        for preset in &presets {
            layers.add(&preset.file_name(), preset.text, Origin::BuiltIn);
        }
        let legacy = &overrides.legacy_env;
        match &legacy.store_url {
            Some(Ok(url)) => {
                let url = toml::Value::from(url.as_str());
                layers.add(&legacy.store_from(), &format!("[store]\nurl = {url}\n"), Origin::Outside);
            }
            // With another database, events would be missing from the one that other programs read.
            Some(Err(reason)) if overrides.store_url.is_none() && !names_store(&table) => {
                let reason = format!("{reason}; correct it, or set `[store] url` in the configuration");
                errors.push(ConfigError { location: outside("environment or .env".to_owned()), reason });
            }
            _ => {}
        }
        if let Some((name, text)) = &user {
            layers.add(name, text, Origin::File);
        }
        if let Some(setting) = legacy.batch.and_then(|batch| batch.setting(&presets, &table)) {
            layers.add(&legacy.batch_from(), &setting, Origin::Outside);
        }
        add_overrides(&mut layers, overrides);
        Self { layers, presets, errors, is_file_unread }
    }
}

fn add_overrides(layers: &mut Layers, overrides: &Overrides) {
    let mut add = |name: &str, text: String| layers.add(name, &text, Origin::Outside);
    let legacy = &overrides.legacy_env;
    match (overrides.listen.as_slice(), legacy.port) {
        ([], None) => {}
        ([], Some(port)) => add(&legacy.port_from(), format!("listen = [\"localhost:{port}\"]\n")),
        (listen, _) => {
            add("--listen or MILLRACE_LISTEN", format!("listen = {}\n", toml::Value::from(listen.to_vec())));
        }
    }
    if let Some(retry) = legacy.retry_setting() {
        add("MAX_RETRIES", retry);
    }
    if let Some(url) = &overrides.log_url {
        add("--log or MILLRACE_LOG", format!("[log]\nurl = {}\n", toml::Value::from(url.as_str())));
    }
    if let Some(url) = &overrides.store_url {
        add("--store or MILLRACE_STORE", format!("[store]\nurl = {}\n", toml::Value::from(url.as_str())));
    }
}

/// Returns the presets that the user's file lists, in a fixed order. For a misspelt name, returns the one that was
/// probably meant, so that errors in its sections are found as well.
fn presets(user: &DeTable<'_>, locations: &Locations, errors: &mut Vec<ConfigError>) -> Vec<Preset> {
    let Some(list) = user.get("presets") else { return Vec::new() };
    let all = || Preset::ALL.into_iter().map(|preset| preset.name);
    let names = match Vec::<String>::deserialize(Reader::new(list.get_ref())) {
        Ok(names) => names,
        Err(_) => {
            let reason = "`presets` must be a list of names in quotes, such as `presets = [\"revenue\"]`";
            let reason = format!("{reason} (presets: `{}`)", all().collect::<Vec<_>>().join("`, `"));
            errors.push(ConfigError { location: locations.of(&["presets"]), reason });
            return Preset::ALL.to_vec();
        }
    };
    let mut on = Vec::new();
    for (index, name) in names.iter().enumerate() {
        if Preset::named(name).is_none() {
            let reason = format!(
                "`presets` lists `{name}`, which does not exist{}",
                suggestion(name, "presets", all())
            );
            errors.push(ConfigError { location: locations.of(&["presets", &index.to_string()]), reason });
        }
        on.extend(Preset::named(name).or_else(|| nearest(name, all()).and_then(Preset::named)));
    }
    Preset::ALL.into_iter().filter(|preset| on.contains(preset)).collect()
}

fn names_store(user: &DeTable<'_>) -> bool {
    match user.get("store").map(Spanned::get_ref) {
        Some(DeValue::Table(store)) => store.contains_key("url"),
        _ => false,
    }
}
