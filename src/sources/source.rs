//! `[source.NAME]`: each kind of source declares its settings in its own file; the declared value is the one that runs.

use serde::Deserialize;

use super::http::HttpSource;

/// The kinds of sources.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Http(HttpSource),
}

impl Source {
    /// Fails if settings contradict each other.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Http(source) => source.check(),
        }
    }

    /// Returns the name of the stream that the source's events belong to.
    pub fn stream(&self) -> &str {
        match self {
            Self::Http(source) => &source.stream,
        }
    }
}
