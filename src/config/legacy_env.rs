//! The settings of the replaced services: a `.env` file in the working directory, and their environment variables.
//! `MILLRACE_...` wins over them. Each one that is used is logged.

use std::collections::BTreeMap;
use std::path::Path;

use super::legacy_store::{self, LegacyStore};
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
    /// The names of the variables that are used, for the log.
    pub used: Vec<&'static str>,
    /// Why variables that are set are not used, for the log.
    pub unusable: Vec<String>,
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
const NOT_YET: [&str; 4] = ["RABBITMQ_URL", "MAX_RETRIES", "BATCH_SIZE", "BATCH_INTERVAL"];

impl LegacyEnv {
    /// Reads the environment and a `.env` file in the working directory. The environment wins.
    pub fn here() -> Result<Self, String> {
        let dotenv = load_dotenv(Path::new(".env"));
        let dotenv = dotenv.map_err(|error| format!("`.env` cannot be read: {error}"))?;
        Ok(Self::read(|name| std::env::var(name).ok().or_else(|| dotenv.get(name).cloned())))
    }

    /// `lookup` returns the value of a variable.
    fn read(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let mut legacy_env = Self::default();
        let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
        for name in ["PORT", "API_PORT"] {
            match (set(name), legacy_env.port) {
                (Some(text), None) => match text.parse() {
                    Ok(port) => {
                        legacy_env.port = Some(port);
                        legacy_env.used.push(name);
                    }
                    Err(_) => legacy_env.unusable.push(format!("`{name}` is not a valid port number")),
                },
                _ => continue,
            }
        }
        if let Some(key) = set("API_KEY") {
            legacy_env.api_key = Some(key);
            legacy_env.used.push("API_KEY");
        }
        if let Some(list) = set("ALLOWED_ORIGINS") {
            for text in list.split(',').map(str::trim).filter(|text| !text.is_empty()) {
                // The documentation of the replaced services also writes origins with a slash at the end.
                match checked_origin(text.trim_end_matches('/')) {
                    Some(origin) => legacy_env.origins.push(origin),
                    None => {
                        let reason = format!("`ALLOWED_ORIGINS` names `{text}`, which is not an origin");
                        legacy_env.unusable.push(reason);
                    }
                }
            }
            legacy_env.used.push("ALLOWED_ORIGINS");
        }
        let (store, unusable) = legacy_store::from_variables(set);
        legacy_env.unusable.extend(unusable);
        legacy_env.store_url = store.map(|store| {
            store.map(|LegacyStore { url, used }| {
                legacy_env.used.extend(used);
                url
            })
        });
        for name in NOT_YET.into_iter().filter(|name| set(name).is_some()) {
            legacy_env.unusable.push(format!("`{name}` is not supported by this version"));
        }
        legacy_env
    }

    /// Returns the variable that the password of the legacy store comes from, for messages.
    pub fn password_in(&self) -> &'static str {
        if self.used.contains(&"DB_URL") { "`DB_URL`" } else { "`MYSQL_PASSWORD`" }
    }

    /// Ignores the port, because a setting that wins over it says where to listen.
    pub fn leave_port(&mut self) {
        self.port = None;
        self.used.retain(|name| !["PORT", "API_PORT"].contains(name));
    }

    /// Ignores the store, because a setting that wins over it names another.
    pub fn leave_store(&mut self) {
        self.store_url = None;
        self.used.retain(|name| !name.starts_with("MYSQL_") && !["DB_URL", "DATABASE"].contains(name));
    }
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

    #[test]
    fn the_first_valid_port_is_used_and_an_empty_value_counts_as_unset() {
        let environment = BTreeMap::from([("PORT", "x"), ("API_PORT", "2025"), ("API_KEY", "")]);
        let legacy_env = LegacyEnv::read(|name| environment.get(name).map(|value| (*value).to_owned()));
        assert_eq!(
            (legacy_env.port, legacy_env.api_key, legacy_env.used),
            (Some(2025), None, vec!["API_PORT"])
        );
        assert_eq!(legacy_env.unusable, ["`PORT` is not a valid port number"]);
        let list = "http://localhost:3000/, null,,a b,*";
        let legacy_env = LegacyEnv::read(|name| (name == "ALLOWED_ORIGINS").then(|| list.to_owned()));
        assert_eq!(legacy_env.origins, ["http://localhost:3000", "null", "*"]);
        assert_eq!(legacy_env.unusable, ["`ALLOWED_ORIGINS` names `a b`, which is not an origin"]);
    }
}
