//! `[read.NAME]`: a view at the path of an existing contract, in that contract's form.

use std::collections::BTreeMap;

use event::{SettingErrors, nearest, suggestion};
use serde::Deserialize;

use super::Preset;
use super::checks::Checks;
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
    fn check(&self, read: &str, views: &Views<'_>, errors: &mut SettingErrors) -> Option<ReadConfig> {
        if self.view.is_none()
            && let Some(preset) = Preset::declaring(&format!("read.{read}")).filter(|_| self.path.is_none())
        {
            errors.add(&[], preset.is_not_on());
            return None;
        }
        let mut needed = |is_given: bool, reason: &str| {
            if !is_given {
                errors.add(&[], reason);
            }
        };
        needed(self.view.is_some(), "needs a `view` to show");
        needed(self.path.is_some(), "needs a `path` such as `/balances/{key}`");
        needed(self.shape.is_some(), "needs a `shape`: \"row\" or \"stats\"");
        let path = self.path.as_ref().zip(self.shape);
        let path = path.and_then(|(path, shape)| errors.take(&["path"], checked_path(path, shape)));
        let view = self.view.as_deref().and_then(|view| views.find(view, errors));
        let shape = self.shape.zip(view).and_then(|(shape, view)| self.shape(shape, view, errors));
        Some(ReadConfig {
            path: path?,
            view: view?.name.clone(),
            shape: shape?,
            access: self.access,
            public: self.public,
            error_key: self.error_key.clone().unwrap_or_else(|| "error".to_owned()),
            origins: self.origins.clone(),
        })
    }

    fn shape(&self, shape: ShapeName, view: &View, errors: &mut SettingErrors) -> Option<ReadShape> {
        let of = &view.name;
        match (shape, &self.top) {
            (ShapeName::Row, top) => {
                if view.ledger().is_none() {
                    errors.add(&["view"], format!("shows view `{of}`, which is not a ledger"));
                }
                if top.is_some() {
                    errors.add(&["top"], "cannot have `top` with shape \"row\"");
                }
                Some(ReadShape::Row)
            }
            (ShapeName::Stats, top) => {
                let Some(stats) = view.stats() else {
                    errors.add(&["view"], format!("shows view `{of}`, which is not of kind `stats`"));
                    return None;
                };
                if !stats.counts_distinct() {
                    errors.add(&["view"], format!("shows view `{of}`, which has no `distinct`"));
                }
                let Some(top) = top else {
                    errors.add(&[], "needs `top`, the field whose most frequent values are shown");
                    return None;
                };
                if stats.counted(top).is_none() {
                    let names = suggestion(top, "counted fields", stats.counted_names());
                    let reason =
                        format!("has `top = \"{top}\"`, a field that view `{of}` does not count{names}");
                    errors.add(&["top"], reason);
                }
                Some(ReadShape::Stats { top: top.clone() })
            }
        }
    }
}

fn checked_path(path: &str, shape: ShapeName) -> Result<String, String> {
    let unusable = |reason: String| format!("has a wrong path: {reason}");
    match (shape, path.strip_suffix(KEY)) {
        (ShapeName::Row, Some(before)) => check_path(before).map_err(unusable)?,
        (ShapeName::Row, None) => {
            return Err(format!("has path `{path}`, which must end in `{KEY}` for shape \"row\""));
        }
        (ShapeName::Stats, _) => check_path(path).map_err(unusable)?,
    }
    Ok(path.to_owned())
}

/// The views that reads can show.
pub struct Views<'a> {
    pub valid: &'a BTreeMap<String, View>,
    /// The names of all views, also of those with errors.
    pub declared: &'a [&'a str],
}

impl Views<'_> {
    fn find(&self, name: &str, errors: &mut SettingErrors) -> Option<&View> {
        if self.declared.contains(&name) {
            return self.valid.get(name);
        }
        let names = suggestion(name, "views", self.declared.iter().copied());
        errors.add(&["view"], format!("shows view `{name}`, which is not declared{names}"));
        self.valid.get(nearest(name, self.declared.iter().copied())?)
    }
}

/// Checks all reads, and that no two have the same path. Returns those without errors.
pub fn check_reads(
    sections: &BTreeMap<String, ReadSection>,
    views: &Views<'_>,
    sources: &BTreeMap<String, Source>,
    checks: &mut Checks<'_>,
) -> BTreeMap<String, ReadConfig> {
    let mut reads: BTreeMap<String, ReadConfig> = BTreeMap::new();
    for (name, section) in sections {
        if !checks.is_complete(&["read", name]) {
            continue;
        }
        let mut errors = SettingErrors::default();
        let read = section.check(name, views, &mut errors);
        checks.section("read", name, errors);
        let Some(read) = read else { continue };
        let (path, here) = (&read.path, ["read", name.as_str(), "path"]);
        let is_here = |source: &Source| read.is_at(source.path());
        if let Some((source, _)) = sources.iter().find(|(_, source)| is_here(source)) {
            let reason =
                format!("read `{name}` has path `{path}`, which matches the path of source `{source}`");
            checks.conflict([&here, &["source", source, "path"]], reason);
        }
        if let Some((other, _)) = reads.iter().find(|(_, other)| other.path == read.path) {
            let reason = format!("read `{other}` and read `{name}` both have path `{path}`");
            checks.conflict([&here, &["read", other, "path"]], reason);
        }
        reads.insert(name.clone(), read);
    }
    reads
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
