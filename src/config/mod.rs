//! The configuration: built-in defaults and presets, the user's TOML file, and overrides from the environment and the
//! command line. All of it is checked at start, and errors name file and line, so that no setting fails later.

mod effective;
mod file;
mod layers;
mod legacy_env;
mod legacy_store;
mod listen;
mod location;
mod names;
mod preset;
mod read;
mod source;
mod store;
mod store_check;
mod stream;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use effective::effective;
pub use file::DEFAULT;
pub use legacy_env::LegacyEnv;
pub use listen::ListenAt;
pub use preset::Preset;
pub use read::{ReadConfig, ReadShape};
pub use store::StoreAt;
pub use stream::Streams;

use file::{File, UserFile};
use layers::Layers;
use location::Location;

use crate::http::{Access, Limits, Network};
use crate::sources::Source;
use crate::views::{RetentionPolicy, View};

/// The whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub presets: Vec<Preset>,
    pub listen: Vec<ListenAt>,
    pub tls: Option<Tls>,
    pub hosts: Vec<String>,
    pub trusted_proxies: Vec<Network>,
    pub limits: Limits,
    pub log_url: String,
    pub store: StoreAt,
    pub dedup_window: Duration,
    pub sources: BTreeMap<String, Source>,
    pub streams: Streams,
    pub views: BTreeMap<String, View>,
    pub reads: BTreeMap<String, ReadConfig>,
    pub retention: RetentionPolicy,
}

/// PEM files.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The chain: the server's own certificate first, then the intermediate ones.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Settings from the command line and the environment, which win over files. There is no `Debug`, because a URL may
/// contain a password.
#[derive(Clone, Default)]
pub struct Overrides {
    pub listen: Vec<String>,
    pub log_url: Option<String>,
    pub store_url: Option<String>,
    pub store_password: Option<String>,
    /// The store of the replaced services' variables, or why they name none. The user's file wins over it.
    pub legacy_store_url: Option<Result<String, String>>,
    /// The variable that the password in `legacy_store_url` comes from.
    pub legacy_password_in: &'static str,
}

/// An error in the configuration, with its file and line, to be shown as one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("{path}: {reason}", path = path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("{location}: {reason}")]
    Wrong { location: String, reason: String },
}

impl ConfigError {
    fn at(location: &Location, reason: impl Into<String>) -> Self {
        Self::Wrong { location: location.to_string(), reason: reason.into() }
    }
}

impl Config {
    /// Loads the user's file at `path`, with the presets that it lists. Without a file all presets are on.
    pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Self, ConfigError> {
        let text = path.map(read).transpose()?;
        let user = path.zip(text.as_deref());
        let (presets, names_store) = match user {
            Some((path, text)) => {
                let mut only = Layers::default();
                only.add(&path.display().to_string(), text, false);
                let UserFile { presets, store } = only.read()?;
                let presets = presets.map(|presets| Preset::named(&only.declared(presets))).transpose()?;
                (presets.unwrap_or_default(), store.url.is_some())
            }
            None => (Preset::ALL.to_vec(), false),
        };
        let layers =
            layers(&presets, user, overrides.legacy_store_url.as_ref().and_then(|url| url.as_deref().ok()));
        let file: File = layers.read_by_kind()?;
        if let (Some(Err(reason)), None, false) =
            (&overrides.legacy_store_url, &overrides.store_url, names_store)
        {
            // With another database, events would be missing from the one that other programs read.
            let reason = format!("{reason}; correct it, or set `[store] url` in the configuration");
            return Err(ConfigError::Wrong { location: "environment or .env".to_owned(), reason });
        }
        file.check(&layers, presets, overrides)
    }

    /// Returns the sources and reads that need no key and are not declared `public`.
    pub fn opened(&self) -> Vec<String> {
        let sources = self.sources.iter().filter_map(|(name, source)| {
            let source = source.http()?;
            Some((format!("source `{name}`"), source.access, source.public))
        });
        let reads =
            self.reads.iter().map(|(name, read)| (format!("read `{name}`"), read.access, read.public));
        let opened = sources.chain(reads).filter(|(_, access, public)| *access == Access::Open && !public);
        opened.map(|(name, ..)| name).collect()
    }

