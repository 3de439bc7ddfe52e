//! The settings of the replaced services: a `.env` file in the working directory, and their environment variables.
//! `MILLRACE_...` wins over them. Each one that is used is logged.

use std::collections::BTreeMap;
use std::path::Path;

use event::limits::RETRIES_MAX;

use super::Config;
use super::legacy_batch::{self, LegacyBatch};
use super::legacy_store::{self, LegacyStore};
use super::store::without_password;
use crate::http::checked_origin;

/// The settings of the replaced services that this server uses. There is no `Debug`, because they contain secrets.
#[derive(Clone, Default)]
pub struct LegacyEnv {
    /// The value of `PORT` or `API_PORT`.
    pub port: Option<u16>,
    /// The value of `API_KEY`: a literal key for sending and reading.
    pub api_key: Option<String>,
    /// The values of `ALLOWED_ORIGINS`: web pages that may send to sources that need no key.
    pub origins: Vec<String>,
    /// The URL of a store, from `DB_URL` and `DATABASE` or from the `MYSQL_...` variables, or why they name none.
    pub store_url: Option<Result<String, String>>,
    /// The values of `BATCH_SIZE` and `BATCH_INTERVAL`.
    pub batch: Option<LegacyBatch>,
    /// The value of `MAX_RETRIES`.
    pub retries: Option<usize>,
    /// The variables that are used, for the log and the greeting.
    pub used: Vec<UsedVariable>,
    /// Why variables that are set are not used, for the log.
    pub unusable: Vec<String>,
}

/// A variable that decides a setting, and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsedVariable {
    pub name: &'static str,
    /// It is in the `.env` file, and not in the environment.
    pub in_file: bool,
}

/// Returns the variables of a `.env` file; none if the file does not exist.
fn load_dotenv(path: &Path) -> std::io::Result<BTreeMap<String, String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(parse(&text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error),
    }
}

/// Variables without effect. The log names them, because the user may rely on them.
const NOT_YET: [&str; 1] = ["RABBITMQ_URL"];

/// The delays of the replaced notification service, in seconds. `MAX_RETRIES` says how many of them there are; further ones
/// are like the last.
const RETRY_DELAYS: [u64; 3] = [1, 5, 30];

const PORTS: [&str; 2] = ["PORT", "API_PORT"];

impl LegacyEnv {
    /// Reads the environment, and a `.env` file in the working directory unless `no_env_file` is set. The environment
    /// wins.
    pub fn here(no_env_file: bool) -> Result<Self, String> {
        let dotenv = if no_env_file { Ok(BTreeMap::new()) } else { load_dotenv(Path::new(".env")) };
        let advice = "correct it, or start with `--no-env-file`";
        let dotenv = dotenv.map_err(|error| format!("`.env` cannot be read: {error}; {advice}"))?;
        Ok(Self::read(|name| std::env::var(name).ok(), &dotenv))
    }

    /// `environment` returns the value of a variable.
    fn read(environment: impl Fn(&str) -> Option<String>, dotenv: &BTreeMap<String, String>) -> Self {
        let mut legacy_env = Self::default();
        let in_file = |name: &str| environment(name).is_none();
        let set = |name: &str| {
            let value = environment(name).or_else(|| dotenv.get(name).cloned());
            value.filter(|value| !value.is_empty())
        };
        let used = |name: &'static str| UsedVariable { name, in_file: in_file(name) };
        legacy_env.read_port(set, used);
        if let Some(key) = set("API_KEY") {
            legacy_env.api_key = Some(key);
            legacy_env.used.push(used("API_KEY"));
        }
        if let Some(list) = set("ALLOWED_ORIGINS") {
            legacy_env.read_origins(&list);
            legacy_env.used.push(used("ALLOWED_ORIGINS"));
        }
        let (store, unusable) = legacy_store::from_variables(set);
        legacy_env.unusable.extend(unusable);
        legacy_env.store_url = store.map(|store| {
            store.map(|LegacyStore { url, used: names }| {
                legacy_env.used.extend(names.into_iter().map(&used));
                url
            })
        });
        let (batch, unusable) = LegacyBatch::from_variables(set);
        legacy_env.unusable.extend(unusable);
        legacy_env.used.extend(batch.iter().flat_map(LegacyBatch::used).map(used));
        legacy_env.batch = batch;
        if let Some(text) = set("MAX_RETRIES") {
            match text.parse().ok().filter(|retries| *retries <= RETRIES_MAX) {
                Some(retries) => {
                    legacy_env.retries = Some(retries);
                    legacy_env.used.push(used("MAX_RETRIES"));
                }
                None => {
                    let reason = format!("`MAX_RETRIES` is not a number from 0 to {RETRIES_MAX}");
                    legacy_env.unusable.push(reason);
                }
            }
        }
        for name in NOT_YET.into_iter().filter(|name| set(name).is_some()) {
            legacy_env.unusable.push(format!("`{name}` is not supported by this version"));
        }
        for name in dotenv.keys().filter(|name| name.starts_with("MILLRACE_")) {
            let reason = "has no effect in `.env`; set it in the environment of the process";
            legacy_env.unusable.push(format!("`{name}` {reason}"));
        }
        legacy_env
    }

