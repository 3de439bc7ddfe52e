//! The originals' settings: a `.env` file in the working directory, and the variables they were run
//! with. `MILLRACE_...` wins over them; each one that is used is logged.

use std::collections::BTreeMap;
use std::path::Path;

use super::legacy_store::{self, LegacyStore};
use super::web_origins::checked_origin;

/// What of the originals' environment concerns this server.
/// Without `Debug`: it holds secrets.
#[derive(Clone, Default)]
pub struct LegacyEnv {
    /// From `PORT` or `API_PORT`.
    pub port: Option<u16>,
    /// From `API_KEY`: a literal key for sending and reading.
    pub api_key: Option<String>,
    /// From `ALLOWED_ORIGINS`: pages that may send where no key is asked for.
    pub origins: Vec<String>,
    /// From `DB_URL` and `DATABASE`, or `MYSQL_HOST` and its like: the URL of a store, or why it is none.
    pub store_url: Option<Result<String, String>>,
    /// The names that were used, for the log.
    pub used: Vec<&'static str>,
    /// What was set and could not be used, with the reason.
    pub unusable: Vec<String>,
}

/// The variables of a `.env` file; none if there is no file.
fn load_dotenv(path: &Path) -> std::io::Result<BTreeMap<String, String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(parse(&text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error),
    }
}

/// What is left out is said: somebody may rely on it.
const NOT_YET: [&str; 4] = ["RABBITMQ_URL", "MAX_RETRIES", "BATCH_SIZE", "BATCH_INTERVAL"];

impl LegacyEnv {
    /// Those of the environment, over a `.env` file in the working directory.
    pub fn here() -> Result<Self, String> {
        let dotenv = load_dotenv(Path::new(".env")).map_err(|error| format!(".env: {error}"))?;
        Ok(Self::read(|name| std::env::var(name).ok().or_else(|| dotenv.get(name).cloned())))
    }

    /// `lookup` is the environment, over the `.env` file.
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
                    Err(_) => legacy_env.unusable.push(format!("{name} is no port")),
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
                // Their documents show them with a slash at the end, too.
                match checked_origin(text.trim_end_matches('/')) {
                    Some(origin) => legacy_env.origins.push(origin),
                    None => {
                        let reason = format!("ALLOWED_ORIGINS names `{text}`, which is no origin");
                        legacy_env.unusable.push(reason);
                    }
                }
            }
            legacy_env.used.push("ALLOWED_ORIGINS");
        }
        let (store, unusable) = legacy_store::named(set);
        legacy_env.unusable.extend(unusable);
        legacy_env.store_url = store.map(|store| {
            store.map(|LegacyStore { url, used }| {
                legacy_env.used.extend(used);
                url
            })
        });
        for name in NOT_YET.into_iter().filter(|name| set(name).is_some()) {
            legacy_env.unusable.push(format!("{name} means nothing to this version yet"));
        }
        legacy_env
    }

    /// The variable that the store's password is from, if the store is an original's.
    pub fn password_in(&self) -> &'static str {
        if self.used.contains(&"DB_URL") { "`DB_URL`" } else { "`MYSQL_PASSWORD`" }
    }

    /// Something that wins over it says where to listen.
    pub fn leave_port(&mut self) {
        self.port = None;
        self.used.retain(|name| !["PORT", "API_PORT"].contains(name));
    }

    /// Something that wins over it says where the store is.
    pub fn leave_store(&mut self) {
        self.store_url = None;
        self.used.retain(|name| !name.starts_with("MYSQL_") && !["DB_URL", "DATABASE"].contains(name));
    }
}

/// `NAME=value` or `NAME: value` lines, as dotenv reads them: comments, `export`, quotes.
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
    fn reads_what_dotenv_reads() {
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
    fn the_first_usable_port_counts_and_empty_means_unset() {
        let environment = BTreeMap::from([("PORT", "x"), ("API_PORT", "2025"), ("API_KEY", "")]);
        let legacy_env = LegacyEnv::read(|name| environment.get(name).map(|value| (*value).to_owned()));
        assert_eq!(
            (legacy_env.port, legacy_env.api_key, legacy_env.used),
            (Some(2025), None, vec!["API_PORT"])
        );
        assert_eq!(legacy_env.unusable, ["PORT is no port"]);
        let list = "http://localhost:3000/, null,,a b,*";
        let legacy_env = LegacyEnv::read(|name| (name == "ALLOWED_ORIGINS").then(|| list.to_owned()));
        assert_eq!(legacy_env.origins, ["http://localhost:3000", "null", "*"]);
        assert_eq!(legacy_env.unusable, ["ALLOWED_ORIGINS names `a b`, which is no origin"]);
    }
}
