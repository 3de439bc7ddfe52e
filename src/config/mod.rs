//! What the user declares: one TOML file laid over the built-in one, the environment over both. All of
//! it is checked at start, with file and line, so that nothing of it can fail later.

mod dotenv;
mod duration;
mod file;
mod listen;
mod outcome;
mod read;
mod stats;
mod stream;
mod view;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use dotenv::{Originals, load_dotenv};
pub use duration::duration;
pub use file::DEFAULT;
pub use listen::ListenAt;
pub use outcome::outcome;
pub use read::{ReadConfig, ReadShape};
pub use stats::{CountedConfig, StatsConfig};
pub use stream::Stream;
pub use view::{AmountRule, LedgerConfig, ViewConfig, ViewKindConfig};

use file::{File, Origin};

/// Everything that is declared, checked.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: Vec<ListenAt>,
    pub hosts: Vec<String>,
    pub trusted_proxies: Vec<IpAddr>,
    pub log_url: String,
    pub store_url: String,
    pub seen_window: Duration,
    pub live_event: Option<LiveEvent>,
    pub streams: BTreeMap<String, Stream>,
    pub views: BTreeMap<String, ViewConfig>,
    pub reads: BTreeMap<String, ReadConfig>,
}

/// The door of contract 1.
#[derive(Clone, Debug)]
pub struct LiveEvent {
    pub stream: String,
    pub view: String,
    pub access: Access,
    /// Meant to be open to everybody, beyond loopback too.
    pub public: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    Key,
    Open,
}

/// What the command line and the environment say; it wins over files.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub listen: Vec<String>,
    pub log_url: Option<String>,
    pub store_url: Option<String>,
}

/// One line for the user: where, and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("{path}: {reason}", path = path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("{origin}: {reason}")]
    Wrong { origin: String, reason: String },
}

impl ConfigError {
    fn at(origin: &Origin, reason: impl Into<String>) -> Self {
        Self::Wrong { origin: origin.to_string(), reason: reason.into() }
    }
}

impl Config {
    /// `path` is the user's file; without one the built-in configuration stands alone.
    pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Self, ConfigError> {
        let mut file = File::parse(DEFAULT, "default.toml")?;
        if let Some(path) = path {
            file.lay_over(File::parse(&read(path)?, &path.display().to_string())?);
        }
        file.check(overrides)
    }

    /// Ways in and out that are open to whoever reaches them, without being declared public.
    pub fn opened(&self) -> Vec<String> {
        let door =
            self.live_event.iter().map(|door| ("door `live_event`".to_owned(), door.access, door.public));
        let reads =
            self.reads.iter().map(|(name, read)| (format!("read `{name}`"), read.access, read.public));
        let opened = door.chain(reads).filter(|(_, access, public)| *access == Access::Open && !public);
        opened.map(|(name, ..)| name).collect()
    }

    /// The view that a door or command means by `name`.
    pub fn ledger(&self, name: &str) -> Option<&LedgerConfig> {
        match self.views.get(name).map(|view| &view.kind) {
            Some(ViewKindConfig::Ledger(ledger)) => Some(ledger),
            Some(ViewKindConfig::Stats(_)) | None => None,
        }
    }
}

/// The user's file: the one that is named, or the one in the working directory, if there is one.
pub fn user_file(named: Option<PathBuf>) -> Option<PathBuf> {
    let beside = Path::new("millrace.toml");
    named.or_else(|| beside.exists().then(|| beside.to_owned()))
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.toml");
        std::fs::write(&path, text).expect("written");
        Config::load(Some(&path), &Overrides::default())
            .map_err(|error| error.to_string().replace(&path.display().to_string(), "m.toml"))
    }

    #[test]
    fn the_built_in_configuration_is_sound() {
        let config = Config::load(None, &Overrides::default()).expect("sound");
        assert_eq!(config.listen.len(), 1);
        assert!(config.ledger("revenue").is_some());
        assert_eq!(config.seen_window, Duration::from_secs(7 * 24 * 3600));
    }

    #[test]
    fn a_second_ledger_is_a_few_lines() {
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
        .expect("sound");
        assert!(config.streams.contains_key("refunds"));
        assert_eq!(config.ledger("refunds").map(|ledger| ledger.table.as_str()), Some("refunds"));
    }

    #[test]
    fn what_is_wrong_is_named_with_file_and_line() {
        let cases = [
            ("lisen = []", "m.toml:1: unknown field `lisen`"),
            ("\n[log]\nurl = 1", "m.toml:3: invalid type"),
            (
                "[view.revenue]\nkind = \"ledger\"\nfrom = \"sales\"\namount = \"+value\"",
                "m.toml:1: view `revenue` is from stream `sales`, which is not declared",
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
                "m.toml:1: view `r` has no amount for `subtract_revenue`, which field `name` may be",
            ),
            ("[stream.s]\nkey = \"k\"", "m.toml:1: stream `s` has key `k`, which is not among its fields"),
            (
                "[stream.s]\nkey = \"k\"\nfields.k = { type = \"text\" }",
                "m.toml:1: stream `s` has key `k`, which must be required text of at most 255 characters",
            ),
            (
                "[door.live_event]\nstream = \"x\"\nview = \"revenue\"",
                "m.toml:1: door `live_event` leads to stream `x`, which is not declared",
            ),
            ("[gate]\nwindow = \"soon\"", "m.toml:2: `soon` is no duration"),
            ("listen = [\"nowhere\"]", "m.toml:1: `nowhere` is no address to listen at"),
        ];
        for (text, message) in cases {
            let error = load(text).expect_err(text);
            assert!(error.starts_with(message), "{text}\n  says {error}\n  not {message}");
        }
    }
}
