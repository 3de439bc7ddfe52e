//! The configuration: built-in defaults and presets, the user's TOML file, and overrides from the environment and the
//! command line. All of it is checked at start, and all errors are reported together with file, line and column, so
//! that no setting fails later.

mod checks;
mod collect_errors;
mod describe_error;
mod destination;
mod effective;
mod error;
mod file;
mod layers;
mod legacy_batch;
mod legacy_env;
mod legacy_store;
mod listen;
mod loaded;
mod location;
mod names;
mod overrides;
mod preset;
mod read_section;
mod source;
mod store;
mod stream;
mod syntax;
mod toml_reader;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use effective::{effective, effective_settings};
pub use error::{ConfigError, ConfigErrors};
pub use file::DEFAULT;
pub use legacy_env::{LegacyEnv, UsedVariable};
pub use listen::ListenAt;
pub use loaded::Loaded;
pub use overrides::Overrides;
pub use preset::Preset;
pub use read_section::{ReadConfig, ReadShape};
pub use store::{StoreAt, without_password};
pub use stream::Streams;

use crate::alerts::AlertSettings;
use crate::destinations::Destination;
use crate::http::{Access, Limits, Network, Origins};
use crate::sources::Source;
use crate::views::{Definition, RetentionPolicy, View};

/// The whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub presets: Vec<Preset>,
    pub listen: Vec<ListenAt>,
    pub tls: Option<Tls>,
    pub hosts: Vec<String>,
    pub trusted_proxies: Vec<Network>,
    pub limits: Limits,
    pub live: LiveSettings,
    pub log_url: String,
    pub store: StoreAt,
    pub dedup_window: Duration,
    pub sources: BTreeMap<String, Source>,
    pub destinations: BTreeMap<String, Arc<Destination>>,
    pub streams: Streams,
    pub views: BTreeMap<String, View>,
    pub reads: BTreeMap<String, ReadConfig>,
    pub retention: RetentionPolicy,
    /// Where alerts go; `None` if they are off.
    pub alerts: Option<AlertSettings>,
}

/// Who may subscribe to changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LiveSettings {
    /// The web pages of other sites that may subscribe.
    pub origins: Origins,
}

