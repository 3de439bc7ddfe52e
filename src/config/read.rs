//! `[read.NAME]`: a view at the path of an existing contract, in that contract's form.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::location::{Declared, user_location};
use super::{ConfigError, Preset};
use crate::http::{Access, Origins, check_path, path_spellings};
use crate::sources::Source;
use crate::views::View;

#[derive(Clone, Debug)]
pub struct ReadConfig {
    /// The path in the syntax of axum routes: `{key}` stands for one segment.
    pub path: String,
    pub view: String,
    pub shape: ReadShape,
    pub access: Access,
    /// Confirms that an open read may be reached from other machines.
    pub public: bool,
    /// The JSON key of the message in a refusal.
    pub error_key: String,
    /// The origins of the web pages that may read; `*` means all.
    pub origins: Origins,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadShape {
    /// One row of a ledger, in an array.
    Row,
    /// A group's numbers, and the most frequent values of one field.
    Stats { top: String },
}

/// The section as it is written. Every setting is optional, because the user's section may change only some settings
/// of a preset's section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadSection {
    path: Option<String>,
    view: Option<String>,
    shape: Option<ShapeName>,
    top: Option<String>,
    #[serde(default)]
    access: Access,
    #[serde(default)]
    public: bool,
    error_key: Option<String>,
    #[serde(default)]
    origins: Origins,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ShapeName {
    Row,
    Stats,
}

const KEY: &str = "/{key}";

impl ReadConfig {
    /// Returns the fixed part of the path, and whether that is the whole path.
    pub fn fixed_path(&self) -> (&str, bool) {
        match self.path.strip_suffix("{key}") {
            Some(prefix) => (prefix, false),
            None => (&self.path, true),
        }
    }

    /// Returns the path in all its spellings.
    pub fn paths(&self) -> Vec<String> {
        path_spellings(&self.path)
    }

    fn is_at(&self, path: &str) -> bool {
        let (prefix, whole) = self.fixed_path();
        if whole { path == prefix } else { path.starts_with(prefix) }
    }
}

impl ReadSection {
    fn check(&self, read: &str, views: &BTreeMap<String, View>) -> Result<ReadConfig, String> {
        let name = self.view.as_ref().ok_or_else(|| {
            Preset::declaring(&format!("read.{read}"))
                .map_or_else(|| "needs a `view` to show".to_owned(), Preset::is_not_on)
        })?;
        let view = views.get(name).ok_or(format!("shows view `{name}`, which is not declared"))?;
        let path = self.path.as_ref().ok_or("needs a `path` such as `/balances/{key}`")?;
        let shape = self.shape.ok_or("needs a `shape`: \"row\" or \"stats\"")?;
        let unusable = |reason: String| format!("has a wrong path: {reason}");
        match (shape, path.strip_suffix(KEY)) {
            (ShapeName::Row, Some(before)) => check_path(before).map_err(unusable)?,
            (ShapeName::Row, None) => {
                return Err(format!("has path `{path}`, which must end in `{KEY}` for shape \"row\""));
            }
            (ShapeName::Stats, _) => check_path(path).map_err(unusable)?,
        }
        Ok(ReadConfig {
            path: path.clone(),
            view: name.clone(),
            shape: self.shape(name, shape, view)?,
            access: self.access,
            public: self.public,
            error_key: self.error_key.clone().unwrap_or_else(|| "error".to_owned()),
            origins: self.origins.clone(),
        })
    }