    /// Lets the web pages with these origins use the sources and reads that need no key and list no origins. With
    /// `dev`, no source or read needs a key.
    pub fn allow_origins(&mut self, origins: &[String], dev: bool) {
        let sources = self.sources.values_mut().filter_map(Source::http_mut);
        let sources = sources.map(|source| (source.access, &mut source.origins));
        let reads = self.reads.values_mut().map(|read| (read.access, &mut read.origins));
        for (access, own) in sources.chain(reads) {
            if own.is_empty() && (dev || access == Access::Open) {
                origins.iter().for_each(|origin| own.add(origin.clone()));
            }
        }
    }

    /// Returns the times for which ids are remembered, in order.
    pub fn windows(&self) -> Vec<Duration> {
        let own = self.sources.values().filter_map(Source::window);
        own.chain([self.dedup_window]).collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// Returns the path of the user's file: the given one, or `millrace.toml` in the working directory if it exists.
pub fn user_file(named: Option<PathBuf>) -> Option<PathBuf> {
    let local = Path::new("millrace.toml");
    named.or_else(|| local.exists().then(|| local.to_owned()))
}

/// Returns the files in their order: the defaults, the presets, the store of the replaced services' variables, and the
/// user's file.
fn layers(presets: &[Preset], user: Option<(&Path, &str)>, legacy_store_url: Option<&str>) -> Layers {
    let mut layers = Layers::default();
    layers.add("default.toml", DEFAULT, true);
    for preset in presets {
        layers.add(&preset.file_name(), preset.text, true);
    }
    if let Some(url) = legacy_store_url {
        let url = toml::Value::from(url);
        layers.add("environment or .env", &format!("[store]\nurl = {url}\n"), true);
    }
    if let Some((path, text)) = user {
        layers.add(&path.display().to_string(), text, false);
    }
    layers
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Origins;
    use crate::sources::HttpSource;
    use crate::store::PasswordFrom;

    /// Loads a file whose first line turns all presets on. Line numbers in errors do not count that line.
    fn load(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.toml");
        let presets = r#"presets = ["revenue", "analytics", "notifications", "inventory"]"#;
        std::fs::write(&path, format!("{presets}\n{text}")).expect("written");
        Config::load(Some(&path), &Overrides::default()).map_err(|error| {
            let text = error.to_string().replace(&path.display().to_string(), "m.toml");
            let (line, reason) =
                text.strip_prefix("m.toml:").and_then(|rest| rest.split_once(':')).expect("a line");
            format!("m.toml:{}:{reason}", line.parse::<usize>().expect("a number") - 1)
        })
    }

    fn http_sources(config: &Config) -> impl Iterator<Item = &HttpSource> {
        config.sources.values().filter_map(Source::http)
    }

    fn http<'c>(config: &'c Config, name: &str) -> &'c HttpSource {
        config.sources[name].http().expect("of kind `http`")
    }

    #[test]
    fn the_built_in_configuration_is_valid() {
        let config = Config::load(None, &Overrides::default()).expect("valid");
        assert_eq!(config.listen.len(), 1);
        assert!(config.views["revenue"].ledger().is_some());
        assert_eq!(config.dedup_window, Duration::from_secs(7 * 24 * 3600));
    }

    #[test]
    fn an_unusable_legacy_database_is_not_replaced_by_another() {
        let fault = Some(Err("`DB_URL` is not a database URL".to_owned()));
        let legacy = Overrides { legacy_store_url: fault, ..Overrides::default() };
        let error = Config::load(None, &legacy).expect_err("refused").to_string();
        assert!(
            error.contains("`DB_URL` is not a database URL; correct it, or set `[store] url`"),
            "{error}"
        );
        let overridden = Overrides { store_url: Some("sqlite:a.db".to_owned()), ..legacy.clone() };
        assert_eq!(Config::load(None, &overridden).expect("valid").store.url, "sqlite:a.db");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.toml");
        std::fs::write(&path, "[store]\nurl = \"sqlite:b.db\"\n").expect("written");
        assert_eq!(Config::load(Some(&path), &legacy).expect("valid").store.url, "sqlite:b.db");
    }