/// PEM files.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The chain: the server's own certificate first, then the intermediate ones.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Config {
    /// Loads the user's file at `path`, with the presets that it lists. Without a file all presets are on.
    pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Self, ConfigErrors> {
        Loaded::read(path, overrides).checked()
    }

    /// Returns the definition of a view, which decides its rows.
    pub fn definition_of(&self, view: &str) -> Option<Definition> {
        let view = self.views.get(view)?;
        Some(Definition::of(view, &self.streams[&view.stream]))
    }

    /// Returns the sources and reads that need no key and are not declared `public`, each with its type.
    pub fn opened(&self) -> Vec<(&'static str, &str)> {
        let sources = self
            .sources
            .iter()
            .map(|(name, source)| ("source", name.as_str(), source.access(), source.is_public()));
        let reads = self.reads.iter().map(|(name, read)| ("read", name.as_str(), read.access, read.public));
        let opened = sources.chain(reads).filter(|(.., access, public)| *access == Access::Open && !public);
        opened.map(|(kind, name, ..)| (kind, name)).collect()
    }

    /// Lets the web pages with these origins use Socket.IO sources, and other sources and reads that need no key, if
    /// these list no origins. With `dev`, no source or read needs a key.
    pub fn allow_origins(&mut self, origins: &[String], dev: bool) {
        let sources =
            self.sources.values_mut().map(|source| (source.uses_allowed_origins(), source.origins_mut()));
        let reads = self.reads.values_mut().map(|read| (read.access == Access::Open, &mut read.origins));
        // Readers of live changes always need a key.
        let live = [(false, &mut self.live.origins)];
        for (is_meant, own) in sources.chain(reads).chain(live) {
            if own.is_empty() && (dev || is_meant) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::HttpSource;
    use crate::store::PasswordFrom;

    /// Loads a file whose first line turns all presets on. Line numbers in errors do not count that line.
    fn load(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.toml");
        let presets = r#"presets = ["revenue", "analytics", "notifications", "inventory"]"#;
        std::fs::write(&path, format!("{presets}\n{text}")).expect("written");
        Config::load(Some(&path), &Overrides::default()).map_err(|errors| {
            let text = errors.to_string().replace(&path.display().to_string(), "m.toml");
            let lines = text.lines().map(|line| {
                let (number, rest) =
                    line.strip_prefix("m.toml:").and_then(|rest| rest.split_once(':')).expect("a line");
                let (_, reason) = rest.split_once(':').expect("a column");
                format!("m.toml:{}:{reason}", number.parse::<usize>().expect("a number") - 1)
            });
            lines.collect::<Vec<_>>().join("\n")
        })
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
        let legacy_env = LegacyEnv { store_url: fault, ..LegacyEnv::default() };
        let legacy = Overrides { legacy_env, ..Overrides::default() };
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
        let legacy_env = LegacyEnv { store_url: Some(Ok(url.clone())), ..LegacyEnv::default() };
        let legacy = Overrides { legacy_env, ..Overrides::default() };
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
        assert!(error.contains("m.toml:2:12: `presets` lists `shop`"), "{error}");
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
            assert!(config.sources.values().all(|source| source.access() == Access::Open), "{}", preset.name);
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
        assert_eq!(config.sources.len(), 4);
        assert_eq!(config.sources.values().filter(|source| source.access() == Access::Open).count(), 1);
    }

    #[test]
    fn a_view_of_notifications_changes_only_the_settings_that_it_contains_and_others_are_replaced() {
        let destinations = |config: &Config| {
            let notifications = config.views["notifications"].notifications().expect("of that kind");
            notifications.destinations().iter().map(|one| one.name.clone()).collect::<Vec<_>>()
        };
        let partner = "[destination.partner]\nkind = \"log\"\n";
        let whole = "[view.notifications]\nkind = \"notifications\"\nfrom = \"notifications\"\n\
                     deliver = [\"partner\", \"log\"]\nwhere = { eventType = [\"user_signup\", \"invoice_paid\"] }";
        let config = load(&format!("{partner}{whole}")).expect("valid");
        assert_eq!(destinations(&config), ["partner", "log"]);
        assert_eq!(config.views["notifications"].table_names(), ["notifications"]);
        let config = load(&format!("view.notifications.deliver = [\"partner\"]\n{partner}")).expect("valid");
        assert_eq!(destinations(&config), ["partner"]);
        let error = load("[view.revenue]\nkind = \"ledger\"\nfrom = \"revenue\"").expect_err("incomplete");
        assert!(error.contains("view `revenue` needs the setting `amount`"), "{error}");
        let table = "[view.notifications]\nkind = \"table\"\nfrom = \"notifications\"";
        let config = load(table).expect("valid");
        assert!(config.views["notifications"].notifications().is_none());
    }

    #[test]
    fn all_errors_are_reported_together_in_the_order_of_the_file() {
        let errors = load(
            r#"lisen = ["localhost:1"]
            trusted_proxies = ["10.0.0.0/8", "here", "10.0.0.0/9", "there"]
            [store]
            url = "postgress://shop@db/shop"
            [stream.refunds]
            key = "customer.id"
            fields."customer.id" = { type = "text", required = true }
            fields.amount = { type = "decimall", required = true }
            [view.refunds]
            knid = "ledger"
            frm = "refunds"
            amount = "+amout"
            [view.rows]
            kind = "tabel"
            from = "refund"
            columns = { a = "customer_id", b = "amount", c = "$recieved" }
            [source.refunds]
            kind = "http"
            status = "200"
            [retention]
            rows = { row = "30d" }
            "#,
        );
        let errors = errors.expect_err("refused");
        let expected = [
            "m.toml:1: `lisen` is not a setting or section; did you mean `listen`?",
            "m.toml:2: `trusted_proxies`: `here` is not an address or network",
            "m.toml:2: `trusted_proxies`: `there` is not an address or network",
            "m.toml:4: `[store] url` starts with `postgress:`, which is not a supported store; did you mean `postgres:`?",
            "m.toml:8: stream `refunds`, `fields.amount.type`: `decimall` does not exist; did you mean `decimal`?",
            "m.toml:10: view `refunds` has no setting `knid`; did you mean `kind`?",
            "m.toml:11: view `refunds` has no setting `frm`; did you mean `from`?",
            "m.toml:12: view `refunds` takes its amount from field `amout`, which stream `refunds` does not declare; did you mean `amount`? (fields: `amount`, `customer.id`)",
            "m.toml:14: view `rows`, `kind`: `tabel` does not exist; did you mean `table`?",
            "m.toml:15: view `rows` reads stream `refund`, which is not declared; did you mean `refunds`?",
            "m.toml:16: view `rows` fills column `a` with field `customer_id`, which stream `refunds` does not declare; did you mean `customer.id`?",
            "m.toml:16: view `rows` fills column `c` with `$recieved`, which does not exist; did you mean `$received`?",
            "m.toml:17: source `refunds` needs the setting `path`",
            "m.toml:17: source `refunds` needs the setting `stream`",
            "m.toml:17: source `refunds` needs the setting `answer`",
            "m.toml:19: source `refunds`, `status`: expected a whole number, but found a text",
            "m.toml:21: `[retention]` names view `row`, which is not declared; did you mean `rows`?",
        ];
        let lines: Vec<&str> = errors.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{errors}");
        for expected in expected {
            assert!(lines.iter().any(|line| line.starts_with(expected)), "no {expected}\n{errors}");
        }
    }

    #[test]
    fn an_error_names_the_column_of_the_setting() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.toml");
        std::fs::write(&path, "hosts = []\nlisten = [\"localhost:1\", \"ä\", \"nowhere\"]\n")
            .expect("written");
        let errors = Config::load(Some(&path), &Overrides::default()).expect_err("refused").to_string();
        let places: Vec<&str> = errors.lines().filter_map(|line| line.split("m.toml:").nth(1)).collect();
        assert!(places[0].starts_with("2:26: ") && places[1].starts_with("2:31: "), "{errors}");
    }

    #[test]
    fn a_plain_field_is_added_like_one_with_a_plus() {
        let ledger = |amount: &str| {
            let view = format!("[view.r]\nkind = \"ledger\"\nfrom = \"revenue\"\namount = \"{amount}\"");
            format!("{:?}", load(&view).expect("valid").views["r"])
        };
        assert_eq!(ledger("value"), ledger("+value"));
        assert_ne!(ledger("value"), ledger("-value"));
    }

    #[test]
    fn errors_name_file_and_line() {
        let cases = [
            (
                "lisen = []",
                "m.toml:1: `lisen` is not a setting or section; did you mean `listen`? (settings and sections: `presets`, `listen`",
            ),
            ("\n[log]\nurl = 1", "m.toml:3: `[log]`, `url`: expected a text in quotes, but found a number"),
            (
                "[view.revenue]\nkind = \"ledger\"\nfrom = \"sales\"\namount = \"+value\"",
                "m.toml:3: view `revenue` reads stream `sales`, which is not declared (streams: `inventory`, `notifications`, `revenue`, `site_events`)",
            ),
            (
                "[view.r]\nkind = \"ledger\"\nfrom = \"revenue\"\namount = \"+amount\"",
                "m.toml:4: view `r` takes its amount from field `amount`, which stream `revenue` does not declare (fields: `name`, `userId`, `value`)",
            ),
            (
                "[view.r]\nkind = \"ledger\"\nfrom = \"revenue\"\namount = \"+name\"",
                "m.toml:4: view `r` takes its amount from field `name`, which is neither decimal nor integer",
            ),
            (
                "[view.r]\nkind = \"ledger\"\nfrom = \"revenue\"\namount = \"+value\"\ntable = \"users_revenue\"",
                "m.toml:5: view `r` and view `revenue` both write table `users_revenue`",
            ),
            (
                "[view.r]\nkind = \"ledger\"\nfrom = \"revenue\"\namount = \"+value\"\ntable = \"Users_Revenue\"",
                "m.toml:5: view `r` and view `revenue` both write table `users_revenue`",
            ),
            (
                "[view.r]\nkind = \"ledger\"\nfrom = \"revenue\"\namount = \"+value\"\ntable = \"Millrace_seen\"",
                "m.toml:5: view `r` cannot have table `Millrace_seen`",
            ),
            (
                "[view.r]\nkind = \"ledger\"\nfrom = \"revenue\"\nby = \"name\"\namount = { add_revenue = \"+value\" }",
                "m.toml:5: view `r` has no amount for `subtract_revenue`, which is a value of field `name`",
            ),
            (
                "[view.r]\nkind = \"ledger\"\nfrom = \"revenue\"\n\
                 amount = { add_revenue = \"+value\", subtract_revenue = \"-value\", sub = \"-value\" }",
                "m.toml:4: view `r` has an amount for `sub`, which is not a value of field `name`",
            ),
            (
                "[stream.s]\nkey = \"k\"\nfields.k = { type = \"string\", required = true }",
                "m.toml:3: stream `s`, `fields.k.type`: `string` does not exist; did you mean `text`?",
            ),
            (
                "[stream.s]\nkey = \"k\"",
                "m.toml:2: stream `s` has key `k`, which is not among its fields (fields: none)",
            ),
            (
                "[stream.s]\nkey = \"k\"\nfields.k = { type = \"text\" }",
                "m.toml:2: stream `s` has key `k`, which must be required: an integer, or text of at most 255 characters",
            ),
            (
                "[stream.s]\nkey = \"k\"\nfields.k = { type = \"time\", required = true }",
                "m.toml:2: stream `s` has key `k`, which must be required: an integer, or text",
            ),
            (
                "[stream.s]\nkey = \"k\"\nfields.k = { type = \"integer\", required = true }\n\
                 [view.r]\nkind = \"ledger\"\nfrom = \"s\"\namount = \"+k\"",
                "m.toml:6: view `r` is a ledger, which needs a text key; the key of stream `s` is not text",
            ),
            (
                "[stream.s]\nfields.k = { type = \"text\", min = 3, max = 2 }\nkey = \"k\"",
                "m.toml:2: stream `s` has field `k`, whose `min` is above its `max`",
            ),
            (
                "[stream.s]\nfields.k = { type = \"decimal\", places = 5 }\nkey = \"k\"",
                "m.toml:2: stream `s` has field `k`, whose `places` must be between 0 and 4",
            ),
            (
                "[stream.s]\nfields.k = { type = \"text\", digits = 5 }\nkey = \"k\"",
                "m.toml:2: stream `s` has field `k`, which is not a decimal and cannot have `digits` or `places`",
            ),
            (
                "[stream.s]\nfields.k = { type = \"time\", format = \"email\" }\nkey = \"k\"",
                "m.toml:2: stream `s` has field `k`, which is not text and cannot have a `format`",
            ),
            (
                "[stream.s]\nfields.\"a..k\" = { type = \"text\" }\nkey = \"k\"",
                "m.toml:2: stream `s` has field `a..k`, whose name is empty before or after a dot",
            ),
            (
                "[stream.s]\nfields.\"a.b.c.d.e.f.g.h.i.k\" = { type = \"text\" }\nkey = \"k\"",
                "m.toml:2: stream `s` has field `a.b.c.d.e.f.g.h.i.k`, which is nested in more than 8 objects",
            ),
            (
                "[stream.s]\nfields.a = { type = \"text\" }\nfields.\"a.k\" = { type = \"text\" }\nkey = \"k\"",
                "m.toml:3: stream `s` has field `a.k` inside field `a`, which must be of type \"any\"",
            ),
            (
                "[source.live_event]\nstream = \"x\"",
                "m.toml:2: source `live_event` names stream `x`, which is not declared",
            ),
            (
                "\n[source.d]\nkind = \"http\"\npath = \"/d\"",
                "m.toml:2: source `d` needs the setting `stream`",
            ),
            (
                "[source.d]\nkind = \"http\"\nstream = \"revenue\"",
                "m.toml:1: source `d` needs the setting `path`",
            ),
            (
                "[source.ingest]\npath = \"events\"",
                "m.toml:2: source `ingest`, `path`: `events` is not a path such as `/events`",
            ),
            (
                "[source.ingest]\npath = \"/a/{b}\"",
                "m.toml:2: source `ingest`, `path`: `/a/{b}` is not a path such as `/events`",
            ),
            (
                "[source.ingest]\npath = \"/a//b\"",
                "m.toml:2: source `ingest`, `path`: `/a//b` is not a path such as `/events`",
            ),
            (
                "[source.ingest]\npath = \"/v1/events\"",
                "m.toml:2: source `ingest`, `path`: `/v1/events` is a path of millrace itself",
            ),
            (
                "[source.ingest]\npath = \"/health\"",
                "m.toml:2: source `ingest`, `path`: `/health` is a path of millrace itself",
            ),
            (
                "\n[source.ingest]\npath = \"/event\"",
                "m.toml:3: source `ingest` and source `site_event` both have path `/event`",
            ),
            (
                "\n[source.site_event]\npath = \"/events/ingest\"",
                "m.toml:3: source `ingest` and source `site_event` both have path `/events/ingest`",
            ),
            (
                "\n[source.shop]\nkind = \"http\"\npath = \"/stats\"\nstream = \"revenue\"\nanswer = \"{}\"",
                "m.toml:4: read `stats` has path `/stats`, which matches the path of source `shop`",
            ),
            (
                "[source.ingest]\nanswer = \"yes\"",
                "m.toml:2: source `ingest`, `answer`: the answer is not JSON",
            ),
            (
                "[source.ingest]\nanswer = '{\"id\":\"{eventID}\"}'",
                "m.toml:2: source `ingest`, `answer`: the text contains `{eventID}`, which is not a placeholder; did you mean `{eventId}`? (placeholders: `{eventId}`, `{timestamp}`)",
            ),
            (
                "[source.ingest]\nstatus = 404",
                "m.toml:2: source `ingest`, `status`: the status of accepted events must be 200 to 299, not 404",
            ),
            (
                "[source.ingest]\nerrors = { invalid = \"no: {why}\" }",
                "m.toml:2: source `ingest`, `errors.invalid`: the text contains `{why}`, which is not a placeholder (placeholders: `{reason}`)",
            ),
            (
                "[source.ingest]\n\nerrors = { wrong = \"no\" }",
                "m.toml:3: source `ingest`, `errors` has no setting `wrong` (settings: `unauthorized`, `forbidden`",
            ),
            (
                "[source.ingest]\norigins = [\"https://shop.example/\"]",
                "m.toml:2: source `ingest`, `origins`: `https://shop.example/` is not an origin",
            ),
            (
                "[source.ingest]\nids = false\nwindow = \"30d\"",
                "m.toml:3: source `ingest` has no `ids = true`, so `window` would have no effect",
            ),
            (
                "[source.ingest]\naccess = \"open\"\nid_scope = \"shop\"",
                "m.toml:3: source `ingest` is open and has an `id_scope`",
            ),
            (
                "[source.ingest]\nwindow = \"long\"",
                "m.toml:2: source `ingest`, `window`: `long` is not a duration",
            ),
            (
                "[source.ingest]\nid_scope = \"\"",
                "m.toml:2: source `ingest`, `id_scope`: a name must have 1 to 100 plain characters",
            ),
            (
                "[source.ingest]\nkind = 3",
                "m.toml:2: source `ingest`, `kind`: expected a text in quotes, but found a number",
            ),
            (
                "\n[source.x]\nkind = \"soap\"",
                "m.toml:3: source `x`, `kind`: `soap` does not exist (kinds: `http`, `socketio`, `websocket`)",
            ),
            (
                "\n[view.x]\nkind = \"ledger\"\n\nfrm = \"revenue\"\namount = \"+value\"",
                "m.toml:5: view `x` has no setting `frm`; did you mean `from`? (settings: `from`, `table`",
            ),
            (
                "[source.Mine]\nkind = \"http\"\npath = \"/a\"\nstream = \"revenue\"\nanswer = \"{}\"",
                "m.toml:1: source `Mine` needs a name of at most 64 lower-case letters",
            ),
            (
                "hosts = []\ntrusted_proxies = [\"10.0.0.0/40\"]",
                "m.toml:2: `trusted_proxies`: `10.0.0.0/40` is not an address or network",
            ),
            (
                "hosts = [\"https://shop.example\"]",
                "m.toml:1: `hosts`: `https://shop.example` is not a host name",
            ),
            (
                "[limits]\nper_key = \"many\"",
                "m.toml:2: `[limits]`, `per_key`: `many` is not a rate such as `1000/s`",
            ),
            (
                "[limits]\nby_user = \"1/s\"",
                "m.toml:2: `[limits]` has no setting `by_user` (settings: `per_key`, `per_address`)",
            ),
            (
                "\n[retention]\nlog = \"6d\"",
                "m.toml:3: `[retention]`, `log`: `6d` is too short: nothing may be deleted within 7 days",
            ),
            (
                "[retention]\nstreams = { site_events = \"167h\" }",
                "m.toml:2: `[retention]`, `streams.site_events`: `167h` is too short: nothing may be deleted within 7 days",
            ),
            (
                "[retention]\nrows = { site_events = \"1d\" }",
                "m.toml:2: `[retention]`, `rows.site_events`: `1d` is too short: nothing may be deleted within 7 days",
            ),
            ("[retention]\nlog = \"long\"", "m.toml:2: `[retention]`, `log`: `long` is not a duration"),
            (
                "[retention]\nlog_bytes = \"20GB\"",
                "m.toml:2: `[retention]`, `log_bytes`: `20GB` is not a size such as `512MiB` or `20GiB`",
            ),
            (
                "[retention]\nstreams = { nothing = \"30d\" }",
                "m.toml:2: `[retention]` names stream `nothing`, which is not declared",
            ),
            (
                "[retention]\nrows = { nothing = \"30d\" }",
                "m.toml:2: `[retention]` names view `nothing`, which is not declared",
            ),
            (
                "[retention]\nrows = { revenue = \"30d\" }",
                "m.toml:2: `[retention]` names view `revenue`, which is not of kind `table`: its rows have no age",
            ),
            (
                "\n[retention]\nrow = \"30d\"",
                "m.toml:3: `[retention]` has no setting `row`; did you mean `rows`?",
            ),
            ("[dedup]\nwindow = \"soon\"", "m.toml:2: `[dedup]`, `window`: `soon` is not a duration"),
            (
                "listen = [\"ftp://localhost:21\"]",
                "m.toml:1: `listen`: `ftp://localhost:21` is not an address to listen on",
            ),
            ("\nlisten = [\"https://localhost:1\"]", "m.toml:2: `https://localhost:1` needs a certificate"),
            ("[tls]\ncertificate = \"c.pem\"", "m.toml:1: `[tls]` needs the setting `key`"),
            ("listen = [\"nowhere\"]", "m.toml:1: `listen`: `nowhere` is not an address to listen on"),
        ];
        for (text, message) in cases {
            let error = load(text).expect_err(text);
            assert!(error.starts_with(message), "{text}\n  says {error}\n  not {message}");
        }
    }
}
