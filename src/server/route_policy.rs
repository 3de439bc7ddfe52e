//! The sources by their paths, and the policies of their paths and of those of reads.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::Config;
use crate::http::{Origins, Wording};
use crate::sources::{HttpSource, Source};

/// The form of refusals at a contract's path, and the web pages that may use it.
pub struct RoutePolicy {
    pub wording: Wording,
    pub origins: Origins,
}

/// The policies of the paths of sources and reads.
#[derive(Default)]
pub struct RoutePolicies {
    exact: HashMap<String, RoutePolicy>,
    /// The policies of paths that end in a key, by the prefix before it.
    prefixes: Vec<(String, RoutePolicy)>,
}

impl RoutePolicies {
    pub fn of(config: &Config) -> Self {
        let mut policies = Self::default();
        for source in config.sources.values().filter_map(Source::http) {
            let policy = RoutePolicy { wording: source.wording(), origins: source.origins.clone() };
            policies.exact.insert(source.path.as_str().to_owned(), policy);
        }
        for read in config.reads.values() {
            let wording = Wording::under(&read.error_key);
            let policy = RoutePolicy { wording, origins: read.origins.clone() };
            match read.fixed_path() {
                (path, true) => drop(policies.exact.insert(path.to_owned(), policy)),
                (prefix, false) => policies.prefixes.push((prefix.to_owned(), policy)),
            }
        }
        policies
    }

    pub fn of_path(&self, path: &str) -> Option<&RoutePolicy> {
        let with_prefix = || self.prefixes.iter().find(|(prefix, _)| path.starts_with(prefix));
        let without_slash = || self.exact.get(path.strip_suffix('/')?);
        self.exact.get(path).or_else(without_slash).or_else(|| with_prefix().map(|(_, policy)| policy))
    }
}

/// The sources by their paths. Most requests are for one of these paths, which have no parameters. A map finds them
/// faster than the router.
pub type SourceRoutes = HashMap<String, Arc<HttpSource>>;

pub fn sources(config: &Config) -> SourceRoutes {
    let mut sources = SourceRoutes::new();
    for source in config.sources.values().filter_map(Source::http) {
        let source = Arc::new(source.clone());
        sources.extend(source.paths().into_iter().map(|path| (path, Arc::clone(&source))));
    }
    sources
}
