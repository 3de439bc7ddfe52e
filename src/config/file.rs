//! The file as it is written: sections with the lines they begin at, one file laid over another.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;
use toml::Spanned;

use super::duration::parse_duration;
use super::read::ReadSection;
use super::stream::StreamSection;
use super::view::ViewSection;
use super::{Access, Config, ConfigError, ListenAt, LiveEvent, Overrides, ReadConfig, ViewConfig};

pub const DEFAULT: &str = include_str!("default.toml");

/// Where something was declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    file: String,
    line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// A value with its origin.
#[derive(Clone, Debug)]
pub struct Declared<T> {
    pub value: T,
    pub origin: Origin,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    listen: Option<Spanned<Vec<String>>>,
    hosts: Option<Vec<String>>,
    trusted_proxies: Option<Vec<IpAddr>>,
    log: Option<Url>,
    store: Option<Url>,
    gate: Option<GateSection>,
    #[serde(default)]
    door: BTreeMap<Spanned<String>, DoorSection>,
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
struct GateSection {
    window: Spanned<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DoorSection {
    stream: String,
    view: String,
    access: Option<Access>,
    #[serde(default)]
    public: bool,
}

/// All files read so far, laid over each other.
pub struct File {
    listen: Option<Declared<Vec<String>>>,
    hosts: Option<Vec<String>>,
    trusted_proxies: Option<Vec<IpAddr>>,
    log_url: Option<String>,
    store_url: Option<String>,
    window: Option<Declared<String>>,
    doors: BTreeMap<String, Declared<DoorSection>>,
    streams: BTreeMap<String, Declared<StreamSection>>,
    views: BTreeMap<String, Declared<ViewSection>>,
    reads: BTreeMap<String, Declared<ReadSection>>,
}

impl File {
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        let origin = |at: usize| Origin { file: name.to_owned(), line: line_of(text, at) };
        let written: Written = toml::from_str(text).map_err(|error| {
            let origin =
                error.span().map_or(Origin { file: name.to_owned(), line: 0 }, |span| origin(span.start));
            ConfigError::at(&origin, error.message().replace('\n', " "))
        })?;
        Ok(Self {
            listen: written.listen.map(|listen| declared(listen, origin)),
            hosts: written.hosts,
            trusted_proxies: written.trusted_proxies,
            log_url: written.log.map(|log| log.url),
            store_url: written.store.map(|store| store.url),
            window: written.gate.map(|gate| declared(gate.window, origin)),
            doors: sections(written.door, origin),
            streams: sections(written.stream, origin),
            views: sections(written.view, origin),
            reads: sections(written.read, origin),
        })
    }

    /// What `other` names replaces what is here.
    pub fn lay_over(&mut self, other: Self) {
        self.listen = other.listen.or(self.listen.take());
        self.hosts = other.hosts.or(self.hosts.take());
        self.trusted_proxies = other.trusted_proxies.or(self.trusted_proxies.take());
        self.log_url = other.log_url.or(self.log_url.take());
        self.store_url = other.store_url.or(self.store_url.take());
        self.window = other.window.or(self.window.take());
        self.doors.extend(other.doors);
        self.streams.extend(other.streams);
        self.views.extend(other.views);
        self.reads.extend(other.reads);
    }

