//! `[read.NAME]`: a view at a path of somebody else's contract, and in its shape.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::file::Origin;
use super::{Access, ConfigError, ViewConfig, ViewKindConfig};

#[derive(Clone, Debug)]
pub struct ReadConfig {
    /// As routes are written: `{key}` stands for one segment.
    pub path: String,
    pub view: String,
    pub shape: ReadShape,
    pub access: Access,
    /// Meant to be open to everybody, beyond loopback too.
    pub public: bool,
    /// Under which key a refusal says why.
    pub error_key: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadShape {
    /// One row of a ledger, in an array.
    Row,
    /// A group's numbers, and the most frequent values of one field.
    Stats { top: String },
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadSection {
    path: String,
    view: String,
    shape: ShapeName,
    top: Option<String>,
    access: Option<Access>,
    #[serde(default)]
    public: bool,
    error_key: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ShapeName {
    Row,
    Stats,
}

/// Where a path begins that is answered already, by millrace's own interface or by a door.
const TAKEN: [&str; 8] = ["v1", "health", "ready", "metrics", "liveEvent", "event", "events", "socket.io"];
const KEY: &str = "{key}";

impl ReadSection {
    pub fn check(
        &self,
        name: &str,
        origin: &Origin,
        views: &BTreeMap<String, ViewConfig>,
    ) -> Result<ReadConfig, ConfigError> {
        let wrong = |reason: String| ConfigError::at(origin, format!("read `{name}` {reason}"));
        let view = views.get(&self.view);
        let view = view.ok_or_else(|| wrong(format!("shows view `{}`, which is not declared", self.view)))?;
        self.check_path().map_err(wrong)?;
        Ok(ReadConfig {
            path: self.path.clone(),
            view: self.view.clone(),
            shape: self.shape(view).map_err(wrong)?,
            access: self.access.unwrap_or(Access::Key),
            public: self.public,
            error_key: self.error_key.clone().unwrap_or_else(|| "error".to_owned()),
        })
    }

    fn check_path(&self) -> Result<(), String> {
        let path = &self.path;
        let wrong = |reason: &str| Err(format!("has path `{path}`, {reason}"));
        let Some(segments) = path.strip_prefix('/') else { return wrong("which does not begin with `/`") };
        let segments: Vec<&str> = segments.split('/').collect();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
        if segments.iter().any(|one| one.is_empty() || !(*one == KEY || one.bytes().all(plain))) {
            return wrong("which has a segment that is neither plain text nor `{key}`");
        }
        if TAKEN.contains(&segments[0]) {
            return wrong("which is taken");
        }
        let keys = segments.iter().filter(|one| **one == KEY).count();
        match self.shape {
            ShapeName::Row if keys != 1 || segments.len() < 2 || segments.last() != Some(&KEY) => {
                wrong("which has to end in `/{key}` for this shape")
            }
            ShapeName::Stats if keys != 0 => wrong("which has no use for `{key}` in this shape"),
            _ => Ok(()),
        }
    }

    fn shape(&self, view: &ViewConfig) -> Result<ReadShape, String> {
        let of = &self.view;
        match (self.shape, &view.kind, &self.top) {
            (ShapeName::Row, ViewKindConfig::Ledger(_), None) => Ok(ReadShape::Row),
            (ShapeName::Row, ViewKindConfig::Ledger(_), Some(_)) => {
                Err("has no use for `top` in this shape".to_owned())
            }
            (ShapeName::Row, ..) => Err(format!("shows view `{of}`, which is no ledger")),
            (ShapeName::Stats, ViewKindConfig::Stats(stats), Some(top)) => {
                if stats.distinct.is_none() {
                    return Err(format!("shows view `{of}`, which counts nothing as `distinct`"));
                }
                match stats.counts.iter().any(|counted| counted.name == *top) {
                    true => Ok(ReadShape::Stats { top: top.clone() }),
                    false => Err(format!("has `top = \"{top}\"`, by which view `{of}` does not count")),
                }
            }
            (ShapeName::Stats, ViewKindConfig::Stats(_), None) => {
                Err("needs `top`, the field whose most frequent values are shown".to_owned())
            }
            (ShapeName::Stats, ..) => Err(format!("shows view `{of}`, which is no view of statistics")),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Overrides, ReadShape};

    fn load(read: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.toml");
        std::fs::write(&path, format!("[read.r]\n{read}")).expect("written");
        Config::load(Some(&path), &Overrides::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_path_of_ones_own_shows_a_view() {
        let config =
            load("path = \"/numbers\"\nview = \"site_stats\"\nshape = \"stats\"\ntop = \"event_type\"");
        let config = config.expect("sound");
        assert_eq!(config.reads["r"].shape, ReadShape::Stats { top: "event_type".to_owned() });
        assert_eq!(config.reads.len(), 3, "beside those of the contracts");
    }

    #[test]
    fn a_path_or_shape_that_cannot_be_is_named() {
        let row = |path: &str| format!("path = \"{path}\"\nview = \"revenue\"\nshape = \"row\"");
        let stats = |more: &str| format!("path = \"/n\"\nview = \"site_stats\"\nshape = \"stats\"\n{more}");
        let cases = [
            (row("balances/{key}"), "which does not begin with `/`"),
            (row("/balances/{*key}"), "which has a segment that is neither"),
            (row("/balances//{key}"), "which has a segment that is neither"),
            (row("/v1/{key}"), "which is taken"),
            (row("/balances"), "which has to end in `/{key}`"),
            (row("/{key}"), "which has to end in `/{key}`"),
            (row("/{key}/{key}"), "which has to end in `/{key}`"),
            (row("/userEvents/{key}"), "read `r` and read `user_events` have the same path"),
            (row("/b/{key}").replace("revenue", "sales"), "shows view `sales`, which is not declared"),
            (row("/b/{key}").replace("revenue", "site_stats"), "shows view `site_stats`, which is no ledger"),
            (row("/b/{key}") + "\ntop = \"path\"", "has no use for `top`"),
            (stats(""), "needs `top`"),
            (
                stats("top = \"user_id\""),
                "has `top = \"user_id\"`, by which view `site_stats` does not count",
            ),
            (stats("top = \"path\"").replace("site_stats", "revenue"), "which is no view of statistics"),
            (stats("top = \"path\"").replace("/n", "/n/{key}"), "which has no use for `{key}`"),
        ];
        for (text, message) in cases {
            let error = load(&text).expect_err(&text);
            assert!(error.contains(message), "{text}\n  says {error}\n  not {message}");
        }
    }
}