    /// Uses the first valid port, and says why another is not used.
    fn read_port(
        &mut self,
        set: impl Fn(&str) -> Option<String>,
        used: impl Fn(&'static str) -> UsedVariable,
    ) {
        for name in PORTS {
            let Some(text) = set(name) else { continue };
            match text.parse() {
                Err(_) => self.unusable.push(format!("`{name}` is not a valid port number")),
                Ok(port) if self.port.is_none_or(|first| first == port) => {
                    self.port = Some(port);
                    self.used.push(used(name));
                }
                Ok(_) => {
                    let first = self.port_from();
                    self.unusable.push(format!("`{name}` names another port than {first}, which is used"));
                }
            }
        }
    }

    fn read_origins(&mut self, list: &str) {
        for text in list.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            // The documentation of the replaced services also writes origins with a slash at the end.
            match checked_origin(text.trim_end_matches('/')) {
                Some(origin) => self.origins.push(origin),
                None => {
                    let reason = format!("`ALLOWED_ORIGINS` names `{text}`, which is not an origin");
                    self.unusable.push(reason);
                }
            }
        }
    }

    /// Returns `MAX_RETRIES` as the setting `retry` of `[delivery]`.
    pub fn retry_setting(&self) -> Option<String> {
        let last = RETRY_DELAYS[RETRY_DELAYS.len() - 1];
        let delay = |index: usize| format!("\"{}s\"", RETRY_DELAYS.get(index).unwrap_or(&last));
        let delays: Vec<String> = (0..self.retries?).map(delay).collect();
        Some(format!("[delivery]\nretry = [{}]\n", delays.join(", ")))
    }

    /// Returns the variable that the password of the legacy store comes from, for messages.
    pub fn password_in(&self) -> &'static str {
        if self.used.iter().any(|used| used.name == "DB_URL") { "`DB_URL`" } else { "`MYSQL_PASSWORD`" }
    }

    /// Ignores the port, because the option or variable `winner` says where to listen.
    pub fn leave_port(&mut self, winner: &str) {
        if self.port.take().is_some() {
            self.leave(|name| PORTS.contains(&name), &format!("{winner} is set"));
        }
    }

    /// Ignores the store, because the setting `winner` names another.
    pub fn leave_store(&mut self, winner: &str) {
        if self.store_url.take().is_some_and(|url| url.is_ok()) {
            self.leave(is_of_store, &format!("{winner} is set"));
        }
    }

    /// Ignores the batches, because of the view that `config` has.
    pub fn leave_batch_unless_used(&mut self, config: &Config) {
        if let Some(reason) = self.batch.as_ref().and_then(|batch| batch.unused_in(config)) {
            self.batch = None;
            self.leave(is_of_batch, reason);
        }
    }

    fn leave(&mut self, is_left: impl Fn(&str) -> bool, reason: &str) {
        let names = self.listed(&is_left);
        let have = match self.used.iter().filter(|used| is_left(used.name)).count() {
            1 => "has",
            _ => "have",
        };
        self.used.retain(|used| !is_left(used.name));
        self.unusable.push(format!("{names} {have} no effect, because {reason}"));
    }

    /// Returns the variables that decide the port, for messages.
    pub fn port_from(&self) -> String {
        self.listed(|name| PORTS.contains(&name))
    }

    /// Returns the variables that decide the store, for messages.
    pub fn store_from(&self) -> String {
        self.listed(is_of_store)
    }

    /// Returns the variables that decide the batches, for messages.
    pub fn batch_from(&self) -> String {
        self.listed(is_of_batch)
    }

    /// Returns where the key comes from, for messages.
    pub fn key_from(&self) -> String {
        self.listed(|name| name == "API_KEY")
    }

    /// Returns a line for each setting that the variables decide: its name, its value without secrets, and the
    /// variables.
    pub fn decisions(&self) -> Vec<String> {
        let store = self.store_url.as_ref().and_then(|url| url.as_ref().ok());
        let store = store.map(|url| without_password(url).replacen(":***@", "@", 1));
        let port = self.port.map(|port| port.to_string());
        let key = self.api_key.as_ref().map(|_| "accepted besides the keys of this server".to_owned());
        let origins = (!self.origins.is_empty()).then(|| self.origins.join(" "));
        let batch = self.batch.as_ref().map(LegacyBatch::to_string);
        let line = |setting: &str, value: Option<String>, from: String| {
            value.map(|value| format!("{setting}: {value}, from {from}"))
        };
        let lines = [
            line("store", store, self.store_from()),
            line("port", port, self.port_from()),
            line("API key", key, self.key_from()),
            line("allowed origins", origins, self.listed(|name| name == "ALLOWED_ORIGINS")),
            line("batches of view `inventory`", batch, self.batch_from()),
        ];
        lines.into_iter().flatten().collect()
    }

    /// Lists used variables with their place, such as `DB_URL and DATABASE in .env`.
    fn listed(&self, is_wanted: impl Fn(&str) -> bool) -> String {
        let in_place = |in_file: bool, place: &str| {
            let used = self.used.iter().filter(|used| used.in_file == in_file && is_wanted(used.name));
            let names: Vec<&str> = used.map(|used| used.name).collect();
            (!names.is_empty()).then(|| format!("{} in {place}", names.join(" and ")))
        };
        let parts = [in_place(true, ".env"), in_place(false, "the environment")];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

fn is_of_batch(name: &str) -> bool {
    legacy_batch::VARIABLES.contains(&name)
}

fn is_of_store(name: &str) -> bool {
    name.starts_with("MYSQL_") || ["DB_URL", "DATABASE"].contains(&name)
}

/// Parses lines `NAME=value` or `NAME: value` like dotenv, with comments, `export` and quotes.
fn parse(text: &str) -> BTreeMap<String, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().filter_map(assignment).collect()
}

