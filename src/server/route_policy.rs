//! The declared doors as doors that are served, and what the doorway has to know of them and of reads.

use std::collections::HashMap;
use std::sync::Arc;

use super::Settings;
use crate::admission::Admission;
use crate::config::{Access, EVENT_ID, SourceConfig};
use crate::http::{Origins, Wording};
use crate::sources::http::{Answer, HttpSource};

/// What a refusal at a contract's path looks like, and which pages may ask there.
pub struct RoutePolicy {
    pub wording: Arc<Wording>,
    pub origins: Origins,
}

/// The plates of doors and reads.
#[derive(Default)]
pub struct RoutePolicies {
    whole: HashMap<String, RoutePolicy>,
    /// Of paths that a key ends, by what they begin with.
    begun: Vec<(String, RoutePolicy)>,
}

impl RoutePolicies {
    pub fn of(settings: &Settings) -> Self {
        let mut policies = Self::default();
        for source in settings.config.sources.values() {
            let origins = Origins::new(origins(settings, source.access, &source.origins));
            let policy = RoutePolicy { wording: Arc::new(Wording::of(source)), origins };
            policies.whole.insert(source.path.clone(), policy);
        }
        for read in settings.config.reads.values() {
            let origins = Origins::new(origins(settings, read.access, &read.origins));
            let policy = RoutePolicy { wording: Arc::new(Wording::under(&read.error_key)), origins };
            match read.place() {
                (path, true) => drop(policies.whole.insert(path.to_owned(), policy)),
                (begins, false) => policies.begun.push((begins.to_owned(), policy)),
            }
        }
        policies
    }

    pub fn at(&self, path: &str) -> Option<&RoutePolicy> {
        let begun = || self.begun.iter().find(|(begins, _)| path.starts_with(begins));
        let without_slash = || self.whole.get(path.strip_suffix('/')?);
        self.whole.get(path).or_else(without_slash).or_else(|| begun().map(|(_, policy)| policy))
    }
}

/// The doors by their paths. Most requests are for one of these, which are known to the letter: they are
/// found here, and not by the router.
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
        sources.extend(spellings(&source.path).into_iter().map(|path| (path, Arc::clone(&contract))));
    }
    sources
}

/// A slash at the end made no difference to the originals, so it makes none here.
pub fn spellings(path: &str) -> Vec<String> {
    let with_slash = (!path.ends_with('/')).then(|| format!("{path}/"));
    std::iter::once(path.to_owned()).chain(with_slash).collect()
}

/// Its own, or, where nobody needs a key, what the original's variable says.
fn origins<'s>(settings: &'s Settings, access: Access, own: &'s [String]) -> &'s [String] {
    let open = settings.dev || access == Access::Open;
    match own.is_empty() && open {
        true => &settings.legacy_env.origins,
        false => own,
    }
}
