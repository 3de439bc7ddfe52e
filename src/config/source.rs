//! `[door.NAME]`: a way in that speaks somebody else's contract, one event a request: its path, what it
//! answers, and the words of its refusals. The built-in doors are such sections, too.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::file::{Declared, users_own};
use super::stream::is_name;
use super::web_origins::checked_origins;
use super::{ConfigError, Preset, Stream};

#[derive(Clone, Debug)]
pub struct SourceConfig {
    pub path: String,
    pub stream: String,
    pub access: Access,
    /// Meant to be open to everybody, beyond loopback too.
    pub public: bool,
    /// Whether a body's `id` or `Idempotency-Key` names its event.
    pub ids: bool,
    pub status: u16,
    /// JSON, with [`EVENT_ID`] where the event's id goes.
    pub answer: String,
    pub error_key: String,
    pub errors: SourceErrors,
    /// Pages that may send, by their origins; `*` is all of them.
    pub origins: Vec<String>,
}

/// The kinds of sources; a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    Http,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    Key,
    Open,
}

/// A contract's own words, with [`REASON`] where ours go.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceErrors {
    pub unauthorized: Option<String>,
    pub forbidden: Option<String>,
    /// A required field that is not there; else as `invalid`.
    pub missing: Option<String>,
    pub invalid: Option<String>,
    pub conflict: Option<String>,
}

pub const EVENT_ID: &str = "{eventId}";
pub const REASON: &str = "{reason}";

/// What other rooms answer at; a path that ends in `/` stands for all below it.
const TAKEN_PATHS: [&str; 5] = ["/health", "/ready", "/metrics", "/v1", "/v1/"];

/// Everything may be missing: a section of the user's is laid over the built-in one of that name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSection {
    kind: Option<SourceKind>,
    path: Option<String>,
    stream: Option<String>,
    access: Option<Access>,
    public: Option<bool>,
    ids: Option<bool>,
    status: Option<u16>,
    answer: Option<String>,
    error_key: Option<String>,
    errors: Option<SourceErrors>,
    origins: Option<Vec<String>>,
}

impl SourceSection {
    /// What is said here, and what `below` says beside.
    pub fn over(self, below: Self) -> Self {
        Self {
            kind: self.kind.or(below.kind),
            path: self.path.or(below.path),
            stream: self.stream.or(below.stream),
            access: self.access.or(below.access),
            public: self.public.or(below.public),
            ids: self.ids.or(below.ids),
            status: self.status.or(below.status),
            answer: self.answer.or(below.answer),
            error_key: self.error_key.or(below.error_key),
            errors: self.errors.or(below.errors),
            origins: self.origins.or(below.origins),
        }
    }

    fn check(&self, name: &str) -> Result<SourceConfig, String> {
        if !is_name(name) {
            return Err("needs a name of small letters, digits, `-` and `_`".to_owned());
        }
        if self.kind.is_none() {
            return Err(match Preset::with_section(&format!("source.{name}")) {
                Some(preset) => {
                    let preset = preset.name();
                    format!("belongs to preset `{preset}`, which is not on; add `{preset}` to `presets`")
                }
                None => "needs `kind = \"http\"`".to_owned(),
            });
        }
        let needed = |value: &Option<String>, what: &str| value.clone().ok_or(format!("needs {what}"));
        let stream = needed(&self.stream, "a `stream` to lead to")?;
        let path = needed(&self.path, "a `path`, such as `/events`")?;
        check_path(&path)?;
        let answer = needed(&self.answer, "an `answer`")?;
        check_answer(&answer)?;
        let status = self.status.unwrap_or(200);
        if !(200..300).contains(&status) {
            return Err(format!("has status {status}, which does not say yes: 200 to 299 do"));
        }
        let error_key = self.error_key.clone().unwrap_or_else(|| "error".to_owned());
        let errors = self.errors.clone().unwrap_or_default();
        for words in errors.all() {
            only_placeholder(words, REASON)?;
        }
        Ok(SourceConfig {
            path,
            stream,
            access: self.access.unwrap_or(Access::Key),
            public: self.public.unwrap_or(false),
            ids: self.ids.unwrap_or(false),
            status,
            answer,
            error_key,
            errors,
            origins: checked_origins(self.origins.as_deref())?,
        })
    }
}

impl SourceErrors {
    fn all(&self) -> impl Iterator<Item = &str> {
        [&self.unauthorized, &self.forbidden, &self.missing, &self.invalid, &self.conflict]
            .into_iter()
            .filter_map(Option::as_deref)
    }
}

/// All doors, each sound and at a path of its own.
pub fn check_sources(
    sections: &BTreeMap<String, Declared<SourceSection>>,
    streams: &BTreeMap<String, Stream>,
) -> Result<BTreeMap<String, SourceConfig>, ConfigError> {
    let mut sources: BTreeMap<String, SourceConfig> = BTreeMap::new();
    for (name, section) in sections {
        let wrong = |reason: String| ConfigError::at(&section.origin, format!("source `{name}` {reason}"));
        let source = section.value.check(name).map_err(wrong)?;
        if !streams.contains_key(&source.stream) {
            return Err(wrong(format!("leads to stream `{}`, which is not declared", source.stream)));
        }
        if let Some((other, _)) = sources.iter().find(|(_, other)| other.path == source.path) {
            let reason = format!("source `{other}` and source `{name}` both have path `{}`", source.path);
            return Err(ConfigError::at(users_own([&section.origin, &sections[other].origin]), reason));
        }
        sources.insert(name.clone(), source);
    }
    Ok(sources)
}

/// Whether a path is one that nothing of millrace's own is at, made of plain text.
pub fn check_path(path: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let step = |step: &str| !step.is_empty() && ![".", ".."].contains(&step) && step.bytes().all(plain);
    let sound = path == "/" || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(step));
    if !sound {
        return Err(format!(
            "has path `{path}`; one begins with `/`, and letters, digits, `-`, `.`, `_` and `~` stand between slashes"
        ));
    }
    let taken = |taken: &&str| match taken.ends_with('/') {
        true => path.starts_with(*taken),
        false => path == *taken,
    };
    match TAKEN_PATHS.iter().any(taken) {
        true => Err(format!("has path `{path}`, where something else is answered")),
        false => Ok(()),
    }
}

fn check_answer(answer: &str) -> Result<(), String> {
    only_placeholder(answer, EVENT_ID)?;
    if answer.matches(EVENT_ID).count() > 1 {
        return Err(format!("has `{EVENT_ID}` in its `answer` more than once"));
    }
    match serde_json::from_str::<serde_json::Value>(&answer.replace(EVENT_ID, "")) {
        Ok(_) => Ok(()),
        Err(_) => Err("has an `answer` that is not JSON".to_owned()),
    }
}

/// Refuses any other `{word}`: misspelt, it would be sent as it stands. Keys of JSON stand in quotes.
fn only_placeholder(text: &str, known: &str) -> Result<(), String> {
    for rest in text.split('{').skip(1) {
        let word = rest.split('}').next().unwrap_or_default();
        let is_word = rest.len() > word.len()
            && !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_alphabetic());
        if is_word && format!("{{{word}}}") != known {
            return Err(format!("says `{{{word}}}`; only `{known}` can stand there"));
        }
    }
    Ok(())
}
