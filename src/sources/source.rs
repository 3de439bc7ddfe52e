//! `[source.NAME]`: each kind of source declares its settings in its own file; the declared value is the one that runs.

use std::time::Duration;

use event::SettingErrors;
use serde::Deserialize;

use super::http::HttpSource;

/// The kinds of sources.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Http(HttpSource),
}

impl Source {
    /// Adds an error for each setting that contradicts another.
    pub fn check(&self, errors: &mut SettingErrors) {
        match self {
            Self::Http(source) => source.check(errors),
        }
    }

    /// Returns the name of the kind in the configuration and in API responses.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
        }
    }

    /// Returns the name of the stream that the source's events belong to.
    pub fn stream(&self) -> &str {
        match self {
            Self::Http(source) => &source.stream,
        }
    }

    /// Returns how long the ids of the source are remembered, if it says so.
    pub fn window(&self) -> Option<Duration> {
        match self {
            Self::Http(source) => source.window.map(|window| window.0),
        }
    }

    /// Returns the source if it answers requests at a path.
    pub fn http(&self) -> Option<&HttpSource> {
        match self {
            Self::Http(source) => Some(source),
        }
    }

    pub fn http_mut(&mut self) -> Option<&mut HttpSource> {
        match self {
            Self::Http(source) => Some(source),
        }
    }
}