    fn shape(&self, of: &str, shape: ShapeName, view: &View) -> Result<ReadShape, String> {
        match (shape, &self.top) {
            (ShapeName::Row, _) if view.ledger().is_none() => {
                Err(format!("shows view `{of}`, which is not a ledger"))
            }
            (ShapeName::Row, None) => Ok(ReadShape::Row),
            (ShapeName::Row, Some(_)) => Err("cannot have `top` with shape \"row\"".to_owned()),
            (ShapeName::Stats, top) => {
                let stats = view.stats();
                let stats =
                    stats.ok_or_else(|| format!("shows view `{of}`, which is not of kind `stats`"))?;
                let top = top.as_ref();
                let top = top.ok_or("needs `top`, the field whose most frequent values are shown")?;
                if !stats.counts_distinct() {
                    Err(format!("shows view `{of}`, which has no `distinct`"))
                } else if stats.counted(top).is_none() {
                    Err(format!("has `top = \"{top}\"`, a field that view `{of}` does not count"))
                } else {
                    Ok(ReadShape::Stats { top: top.clone() })
                }
            }
        }
    }
}

/// Checks all reads, and that no two have the same path.
pub fn check_reads(
    sections: &BTreeMap<String, Declared<ReadSection>>,
    views: &BTreeMap<String, View>,
    sources: &BTreeMap<String, Declared<Source>>,
) -> Result<BTreeMap<String, ReadConfig>, ConfigError> {
    let mut reads: BTreeMap<String, ReadConfig> = BTreeMap::new();
    for (name, section) in sections {
        let wrong = |reason: String| ConfigError::at(&section.location, format!("read `{name}` {reason}"));
        let read = section.value.check(name, views).map_err(wrong)?;
        let is_here = |source: &Source| source.http().is_some_and(|source| read.is_at(source.path.as_str()));
        if let Some((source, declared)) = sources.iter().find(|(_, source)| is_here(&source.value)) {
            let path = &read.path;
            let reason =
                format!("read `{name}` has path `{path}`, which matches the path of source `{source}`");
            let locations = [&section.location, &declared.location];
            return Err(ConfigError::at(user_location(locations), reason));
        }
        if let Some((other, _)) = reads.iter().find(|(_, other)| other.path == read.path) {
            let reason = format!("read `{other}` and read `{name}` both have path `{}`", read.path);
            let locations = [&section.location, &sections[other].location];
            return Err(ConfigError::at(user_location(locations), reason));
        }
        reads.insert(name.clone(), read);
    }
    Ok(reads)
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Overrides, ReadShape};

    fn load(read: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.toml");
        std::fs::write(
            &path,
            format!("presets = [\"revenue\", \"analytics\", \"notifications\"]\n[read.r]\n{read}"),
        )
        .expect("written");
        Config::load(Some(&path), &Overrides::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_read_shows_a_view_at_its_own_path() {
        let config =
            load("path = \"/numbers\"\nview = \"site_stats\"\nshape = \"stats\"\ntop = \"event_type\"");
        let config = config.expect("valid");
        assert_eq!(config.reads["r"].shape, ReadShape::Stats { top: "event_type".to_owned() });
        assert_eq!(config.reads.len(), 3, "two of them are from presets");
    }

    #[test]
    fn an_invalid_path_or_shape_is_an_error() {
        let row = |path: &str| format!("path = \"{path}\"\nview = \"revenue\"\nshape = \"row\"");
        let stats = |more: &str| format!("path = \"/n\"\nview = \"site_stats\"\nshape = \"stats\"\n{more}");
        let cases = [
            (row("balances/{key}"), "`balances` is not a path such as `/events`"),
            (row("/balances/{*key}/{key}"), "`/balances/{*key}` is not a path such as `/events`"),
            (row("/v1/{key}"), "`/v1` is a path of millrace itself"),
            (row("/balances"), "which must end in `/{key}`"),
            (row("/{key}"), "`` is not a path such as `/events`"),
            (row("/{key}/{key}"), "`/{key}` is not a path such as `/events`"),
            (row("/userEvents/{key}"), "read `r` and read `user_events` both have path `/userEvents/{key}`"),
            (row("/events/{key}"), "has path `/events/{key}`, which matches the path of source `ingest`"),
            (row("/b/{key}").replace("revenue", "sales"), "shows view `sales`, which is not declared"),
            (
                row("/b/{key}").replace("revenue", "site_stats"),
                "shows view `site_stats`, which is not a ledger",
            ),
            (row("/b/{key}") + "\ntop = \"path\"", "cannot have `top`"),
            (row("/b/{key}") + "\norigins = [\"shop\"]", "`shop` is not an origin"),
            (stats(""), "needs `top`"),
            (
                stats("top = \"user_id\""),
                "has `top = \"user_id\"`, a field that view `site_stats` does not count",
            ),
            (stats("top = \"path\"").replace("site_stats", "revenue"), "which is not of kind `stats`"),
            (stats("top = \"path\"").replace("/n", "/n/{key}"), "`/n/{key}` is not a path such as `/events`"),
            ("path = \"/n\"\nview = \"site_stats\"".to_owned(), "needs a `shape`"),
            ("shape = \"row\"\nview = \"revenue\"".to_owned(), "needs a `path`"),
            ("path = \"/n\"".to_owned(), "needs a `view` to show"),
        ];
        for (text, message) in cases {
            let error = load(&text).expect_err(&text);
            assert!(error.contains(message), "{text}\n  says {error}\n  not {message}");
        }
    }
}
