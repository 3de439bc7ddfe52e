//! The configuration as it is written, and its check.

use std::collections::BTreeMap;

use event::WrittenDuration;
use serde::Deserialize;
use serde::de::IgnoredAny;
use toml::Spanned;

use super::layers::Layers;
use super::location::{Declared, Location};
use super::read::{ReadSection, check_reads};
use super::source::check_sources;
use super::store::StoreSection;
use super::stream::{StreamSection, check_streams};
use super::view::check_views;
use super::{Config, ConfigError, ListenAt, Overrides, Preset, StoreAt, Tls};
use crate::http::{Limits, Network};
use crate::sources::Source;
use crate::views::{RetentionPolicy, ViewSection};

/// The settings outside of presets.
pub const DEFAULT: &str = include_str!("default.toml");

/// All files together, as they are written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Read before, by [`UserFile`].
    #[serde(rename = "presets")]
    _presets: Option<IgnoredAny>,
    listen: Option<Spanned<Vec<String>>>,
    tls: Option<Tls>,
    hosts: Option<Vec<String>>,
    trusted_proxies: Option<Vec<Network>>,
    log: Option<Url>,
    #[serde(default)]
    store: StoreSection,
    dedup: Option<DedupSection>,
    retention: Option<Spanned<RetentionPolicy>>,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    source: BTreeMap<Spanned<String>, Source>,
    #[serde(default)]
    stream: BTreeMap<Spanned<String>, StreamSection>,
    #[serde(default)]
    view: BTreeMap<Spanned<String>, ViewSection>,
    #[serde(default)]
    read: BTreeMap<Spanned<String>, ReadSection>,
}

/// The settings of the user's file that decide which files are merged below it.
#[derive(Default, Deserialize)]
pub struct UserFile {
    pub presets: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    pub store: StoreSection,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Url {
    url: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DedupSection {
    window: WrittenDuration,
}

impl File {
    /// `layers` are the files that this was read from, for the locations in errors.
    pub fn check(
        mut self,
        layers: &Layers,
        presets: Vec<Preset>,
        overrides: &Overrides,
    ) -> Result<Config, ConfigError> {
        let listen = self.listen.take().map(|listen| layers.declared(listen));
        let (listen, store) = (self.listen_at(listen, overrides)?, self.store_of(overrides)?);
        let streams = check_streams(&sections(self.stream, layers))?;
        let views = check_views(&sections(self.view, layers), &streams)?;
        let sources = sections(self.source, layers);
        check_sources(&sources, &streams)?;
        let reads = check_reads(&sections(self.read, layers), &views, &sources)?;
        let retention = match self.retention.map(|retention| layers.declared(retention)) {
            Some(Declared { value: retention, location }) => {
                let wrong = |reason| ConfigError::at(&location, format!("`[retention]` {reason}"));
                retention.check(|stream| streams.contains_key(stream), &views).map_err(wrong)?;
                retention
            }
            None => RetentionPolicy::default(),
        };
        Ok(Config {
            presets,
            listen,
            tls: self.tls,
            limits: self.limits,
            hosts: self.hosts.unwrap_or_default(),
            trusted_proxies: self.trusted_proxies.unwrap_or_default(),
            log_url: overrides.log_url.clone().or(self.log.map(|log| log.url)).unwrap_or_default(),
            store,
            dedup_window: self.dedup.map_or(event::limits::DEDUP_WINDOW_DEFAULT, |dedup| dedup.window.0),
            sources: sources.into_iter().map(|(name, source)| (name, source.value)).collect(),
            streams,
            views,
            reads,
            retention,
        })
    }

    fn store_of(&self, overrides: &Overrides) -> Result<StoreAt, ConfigError> {
        let in_file = self.store.url.as_deref().unwrap_or_default();
        let legacy = matches!(&overrides.legacy_store_url, Some(Ok(url)) if url == in_file);
        let (url, url_in) = match &overrides.store_url {
            Some(url) => (url.as_str(), "`--store` or `MILLRACE_STORE`"),
            None if legacy => (in_file, overrides.legacy_password_in),
            None => (in_file, "`[store] url`"),
        };
        self.store.check(url, url_in, overrides.store_password.as_deref())
    }

    fn listen_at(
        &self,
        declared: Option<Declared<Vec<String>>>,
        overrides: &Overrides,
    ) -> Result<Vec<ListenAt>, ConfigError> {
        let command_line = Location { file: "--listen".to_owned(), line: 0, built_in: false };
        let (texts, location) = match (&declared, overrides.listen.is_empty()) {
            (_, false) => (&overrides.listen, &command_line),
            (Some(listen), true) => (&listen.value, &listen.location),
            (None, true) => return Ok(Vec::new()),
        };
        if texts.is_empty() {
            return Err(ConfigError::at(
                location,
                "`listen` names no address; remove it to listen on `localhost:8000`".to_owned(),
            ));
        }
        let checked = |text: &String| {
            let listen = ListenAt::parse(text, location)?;
            if listen.tls && self.tls.is_none() {
                Err(ConfigError::at(location, format!("`{text}` needs a certificate; set one under `[tls]`")))
            } else {
                Ok(listen)
            }
        };
        texts.iter().map(checked).collect()
    }
}

/// Returns the sections by name, each with the location of its name.
fn sections<T>(written: BTreeMap<Spanned<String>, T>, layers: &Layers) -> BTreeMap<String, Declared<T>> {
    let section = |(name, value): (Spanned<String>, T)| {
        let Declared { value: name, location } = layers.declared(name);
        (name, Declared { value, location })
    };
    written.into_iter().map(section).collect()
}
