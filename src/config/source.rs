//! `[source.NAME]`: a way in that follows an existing contract, with one event per request: its path, its answer and
//! the messages of its refusals. The sources of presets are such sections, too.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::location::{Declared, user_location};
use super::names::is_name;
use super::web_origins::checked_origins;
use super::{ConfigError, Preset, Stream};

#[derive(Clone, Debug)]
pub struct SourceConfig {
    pub path: String,
    pub stream: String,
    pub access: Access,
    /// Confirms that an open source may be reached from other machines.
    pub public: bool,
    /// The body's `id`, or `Idempotency-Key`, names the event.
    pub ids: bool,
    pub status: u16,
    /// The JSON answer to an accepted event, with [`EVENT_ID`] in place of the event's id.
    pub answer: String,
    pub error_key: String,
    pub errors: SourceErrors,
    /// The origins of the web pages that may send; `*` means all.
    pub origins: Vec<String>,
}

/// The kinds of sources.
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

/// A contract's own messages, with [`REASON`] in place of millrace's message.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceErrors {
    pub unauthorized: Option<String>,
    pub forbidden: Option<String>,
    /// A required field is missing. Without this message, `invalid` is used.
    pub missing: Option<String>,
    pub invalid: Option<String>,
    pub conflict: Option<String>,
}

pub const EVENT_ID: &str = "{eventId}";
pub const REASON: &str = "{reason}";

/// Paths that millrace itself uses. One that ends in `/` stands for all paths below it.
const TAKEN_PATHS: [&str; 5] = ["/health", "/ready", "/metrics", "/v1", "/v1/"];

/// The section as it is written. Every setting is optional, because the user's section may change only some settings
/// of a preset's section.
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
    fn check(&self, name: &str) -> Result<SourceConfig, String> {
        if !is_name(name) {
            return Err("needs a name of at most 64 lower-case letters, digits, `-` and `_`".to_owned());
        }
        if self.kind.is_none() {
            let no_kind = || "needs `kind = \"http\"`".to_owned();
            return Err(Preset::not_on(&format!("source.{name}")).unwrap_or_else(no_kind));
        }
        let needed = |value: &Option<String>, what: &str| value.clone().ok_or(format!("needs {what}"));
        let stream = needed(&self.stream, "a `stream` for its events")?;
        let path = needed(&self.path, "a `path` such as `/events`")?;
        check_path(&path)?;
        let answer = needed(&self.answer, "an `answer`")?;
        check_answer(&answer)?;
        let status = self.status.unwrap_or(200);
        if !(200..300).contains(&status) {
            return Err(format!("has status {status}; the status of accepted events must be 200 to 299"));
        }
        let error_key = self.error_key.clone().unwrap_or_else(|| "error".to_owned());
        let errors = self.errors.clone().unwrap_or_default();
        for text in errors.all() {
            only_placeholder(text, REASON)?;
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

impl SourceConfig {
    /// Returns the path in all its spellings.
    pub fn paths(&self) -> Vec<String> {
        path_spellings(&self.path)
    }
}

impl SourceErrors {
    fn all(&self) -> impl Iterator<Item = &str> {
        [&self.unauthorized, &self.forbidden, &self.missing, &self.invalid, &self.conflict]
            .into_iter()
            .filter_map(Option::as_deref)
    }
}

/// Checks all sources, and that no two have the same path.
pub fn check_sources(
    sections: &BTreeMap<String, Declared<SourceSection>>,
    streams: &BTreeMap<String, Stream>,
) -> Result<BTreeMap<String, SourceConfig>, ConfigError> {
    let mut sources: BTreeMap<String, SourceConfig> = BTreeMap::new();
    for (name, section) in sections {
        let wrong = |reason: String| ConfigError::at(&section.location, format!("source `{name}` {reason}"));
        let source = section.value.check(name).map_err(wrong)?;
        if !streams.contains_key(&source.stream) {
            return Err(wrong(format!("names stream `{}`, which is not declared", source.stream)));
        }
        if let Some((other, _)) = sources.iter().find(|(_, other)| other.path == source.path) {
            let reason = format!("source `{other}` and source `{name}` both have path `{}`", source.path);
            let locations = [&section.location, &sections[other].location];
            return Err(ConfigError::at(user_location(locations), reason));
        }
        sources.insert(name.clone(), source);
    }
    Ok(sources)
}

/// Fails if millrace itself uses the path, or if it contains characters that a URL would have to escape.
pub fn check_path(path: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let step = |step: &str| !step.is_empty() && ![".", ".."].contains(&step) && step.bytes().all(plain);
    let valid = path == "/" || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(step));
    if !valid {
        return Err(format!(
            "has path `{path}`; a path begins with `/`, with only letters, digits and `-._~` between slashes"
        ));
    }
    let taken = |taken: &&str| if taken.ends_with('/') { path.starts_with(*taken) } else { path == *taken };
    if TAKEN_PATHS.iter().any(taken) {
        Err(format!("has path `{path}`, which millrace itself uses"))
    } else {
        Ok(())
    }
}

/// Returns the path with and without a slash at the end. The replaced services accept both.
pub fn path_spellings(path: &str) -> Vec<String> {
    let with_slash = (!path.ends_with('/')).then(|| format!("{path}/"));
    std::iter::once(path.to_owned()).chain(with_slash).collect()
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

/// Refuses any placeholder but `known`: a misspelt one would be sent literally. JSON keys are in quotes, so they are
/// not mistaken for placeholders.
fn only_placeholder(text: &str, known: &str) -> Result<(), String> {
    for rest in text.split('{').skip(1) {
        let word = rest.split('}').next().unwrap_or_default();
        let is_word = rest.len() > word.len()
            && !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_alphabetic());
        if is_word && format!("{{{word}}}") != known {
            return Err(format!("contains `{{{word}}}`; the only placeholder here is `{known}`"));
        }
    }
    Ok(())
}