fn assignment(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    let exported = line.strip_prefix("export").filter(|rest| rest.starts_with(char::is_whitespace));
    let line = exported.unwrap_or(line).trim_start();
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let (name, rest) = line.split_at(line.find(|c| !is_name(c)).unwrap_or(line.len()));
    let after_colon = rest.strip_prefix(':').filter(|value| value.starts_with(char::is_whitespace));
    let value = rest.trim_start().strip_prefix('=').or(after_colon)?;
    (!name.is_empty()).then(|| (name.to_owned(), unquote(value.trim())))
}

fn unquote(value: &str) -> String {
    for quote in ['"', '\'', '`'] {
        let inner = value.strip_prefix(quote).and_then(|rest| rest.split_once(quote));
        if let Some((inner, _)) = inner {
            return if quote == '"' { inner.replace("\\n", "\n") } else { inner.to_owned() };
        }
    }
    value.split('#').next().unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_retries_shortens_or_lengthens_the_schedule() {
        let setting = |retries: &str| {
            let environment = BTreeMap::from([("MAX_RETRIES", retries)]);
            let read = LegacyEnv::read(
                |name| environment.get(name).map(|text| (*text).to_owned()),
                &BTreeMap::new(),
            );
            (read.retry_setting(), read.unusable.len())
        };
        let retry = |delays: &str| (Some(format!("[delivery]\nretry = [{delays}]\n")), 0);
        assert_eq!(setting("3"), retry(r#""1s", "5s", "30s""#));
        assert_eq!(setting("1"), retry(r#""1s""#));
        assert_eq!(setting("5"), retry(r#""1s", "5s", "30s", "30s", "30s""#));
        assert_eq!(setting("0"), retry(""));
        assert_eq!(setting("many"), (None, 1));
    }

    #[test]
    fn a_file_is_read_as_dotenv_reads_it() {
        let text = "\u{feff}FIRST=1\n# c\nPORT=3333\n export API_KEY = \"se=cret#1\" # x\nexport\tE=e\nA='b c'\n\
                    B=plain # note\nC=cut#off\nD: colon\nEMPTY=\n=x\nnoise\nno:ise\nexported=1";
        let read = parse(text);
        let expected = [
            ("A", "b c"),
            ("API_KEY", "se=cret#1"),
            ("B", "plain"),
            ("C", "cut"),
            ("D", "colon"),
            ("E", "e"),
            ("EMPTY", ""),
            ("FIRST", "1"),
            ("PORT", "3333"),
            ("exported", "1"),
        ];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    }

    fn read(environment: &[(&str, &str)], dotenv: &[(&str, &str)]) -> LegacyEnv {
        let owned = |list: &[(&str, &str)]| -> BTreeMap<String, String> {
            list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let environment = owned(environment);
        LegacyEnv::read(|name| environment.get(name).cloned(), &owned(dotenv))
    }

    #[test]
    fn the_first_valid_port_is_used_and_an_empty_value_counts_as_unset() {
        let legacy_env = read(&[("PORT", "x"), ("API_PORT", "2025"), ("API_KEY", "")], &[]);
        assert_eq!((legacy_env.port, &legacy_env.api_key), (Some(2025), &None));
        assert_eq!(legacy_env.used, [UsedVariable { name: "API_PORT", in_file: false }]);
        assert_eq!(legacy_env.unusable, ["`PORT` is not a valid port number"]);
        let legacy_env = read(&[("ALLOWED_ORIGINS", "http://localhost:3000/, null,,a b,*")], &[]);
        assert_eq!(legacy_env.origins, ["http://localhost:3000", "null", "*"]);
        assert_eq!(legacy_env.unusable, ["`ALLOWED_ORIGINS` names `a b`, which is not an origin"]);
    }

    #[test]
    fn a_second_port_is_named_as_ignored() {
        let legacy_env = read(&[], &[("PORT", "3000"), ("API_PORT", "3005")]);
        assert_eq!(legacy_env.port, Some(3000));
        assert_eq!(legacy_env.unusable, ["`API_PORT` names another port than PORT in .env, which is used"]);
        let legacy_env = read(&[], &[("PORT", "3000"), ("API_PORT", "3000")]);
        assert_eq!(legacy_env.decisions(), ["port: 3000, from PORT and API_PORT in .env"]);
        assert!(legacy_env.unusable.is_empty());
        let mut legacy_env = legacy_env;
        legacy_env.leave_port("`--listen`");
        assert_eq!(
            legacy_env.unusable,
            ["PORT and API_PORT in .env have no effect, because `--listen` is set"]
        );
    }

    #[test]
    fn each_decision_names_its_variables_and_no_secret() {
        let dotenv = [("DB_URL", "mysql://shop:hidden@db/shopdb"), ("API_KEY", "hidden"), ("PORT", "3333")];
        let mut legacy_env = read(&[("PORT", "3334")], &dotenv);
        let expected = [
            "store: mysql://shop@db/shopdb, from DB_URL in .env",
            "port: 3334, from PORT in the environment",
            "API key: accepted besides the keys of this server, from API_KEY in .env",
        ];
        assert_eq!(legacy_env.decisions(), expected);
        legacy_env.leave_port("`--listen`");
        legacy_env.leave_store("`[store] url`");
        assert_eq!(legacy_env.decisions(), expected[2..]);
        assert_eq!(
            legacy_env.unusable,
            [
                "PORT in the environment has no effect, because `--listen` is set",
                "DB_URL in .env has no effect, because `[store] url` is set"
            ]
        );
        let legacy_env = read(&[], &[("MILLRACE_STORE", "sqlite:a.db")]);
        assert!(legacy_env.unusable[0].starts_with("`MILLRACE_STORE` has no effect in `.env`"));
    }

    #[test]
    fn batches_have_the_documented_value_of_the_variable_that_is_not_set() {
        let decision = |environment: &[(&str, &str)], dotenv: &[(&str, &str)]| {
            let legacy_env = read(environment, dotenv);
            (legacy_env.decisions(), legacy_env.unusable)
        };
        let decided = |line: &str| (vec![format!("batches of view `inventory`: {line}")], Vec::new());
        assert_eq!(
            decision(&[("BATCH_INTERVAL", "250")], &[("BATCH_SIZE", "7"), ("BATCH_INTERVAL", "1")]),
            decided("7 events or 250 ms, from BATCH_SIZE in .env, BATCH_INTERVAL in the environment")
        );
        assert_eq!(
            decision(&[], &[("BATCH_SIZE", "7")]),
            decided("7 events or 5000 ms, from BATCH_SIZE in .env")
        );
        let (decisions, unusable) =
            decision(&[("BATCH_SIZE", "0"), ("BATCH_INTERVAL", "3600000")], &[("BATCH_SIZE", "7")]);
        let line =
            "batches of view `inventory`: 100 events or 3600000 ms, from BATCH_INTERVAL in the environment";
        assert_eq!(decisions, [line]);
        assert_eq!(unusable, ["`BATCH_SIZE` is not a number of events from 1 to 32768"]);
        let (decisions, unusable) = decision(&[("BATCH_SIZE", "many"), ("BATCH_INTERVAL", "3600001")], &[]);
        assert_eq!((decisions.len(), unusable.len()), (0, 2));
        assert_eq!(unusable[1], "`BATCH_INTERVAL` is not a number of milliseconds from 1 to 3600000");
    }
}