    pub fn check(self, overrides: &Overrides) -> Result<Config, ConfigError> {
        let command_line = || Origin { file: "--listen".to_owned(), line: 0 };
        let listen = match overrides.listen.is_empty() {
            false => Some(Declared { value: overrides.listen.clone(), origin: command_line() }),
            true => self.listen,
        };
        let listen = match &listen {
            Some(listen) => listen
                .value
                .iter()
                .map(|text| ListenAt::parse(text, &listen.origin))
                .collect::<Result<_, _>>()?,
            None => Vec::new(),
        };
        let mut streams = BTreeMap::new();
        for (name, section) in &self.streams {
            streams.insert(name.clone(), section.value.check(name, &section.origin)?);
        }
        let mut views = BTreeMap::new();
        for (name, section) in &self.views {
            let view = section.value.check(name, &section.origin, &streams)?;
            // Databases do not tell `Revenue` from `revenue`.
            let twin = views.iter().find_map(|(name, other): (&String, &ViewConfig)| {
                let theirs = other.tables();
                let is_theirs = |table: &String| theirs.iter().any(|one| one.eq_ignore_ascii_case(table));
                view.tables().into_iter().find(is_theirs).map(|table| (name, table))
            });
            if let Some((other, table)) = twin {
                let (one, two) = users_first(&self.views, name, other);
                let reason = format!("view `{one}` and view `{two}` both write table `{table}`");
                return Err(ConfigError::at(&self.views[one].origin, reason));
            }
            views.insert(name.clone(), view);
        }
        let window = self.window.map(|window| parse_duration(&window.value, &window.origin)).transpose()?;
        let mut config = Config {
            listen,
            hosts: self.hosts.unwrap_or_default(),
            trusted_proxies: self.trusted_proxies.unwrap_or_default(),
            log_url: overrides.log_url.clone().or(self.log_url).unwrap_or_default(),
            store_url: overrides.store_url.clone().or(self.store_url).unwrap_or_default(),
            seen_window: window.unwrap_or(crate::event::limits::SEEN_WINDOW_DEFAULT),
            live_event: None,
            streams,
            reads: checked_reads(&self.reads, &views)?,
            views,
        };
        for (name, door) in &self.doors {
            check_door(name, door, &mut config)?;
        }
        Ok(config)
    }
}

fn checked_reads(
    sections: &BTreeMap<String, Declared<ReadSection>>,
    views: &BTreeMap<String, ViewConfig>,
) -> Result<BTreeMap<String, ReadConfig>, ConfigError> {
    let mut reads: BTreeMap<String, ReadConfig> = BTreeMap::new();
    for (name, section) in sections {
        let read = section.value.check(name, &section.origin, views)?;
        if let Some((other, _)) = reads.iter().find(|(_, other)| other.path == read.path) {
            let (one, two) = users_first(sections, name, other);
            let reason = format!("read `{one}` and read `{two}` have the same path");
            return Err(ConfigError::at(&sections[one].origin, reason));
        }
        reads.insert(name.clone(), read);
    }
    Ok(reads)
}

/// The user's section is named first, and its place: the built-in one is not theirs to change.
fn users_first<'n, T>(
    sections: &BTreeMap<String, Declared<T>>,
    name: &'n str,
    other: &'n str,
) -> (&'n str, &'n str) {
    let built_in = sections[name].origin.file == "default.toml";
    if built_in { (other, name) } else { (name, other) }
}

fn check_door(name: &str, door: &Declared<DoorSection>, config: &mut Config) -> Result<(), ConfigError> {
    let wrong = |reason: String| Err(ConfigError::at(&door.origin, reason));
    let DoorSection { stream, view, access, public } = &door.value;
    if !config.streams.contains_key(stream) {
        return wrong(format!("door `{name}` leads to stream `{stream}`, which is not declared"));
    }
    if config.ledger(view).is_none() {
        return wrong(format!("door `{name}` shows view `{view}`, which is not declared"));
    }
    match name {
        "live_event" => {
            let access = access.unwrap_or(Access::Key);
            config.live_event =
                Some(LiveEvent { stream: stream.clone(), view: view.clone(), access, public: *public });
            Ok(())
        }
        _ => wrong(format!("there is no door `{name}`; there is `live_event`")),
    }
}

fn declared<T>(spanned: Spanned<T>, origin: impl Fn(usize) -> Origin) -> Declared<T> {
    let origin = origin(spanned.span().start);
    Declared { value: spanned.into_inner(), origin }
}

fn sections<T>(
    written: BTreeMap<Spanned<String>, T>,
    origin: impl Fn(usize) -> Origin + Copy,
) -> BTreeMap<String, Declared<T>> {
    let section = |(name, value): (Spanned<String>, T)| {
        let origin = origin(name.span().start);
        (name.into_inner(), Declared { value, origin })
    };
    written.into_iter().map(section).collect()
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}
