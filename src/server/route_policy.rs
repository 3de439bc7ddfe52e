//! The configured sources as they are served, and the policies of their paths and of those of reads.

use std::collections::HashMap;
use std::sync::Arc;

use super::Settings;
use crate::admission::Admission;
use crate::config::{Access, EVENT_ID, SourceConfig};
use crate::http::{Origins, Wording};
use crate::sources::http::{Answer, HttpSource};

/// The form of refusals at a contract's path, and the web pages that may use it.
pub struct RoutePolicy {
    pub wording: Arc<Wording>,
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
    pub fn of(settings: &Settings) -> Self {
        let mut policies = Self::default();
        for source in settings.config.sources.values() {
            let origins = Origins::new(origins(settings, source.access, &source.origins));
            let policy = RoutePolicy { wording: Arc::new(Wording::of(source)), origins };
            policies.exact.insert(source.path.clone(), policy);
        }
        for read in settings.config.reads.values() {
            let origins = Origins::new(origins(settings, read.access, &read.origins));
            let policy = RoutePolicy { wording: Arc::new(Wording::under(&read.error_key)), origins };
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

pub fn sources(settings: &Settings, admission: &Arc<Admission>) -> SourceRoutes {
    let contract = |source: &SourceConfig| HttpSource {
        admission: Arc::clone(admission),
        stream: source.stream.clone(),
        open: source.access == Access::Open,
        ids: source.ids,
        plain_text: !origins(settings, source.access, &source.origins).is_empty(),
        answer: Answer::new(source.status, &source.answer, EVENT_ID),
        wording: Arc::new(Wording::of(source)),
    };
    let mut sources = SourceRoutes::new();
    for source in settings.config.sources.values() {
        let contract = Arc::new(contract(source));
        sources.extend(source.paths().into_iter().map(|path| (path, Arc::clone(&contract))));
    }
    sources
}

/// Returns the configured origins. If there are none and no key is needed, returns those of `ALLOWED_ORIGINS`.
fn origins<'s>(settings: &'s Settings, access: Access, own: &'s [String]) -> &'s [String] {
    let open = settings.dev || access == Access::Open;
    if own.is_empty() && open { &settings.legacy_env.origins } else { own }
}
