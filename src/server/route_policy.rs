//! The sources by their paths, and the policies of their paths and of those of reads.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::config::Config;
use crate::http::{Origins, Wording, path_spellings};
use crate::sources::{
    HttpSource, SocketIoEndpoint, SocketIoSource, SocketServices, Source, WebSocketEndpoint,
};

/// The form of refusals at a contract's path, and the web pages that may use it.
pub struct RoutePolicy {
    /// `None` for the form of the native API.
    pub wording: Option<Wording>,
    pub origins: Origins,
    /// Requests at this path are counted by what answers them, and not by the guard.
    pub counts_itself: bool,
}

/// The policies of the paths of sources and reads.
#[derive(Default)]
pub struct RoutePolicies {
    exact: HashMap<String, RoutePolicy>,
    /// The policies of paths that end in a key, by the prefix before it.
    prefixes: Vec<(String, RoutePolicy)>,
    /// The policy of the paths of subscriptions.
    live: Option<RoutePolicy>,
}

impl RoutePolicies {
    pub fn of(config: &Config) -> Self {
        let live = RoutePolicy { wording: None, origins: config.live.origins.clone(), counts_itself: false };
        let mut policies = Self { live: Some(live), ..Self::default() };
        for source in config.sources.values() {
            let counts_itself = matches!(source, Source::SocketIo(_));
            let policy =
                RoutePolicy { wording: Some(source.wording()), origins: Origins::default(), counts_itself };
            let policy = policies.exact.entry(source.path().to_owned()).or_insert(policy);
            // Sources that share a path check for themselves which of these pages may use them.
            policy.origins.extend(source.origins());
        }
        for read in config.reads.values() {
            let wording = Some(Wording::under(&read.error_key));
            let policy = RoutePolicy { wording, origins: read.origins.clone(), counts_itself: false };
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
        let of_contract = self.exact.get(path).or_else(without_slash);
        let of_contract = of_contract.or_else(|| with_prefix().map(|(_, policy)| policy));
        of_contract.or_else(|| self.live.as_ref().filter(|_| is_live(path)))
    }
}

/// Returns whether readers subscribe at this path.
fn is_live(path: &str) -> bool {
    let mut parts = path.split('/').skip(1);
    let mut next = || parts.next().unwrap_or_default();
    let parts = [next(), next(), next(), next(), next()];
    matches!(parts, ["v1", "live", "" | "socket", "", ""] | ["v1", "views" | "streams", _, "live", ""])
}

/// The sources by their paths. Most requests are for one of these paths, which have no parameters. A map finds them
/// faster than the router.
pub type SourceRoutes = HashMap<String, SourceRoute>;

/// What answers the requests at a source's path.
#[derive(Clone)]
pub enum SourceRoute {
    Http(Arc<HttpSource>),
    SocketIo(Arc<SocketIoEndpoint>),
    WebSocket(Arc<WebSocketEndpoint>),
}

pub fn sources(config: &Config, services: &SocketServices) -> SourceRoutes {
    let mut routes = SourceRoutes::new();
    let mut add = |path: &str, route: SourceRoute| {
        routes.extend(path_spellings(path).into_iter().map(|path| (path, route.clone())));
    };
    let mut socketio: BTreeMap<&str, Vec<SocketIoSource>> = BTreeMap::new();
    for source in config.sources.values() {
        match source {
            Source::Http(http) => add(source.path(), SourceRoute::Http(Arc::new(http.clone()))),
            Source::WebSocket(one) => {
                let endpoint = WebSocketEndpoint::new(one.clone(), services);
                add(source.path(), SourceRoute::WebSocket(Arc::new(endpoint)));
            }
            Source::SocketIo(one) => socketio.entry(source.path()).or_default().push(one.clone()),
        }
    }
    for (path, sources) in socketio {
        add(path, SourceRoute::SocketIo(Arc::new(SocketIoEndpoint::new(sources, services))));
    }
    routes
}
