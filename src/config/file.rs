//! The configuration file as it is written, with the line numbers of its sections. One file is laid over another.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::duration::parse_duration;
use super::location::{Declared, Location};
use super::rate::parse_rate;
use super::read::{ReadSection, check_reads};
use super::retention::RetentionSection;
use super::source::{SourceSection, check_sources};
use super::store::StoreSection;
use super::stream::StreamSection;
use super::view::check_views;
use super::{Config, ConfigError, Limits, ListenAt, Network, Overrides, Preset, Retention, StoreAt, Tls};
use crate::views::{View, ViewSection};

/// The settings outside of presets.
pub const DEFAULT: &str = include_str!("default.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    presets: Option<Spanned<Vec<String>>>,
    listen: Option<Spanned<Vec<String>>>,
    tls: Option<Tls>,
    hosts: Option<Vec<String>>,
    trusted_proxies: Option<Vec<Network>>,
    log: Option<Url>,
    #[serde(default)]
    store: StoreSection,
    dedup: Option<DedupSection>,
    retention: Option<Spanned<RetentionSection>>,
    #[serde(default)]
    limits: LimitsSection,
    #[serde(default)]
    source: BTreeMap<Spanned<String>, SourceSection>,
    #[serde(default)]
    stream: BTreeMap<Spanned<String>, StreamSection>,
    #[serde(default)]
    view: BTreeMap<Spanned<String>, ViewSection>,
    #[serde(default)]
    read: BTreeMap<Spanned<String>, ReadSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Url {
    url: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DedupSection {
    window: Spanned<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsSection {
    per_key: Option<Spanned<String>>,
    per_address: Option<Spanned<String>>,
}

/// All files read so far, laid over each other.
pub struct File {
    presets: Option<Declared<Vec<String>>>,
    listen: Option<Declared<Vec<String>>>,
    tls: Option<Tls>,
    hosts: Option<Vec<String>>,
    trusted_proxies: Option<Vec<Network>>,
    log_url: Option<String>,
    store: StoreSection,
    window: Option<Declared<String>>,
    retention: Option<Declared<RetentionSection>>,
    per_key: Option<Declared<String>>,
    per_address: Option<Declared<String>>,
    sources: BTreeMap<String, Declared<SourceSection>>,
    streams: BTreeMap<String, Declared<StreamSection>>,
    views: BTreeMap<String, Declared<ViewSection>>,
    reads: BTreeMap<String, Declared<ReadSection>>,
}

impl File {
    /// Parses a file that is built in.
    pub fn built_in(text: &str, name: &str) -> Result<Self, ConfigError> {
        Self::parse(text, Location { file: name.to_owned(), line: 0, built_in: true })
    }

    /// Parses the user's file.
    pub fn of_user(text: &str, name: &str) -> Result<Self, ConfigError> {
        Self::parse(text, Location { file: name.to_owned(), line: 0, built_in: false })
    }

    fn parse(text: &str, file: Location) -> Result<Self, ConfigError> {
        let location = |at: usize| Location { line: line_of(text, at), ..file.clone() };
        let written: Written = toml::from_str(text).map_err(|error| {
            let location = error.span().map_or(file.clone(), |span| location(span.start));
            ConfigError::at(&location, error.message().replace('\n', " "))
        })?;
        Ok(Self {
            presets: written.presets.map(|presets| declared(presets, location)),
            listen: written.listen.map(|listen| declared(listen, location)),
            tls: written.tls,
            hosts: written.hosts,
            trusted_proxies: written.trusted_proxies,
            log_url: written.log.map(|log| log.url),
            store: written.store,
            window: written.dedup.map(|dedup| declared(dedup.window, location)),
            retention: written.retention.map(|retention| declared(retention, location)),
            per_key: written.limits.per_key.map(|rate| declared(rate, location)),
            per_address: written.limits.per_address.map(|rate| declared(rate, location)),
            sources: sections(written.source, location),
            streams: sections(written.stream, location),
            views: sections(written.view, location),
            reads: sections(written.read, location),
        })
    }

    /// Replaces what `other` declares: streams and views as a whole, sources and reads setting by setting.
    pub fn lay_over(&mut self, other: Self) {
        self.listen = other.listen.or(self.listen.take());
        self.tls = other.tls.or(self.tls.take());
        self.hosts = other.hosts.or(self.hosts.take());
        self.trusted_proxies = other.trusted_proxies.or(self.trusted_proxies.take());
        self.log_url = other.log_url.or(self.log_url.take());
        self.store = other.store.over(std::mem::take(&mut self.store));
        self.window = other.window.or(self.window.take());
        self.per_key = other.per_key.or(self.per_key.take());
        self.per_address = other.per_address.or(self.per_address.take());
        self.retention = other.retention.or(self.retention.take());
        lay_lines_over(&mut self.sources, other.sources, SourceSection::over);
        lay_lines_over(&mut self.reads, other.reads, ReadSection::over);
        self.streams.extend(other.streams);
        self.views.extend(other.views);
    }

    /// Returns the presets that this file lists; none without a list.
    pub fn presets(&self) -> Result<Vec<Preset>, ConfigError> {
        let Some(presets) = &self.presets else { return Ok(Vec::new()) };
        Preset::named(&presets.value).map_err(|reason| ConfigError::at(&presets.location, reason))
    }

    /// Sets the URL of the store. With `None`, no store is named until another file is laid over this one.
    pub fn store_at(&mut self, url: Option<&str>) {
        self.store.url = url.map(str::to_owned);
    }

    pub fn names_a_store(&self) -> bool {
        self.store.url.is_some()
    }

    pub fn check(self, presets: Vec<Preset>, overrides: &Overrides) -> Result<Config, ConfigError> {
        let (listen, store) = (self.listen_at(overrides)?, self.store_of(overrides)?);
        let mut streams = BTreeMap::new();
        for (name, section) in &self.streams {
            streams.insert(name.clone(), section.value.check(name, &section.location)?);
        }
        let views = check_views(&self.views, &streams)?;
        let window = self.window.map(|window| parse_duration(&window.value, &window.location)).transpose()?;
        let rate = |rate: &Option<_>| rate.as_ref().map(parse_rate).transpose();
        let limits = Limits { per_key: rate(&self.per_key)?, per_address: rate(&self.per_address)? };
        let sources = check_sources(&self.sources, &streams)?;
        let reads = check_reads(&self.reads, &views, &sources, &self.sources)?;
        let retention = match &self.retention {
            Some(retention) => {
                retention.value.check(&retention.location, &streams, |view| keeps_rows(&views, view))?
            }
            None => Retention::default(),
        };
        Ok(Config {
            presets,
            listen,
            tls: self.tls,
            limits,
            hosts: self.hosts.unwrap_or_default(),
            trusted_proxies: self.trusted_proxies.unwrap_or_default(),
            log_url: overrides.log_url.clone().or(self.log_url).unwrap_or_default(),
            store,
            dedup_window: window.unwrap_or(event::limits::DEDUP_WINDOW_DEFAULT),
            sources,
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

    fn listen_at(&self, overrides: &Overrides) -> Result<Vec<ListenAt>, ConfigError> {
        let command_line = Location { file: "--listen".to_owned(), line: 0, built_in: false };
        let (texts, location) = match (&self.listen, overrides.listen.is_empty()) {
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

/// Lays sections over those below. Two sections of the same name are merged setting by setting.
fn lay_lines_over<T>(
    below: &mut BTreeMap<String, Declared<T>>,
    other: BTreeMap<String, Declared<T>>,
    over: impl Fn(T, T) -> T,
) {
    for (name, section) in other {
        let value = match below.remove(&name) {
            Some(below) => over(section.value, below.value),
            None => section.value,
        };
        below.insert(name, Declared { value, location: section.location });
    }
}

/// Fails if view `name` does not exist, or if its rows have no age.
fn keeps_rows(views: &BTreeMap<String, View>, name: &str) -> Result<(), String> {
    match views.get(name) {
        Some(view) if view.row_table().is_some() => Ok(()),
        Some(_) => Err(format!("names view `{name}`, which is not of kind `table`: its rows have no age")),
        None => Err(format!("names view `{name}`, which is not declared")),
    }
}

fn declared<T>(spanned: Spanned<T>, location: impl Fn(usize) -> Location) -> Declared<T> {
    let location = location(spanned.span().start);
    Declared { value: spanned.into_inner(), location }
}

fn sections<T>(
    written: BTreeMap<Spanned<String>, T>,
    location: impl Fn(usize) -> Location + Copy,
) -> BTreeMap<String, Declared<T>> {
    let section = |(name, value): (Spanned<String>, T)| {
        let location = location(name.span().start);
        (name.into_inner(), Declared { value, location })
    };
    written.into_iter().map(section).collect()
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}
