//! The configuration as it is written, and its check.

use std::collections::BTreeMap;

use event::{SettingErrors, WrittenDuration};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::checks::Checks;
use super::destination::{DeliverySection, check_alerts, check_destinations};
use super::read_section::{ReadSection, Views, check_reads};
use super::source::check_sources;
use super::store::StoreSection;
use super::stream::{StreamSection, check_streams};
use super::view::check_views;
use super::{Config, ListenAt, LiveSettings, Overrides, Preset, StoreAt, Tls};
use crate::alerts::AlertSection;
use crate::destinations::DestinationSection;
use crate::http::{Limits, Network};
use crate::sources::Source;
use crate::store;
use crate::views::{RetentionPolicy, ViewSection};

/// The settings outside of presets.
pub const DEFAULT: &str = include_str!("default.toml");

/// All files together, as they are written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Read before, to choose the files.
    #[serde(rename = "presets")]
    _presets: Option<IgnoredAny>,
    listen: Option<Vec<ListenAt>>,
    tls: Option<Tls>,
    hosts: Option<Vec<String>>,
    trusted_proxies: Option<Vec<Network>>,
    log: Option<Url>,
    #[serde(default)]
    store: StoreSection,
    dedup: Option<DedupSection>,
    retention: Option<RetentionPolicy>,
    #[serde(default)]
    live: LiveSettings,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    source: BTreeMap<String, Source>,
    #[serde(default)]
    destination: BTreeMap<String, DestinationSection>,
    #[serde(default)]
    delivery: DeliverySection,
    alert: Option<AlertSection>,
    #[serde(default)]
    stream: BTreeMap<String, StreamSection>,
    #[serde(default)]
    view: BTreeMap<String, ViewSection>,
    #[serde(default)]
    read: BTreeMap<String, ReadSection>,
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
    /// Returns the configuration without the parts that have errors.
    pub fn check(self, presets: Vec<Preset>, overrides: &Overrides, checks: &mut Checks<'_>) -> Config {
        let streams = check_streams(&self.stream, checks);
        let declared: Vec<&str> = self.stream.keys().map(String::as_str).collect();
        let destinations = check_destinations(&self.destination, &self.delivery, checks);
        let alerts = check_alerts(self.alert.as_ref(), &destinations, checks);
        let views = check_views(&self.view, &streams, &declared, &destinations, checks);
        let view_names: Vec<&str> = self.view.keys().map(String::as_str).collect();
        if let Some(retention) = &self.retention {
            let mut errors = SettingErrors::default();
            retention.check(&declared, &view_names, &views, &mut errors);
            for error in errors {
                let path = [&["retention".to_owned()], error.path.as_slice()].concat();
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                checks.error(&path, format!("`[retention]` {}", error.reason));
            }
        }
        let store = self.checked_store(overrides, checks);
        check_listen(self.listen.as_deref(), self.tls.is_some(), checks);
        check_hosts(self.hosts.as_deref().unwrap_or_default(), checks);
        let sources = check_sources(self.source, &declared, checks);
        let known_views = Views { valid: &views, declared: &view_names };
        let reads = check_reads(&self.read, &known_views, &sources, checks);
        Config {
            presets,
            listen: self.listen.unwrap_or_default(),
            tls: self.tls.filter(|_| checks.is_complete(&["tls"])),
            limits: self.limits,
            live: self.live,
            hosts: self.hosts.unwrap_or_default(),
            trusted_proxies: self.trusted_proxies.unwrap_or_default(),
            log_url: self.log.map(|log| log.url).unwrap_or_default(),
            store,
            dedup_window: self.dedup.map_or(event::limits::DEDUP_WINDOW_DEFAULT, |dedup| dedup.window.0),
            sources,
            destinations: destinations.into_iter().filter_map(|(name, one)| Some((name, one?))).collect(),
            streams,
            views,
            reads,
            retention: self.retention.unwrap_or_default(),
            alerts,
        }
    }

    fn checked_store(&self, overrides: &Overrides, checks: &mut Checks<'_>) -> StoreAt {
        let url = self.store.url.as_deref().unwrap_or_default();
        let url_in = match &overrides.legacy_env.store_url {
            _ if overrides.store_url.is_some() => "`--store` or `MILLRACE_STORE`",
            Some(Ok(legacy)) if legacy == url => overrides.legacy_env.password_in(),
            _ => "`[store] url`",
        };
        if checks.is_complete(&["store"])
            && let Err(reason) = store::check_url(url)
        {
            checks.error(&["store", "url"], reason.to_string());
        }
        match self.store.check(url_in, overrides.store_password.as_deref()) {
            Ok(store) => store,
            Err(reason) => {
                checks.error(&["store", "password_file"], reason);
                StoreAt { url: url.to_owned(), ..StoreAt::default() }
            }
        }
    }
}

fn check_listen(listen: Option<&[ListenAt]>, has_tls: bool, checks: &mut Checks<'_>) {
    if !checks.is_complete(&["listen"]) {
        return;
    }
    if listen.is_some_and(<[ListenAt]>::is_empty) {
        checks.error(&["listen"], "`listen` names no address; remove it to listen on `localhost:8000`");
    }
    for (index, address) in listen.into_iter().flatten().enumerate() {
        if address.tls && !has_tls && checks.is_complete(&["tls"]) {
            let reason = format!("`{address}` needs a certificate; set one under `[tls]`");
            checks.error(&["listen", &index.to_string()], reason);
        }
    }
}

/// A name with a scheme or a port would match no request.
fn check_hosts(hosts: &[String], checks: &mut Checks<'_>) {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    for (index, host) in hosts.iter().enumerate() {
        if host.is_empty() || !host.bytes().all(allowed) {
            let reason = format!("`hosts`: `{host}` is not a host name such as `events.example`");
            checks
                .error(&["hosts", &index.to_string()], format!("{reason}; write it without scheme and port"));
        }
    }
}