    #[test]
    fn a_legacy_database_is_used_unless_the_file_or_the_command_line_names_a_store() {
        let url = r#"mysql://u:p"\@h/d"#.to_owned();
        let legacy = Overrides { legacy_store_url: Some(Ok(url.clone())), ..Overrides::default() };
        let folder = tempfile::tempdir().expect("a folder");
        let (path, password) = (folder.path().join("m.toml"), folder.path().join("password"));
        std::fs::write(&password, "secret").expect("written");
        let load = |text: &str, overrides: &Overrides| {
            std::fs::write(&path, text).expect("written");
            Config::load(Some(&path), overrides).expect("valid").store
        };
        let file = format!("[store]\npassword_file = {:?}", password.display());
        let merged = load(&file, &legacy);
        assert_eq!(merged.url, url);
        assert!(
            merged.password == PasswordFrom::File { path: password.clone(), password: "secret".to_owned() }
        );
        assert_eq!(load("[store]\nurl = \"sqlite:b.db\"", &legacy).url, "sqlite:b.db");
        let overridden = Overrides { store_url: Some("sqlite:c.db".to_owned()), ..legacy.clone() };
        assert_eq!(load("", &overridden).url, "sqlite:c.db");
    }

    #[test]
    fn an_error_about_a_misplaced_store_does_not_show_its_password() {
        let error = load("store = \"postgres://u:secret@h/d\"").expect_err("refused");
        assert!(error.starts_with("m.toml:1: `store` is a section: write `[store]`"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn a_file_can_declare_a_second_ledger() {
        let config = load(
            r#"
            [stream.refunds]
            key = "customer"
            fields.customer = { type = "text", required = true }
            fields.cents = { type = "integer", required = true }
            [view.refunds]
            kind = "ledger"
            from = "refunds"
            amount = "-cents"
            "#,
        )
        .expect("valid");
        assert!(config.streams.contains_key("refunds") && config.streams.contains_key("revenue"));
        assert_eq!(config.views["refunds"].table_names(), ["refunds"]);
    }

    #[test]
    fn only_the_presets_that_a_file_lists_are_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.toml");
        let load = |text: &str| {
            std::fs::write(&path, text).expect("written");
            Config::load(Some(&path), &Overrides::default()).map_err(|error| error.to_string())
        };
        let config = load("presets = [\"analytics\"]\nsource.site_event.access = \"open\"").expect("valid");
        assert!(config.presets.iter().map(|preset| preset.name).eq(["analytics"]));
        assert_eq!(config.sources.keys().collect::<Vec<_>>(), ["site_event"]);
        assert_eq!(http(&config, "site_event").access, Access::Open);
        let nothing = load("").expect("valid");
        assert!(nothing.sources.is_empty() && nothing.streams.is_empty() && nothing.views.is_empty());
        let without_file = Config::load(None, &Overrides::default()).expect("valid");
        assert_eq!(without_file.presets, Preset::ALL);
        let error = load("\npresets = [\"shop\"]").expect_err("unknown");
        assert!(error.contains("m.toml:2: `presets` lists `shop`"), "{error}");
        let error = load("[source.ingest]\naccess = \"open\"").expect_err("not on");
        assert!(
            error.contains("source `ingest` belongs to preset `notifications`, which is not on"),
            "{error}"
        );
        let error = load("[read.stats]\naccess = \"open\"").expect_err("not on");
        assert!(error.contains("read `stats` belongs to preset `analytics`, which is not on"), "{error}");
        let error = load("[source.mine]\npath = \"/mine\"").expect_err("no kind");
        assert!(error.contains("source `mine` needs a `kind`"), "{error}");
    }

    #[test]
    fn each_preset_loads_alone_and_documents_how_to_open_its_sources() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.toml");
        for preset in Preset::ALL {
            let list = format!("presets = [\"{}\"]\n", preset.name);
            let opened: Vec<&str> = preset
                .text
                .lines()
                .filter_map(|line| line.split_once("no key: "))
                .map(|(_, line)| line)
                .collect();
            std::fs::write(&path, format!("{list}{}", opened.join("\n"))).expect("written");
            let config = Config::load(Some(&path), &Overrides::default()).expect("valid");
            assert!(http_sources(&config).all(|source| source.access == Access::Open), "{}", preset.name);
            assert_eq!(opened.len(), config.sources.len(), "{}", preset.name);
        }
    }

    #[test]
    fn a_section_changes_only_the_settings_that_it_contains() {
        let config = load("[source.site_event]\naccess = \"open\"\norigins = [\"*\"]").expect("valid");
        let source = http(&config, "site_event");
        assert_eq!(
            (source.access, source.path.as_str(), source.wording().key.as_str()),
            (Access::Open, "/event", "message")
        );
        assert_eq!(source.origins, Origins::try_from(vec!["*".to_owned()]).expect("valid"));
        assert_eq!(config.sources.len(), 3);
        assert_eq!(http_sources(&config).filter(|source| source.access == Access::Open).count(), 1);
    }

    #[test]
    fn errors_name_file_and_line() {
        let cases = [
            ("lisen = []", "m.toml:1: unknown field `lisen`"),
            ("\n[log]\nurl = 1", "m.toml:3: invalid type"),
            (
                "[view.revenue]\nkind = \"ledger\"\nfrom = \"sales\"\namount = \"+value\"",
                "m.toml:1: view `revenue` reads stream `sales`, which is not declared",
            ),
            (
                "[view.r]\nkind = \"ledger\"\nfrom = \"revenue\"\namount = \"+amount\"",
                "m.toml:1: view `r` takes its amount from field `amount`, which stream `revenue` does not declare",
            ),
            (
                "[view.r]\nkind = \"ledger\"\nfrom = \"revenue\"\namount = \"+name\"",
                "m.toml:1: view `r` takes its amount from field `name`, which is neither decimal nor integer",
            ),
            (
                "[view.r]\nkind = \"ledger\"\nfrom = \"revenue\"\namount = \"+value\"\ntable = \"users_revenue\"",
                "m.toml:1: view `r` and view `revenue` both write table `users_revenue`",
            ),
            (
                "[view.r]\nkind = \"ledger\"\nfrom = \"revenue\"\namount = \"+value\"\ntable = \"Users_Revenue\"",
                "m.toml:1: view `r` and view `revenue` both write table `users_revenue`",
            ),
            (
                "[view.r]\nkind = \"ledger\"\nfrom = \"revenue\"\namount = \"+value\"\ntable = \"Millrace_seen\"",
                "m.toml:1: view `r` cannot have table `Millrace_seen`",
            ),
            (
                "[view.r]\nkind = \"ledger\"\nfrom = \"revenue\"\nby = \"name\"\namount = { add_revenue = \"+value\" }",
                "m.toml:1: view `r` has no amount for `subtract_revenue`, which is a value of field `name`",
            ),
            ("[stream.s]\nkey = \"k\"", "m.toml:1: stream `s` has key `k`, which is not among its fields"),
            (
                "[stream.s]\nkey = \"k\"\nfields.k = { type = \"text\" }",
                "m.toml:1: stream `s` has key `k`, which must be required: an integer, or text of at most 255 characters",
            ),
            (
                "[stream.s]\nkey = \"k\"\nfields.k = { type = \"time\", required = true }",
                "m.toml:1: stream `s` has key `k`, which must be required: an integer, or text",
            ),
            (
                "[stream.s]\nkey = \"k\"\nfields.k = { type = \"integer\", required = true }\n\
                 [view.r]\nkind = \"ledger\"\nfrom = \"s\"\namount = \"+k\"",
                "m.toml:4: view `r` is a ledger, which needs a text key; the key of stream `s` is not text",
            ),
            (
                "[stream.s]\nfields.k = { type = \"text\", min = 3, max = 2 }\nkey = \"k\"",
                "m.toml:1: stream `s` has field `k`, whose `min` is above its `max`",
            ),
            (
                "[stream.s]\nfields.k = { type = \"decimal\", places = 5 }\nkey = \"k\"",
                "m.toml:1: stream `s` has field `k`, whose `places` must be between 0 and 4",
            ),
            (
                "[stream.s]\nfields.k = { type = \"text\", digits = 5 }\nkey = \"k\"",
                "m.toml:1: stream `s` has field `k`, which is not a decimal and cannot have `digits` or `places`",
            ),
            (
                "[stream.s]\nfields.k = { type = \"time\", format = \"email\" }\nkey = \"k\"",
                "m.toml:1: stream `s` has field `k`, which is not text and cannot have a `format`",
            ),
            (
                "[stream.s]\nfields.\"a..k\" = { type = \"text\" }\nkey = \"k\"",
                "m.toml:1: stream `s` has field `a..k`, whose name is empty before or after a dot",
            ),
            (
                "[stream.s]\nfields.\"a.b.c.d.e.f.g.h.i.k\" = { type = \"text\" }\nkey = \"k\"",
                "m.toml:1: stream `s` has field `a.b.c.d.e.f.g.h.i.k`, which is nested in more than 8 objects",
            ),
            (
                "[stream.s]\nfields.a = { type = \"text\" }\nfields.\"a.k\" = { type = \"text\" }\nkey = \"k\"",
                "m.toml:1: stream `s` has field `a.k` inside field `a`, which must be of type \"any\"",
            ),
            (
                "[source.live_event]\nstream = \"x\"",
                "m.toml:1: source `live_event` names stream `x`, which is not declared",
            ),
            ("\n[source.d]\nkind = \"http\"\npath = \"/d\"", "m.toml:2: missing field `stream`"),
            ("[source.d]\nkind = \"http\"\nstream = \"revenue\"", "m.toml:1: missing field `path`"),
            ("[source.ingest]\npath = \"events\"", "m.toml:2: `events` is not a path such as `/events`"),
            ("[source.ingest]\npath = \"/a/{b}\"", "m.toml:2: `/a/{b}` is not a path such as `/events`"),
            ("[source.ingest]\npath = \"/a//b\"", "m.toml:2: `/a//b` is not a path such as `/events`"),
            ("[source.ingest]\npath = \"/v1/events\"", "m.toml:2: `/v1/events` is a path of millrace itself"),
            ("[source.ingest]\npath = \"/health\"", "m.toml:2: `/health` is a path of millrace itself"),
            (
                "\n[source.ingest]\npath = \"/event\"",
                "m.toml:2: source `ingest` and source `site_event` both have path `/event`",
            ),
            (
                "\n[source.site_event]\npath = \"/events/ingest\"",
                "m.toml:2: source `ingest` and source `site_event` both have path `/events/ingest`",
            ),
            (
                "\n[source.shop]\nkind = \"http\"\npath = \"/stats\"\nstream = \"revenue\"\nanswer = \"{}\"",
                "m.toml:2: read `stats` has path `/stats`, which matches the path of source `shop`",
            ),
            ("[source.ingest]\nanswer = \"yes\"", "m.toml:2: the answer is not JSON"),
            (
                "[source.ingest]\nanswer = '{\"id\":\"{eventID}\"}'",
                "m.toml:2: the text contains `{eventID}`; the only placeholder here is `{eventId}`",
            ),
            (
                "[source.ingest]\nanswer = '[\"{eventId}\",\"{eventId}\"]'",
                "m.toml:2: the answer contains `{eventId}` more than once",
            ),
            (
                "[source.ingest]\nstatus = 404",
                "m.toml:2: the status of accepted events must be 200 to 299, not 404",
            ),
            (
                "[source.ingest]\nerrors = { invalid = \"no: {why}\" }",
                "m.toml:2: the text contains `{why}`; the only placeholder here is `{reason}`",
            ),
            ("[source.ingest]\n\nerrors = { wrong = \"no\" }", "m.toml:3: unknown field `wrong`"),
            (
                "[source.ingest]\norigins = [\"https://shop.example/\"]",
                "m.toml:2: `https://shop.example/` is not an origin",
            ),
            (
                "[source.ingest]\nids = false\nwindow = \"30d\"",
                "m.toml:1: source `ingest` has no `ids = true`, so `id_scope` and `window` would have no effect",
            ),
            (
                "[source.ingest]\naccess = \"open\"\nid_scope = \"shop\"",
                "m.toml:1: source `ingest` is open and has an `id_scope`",
            ),
            ("[source.ingest]\nwindow = \"long\"", "m.toml:2: `long` is not a duration"),
            ("[source.ingest]\nid_scope = \"\"", "m.toml:2: a name must have 1 to 100 plain characters"),
            ("[source.ingest]\nkind = 3", "m.toml:1: source `ingest` has a `kind` that is not a text"),
            ("\n[source.x]\nkind = \"soap\"", "m.toml:3: unknown variant `soap`, expected `http`"),
            ("\n[view.x]\nkind = \"ledger\"\n\nfrm = \"revenue\"", "m.toml:5: unknown field `frm`"),
            (
                "[source.Mine]\nkind = \"http\"\npath = \"/a\"\nstream = \"revenue\"\nanswer = \"{}\"",
                "m.toml:1: source `Mine` needs a name of at most 64 lower-case letters",
            ),
            (
                "hosts = []\ntrusted_proxies = [\"10.0.0.0/40\"]",
                "m.toml:2: `10.0.0.0/40` is not an address or network",
            ),
            ("[limits]\nper_key = \"many\"", "m.toml:2: `many` is not a rate such as `1000/s`"),
            ("[limits]\nper_user = \"1/s\"", "m.toml:2: unknown field `per_user`"),
            (
                "\n[retention]\nlog = \"6d\"",
                "m.toml:3: `6d` is too short: nothing may be deleted within 7 days",
            ),
            (
                "[retention]\nstreams = { site_events = \"167h\" }",
                "m.toml:2: `167h` is too short: nothing may be deleted within 7 days",
            ),
            (
                "[retention]\nrows = { site_events = \"1d\" }",
                "m.toml:2: `1d` is too short: nothing may be deleted within 7 days",
            ),
            ("[retention]\nlog = \"long\"", "m.toml:2: `long` is not a duration"),
            (
                "[retention]\nlog_bytes = \"20GB\"",
                "m.toml:2: `20GB` is not a size such as `512MiB` or `20GiB`",
            ),
            (
                "[retention]\nstreams = { nothing = \"30d\" }",
                "m.toml:1: `[retention]` names stream `nothing`, which is not declared",
            ),
            (
                "[retention]\nrows = { nothing = \"30d\" }",
                "m.toml:1: `[retention]` names view `nothing`, which is not declared",
            ),
            (
                "[retention]\nrows = { revenue = \"30d\" }",
                "m.toml:1: `[retention]` names view `revenue`, which is not of kind `table`: its rows have no age",
            ),
            ("\n[retention]\nrow = \"30d\"", "m.toml:3: unknown field `row`"),
            ("[dedup]\nwindow = \"soon\"", "m.toml:2: `soon` is not a duration"),
            (
                "listen = [\"ftp://localhost:21\"]",
                "m.toml:1: `ftp://localhost:21` is not an address to listen on",
            ),
            ("\nlisten = [\"https://localhost:1\"]", "m.toml:2: `https://localhost:1` needs a certificate"),
            ("[tls]\ncertificate = \"c.pem\"", "m.toml:1: missing field `key`"),
            ("listen = [\"nowhere\"]", "m.toml:1: `nowhere` is not an address to listen on"),
        ];
        for (text, message) in cases {
            let error = load(text).expect_err(text);
            assert!(error.starts_with(message), "{text}\n  says {error}\n  not {message}");
        }
    }
}
