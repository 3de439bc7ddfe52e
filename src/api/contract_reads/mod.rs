//! Reads of views at the paths of contracts, each in its contract's form. Path and view are configuration.

mod row;
mod stats;

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::get;

use super::Api;
use super::view_access::query_parameter;
use crate::config::{ReadConfig, ReadShape};
use crate::http::key_check::path_parameter;
use crate::http::{Access, ApiError, Wording, credentials};
use crate::views::Running;

#[derive(Clone)]
struct ReadState {
    api: Arc<Api>,
    read: Arc<ReadConfig>,
}

pub fn routes(api: &Arc<Api>, read: &ReadConfig) -> Router {
    let wording = Arc::new(Wording::under(&read.error_key));
    let state = ReadState { api: Arc::clone(api), read: Arc::new(read.clone()) };
    let route = match state.read.shape {
        ReadShape::Row => get(row::read),
        ReadShape::Stats { .. } => get(stats::read),
    };
    let route = route.fallback(|| async { ApiError::MethodNotAllowed });
    let paths = read.paths();
    let routes = paths.iter().fold(Router::new(), |routes, path| routes.route(path, route.clone()));
    let in_words = move |response: Response| {
        let wording = Arc::clone(&wording);
        async move {
            match response.extensions().get::<ApiError>() {
                Some(error) => error.reworded(&wording),
                None => response,
            }
        }
    };
    routes.layer(map_response(in_words)).with_state(state)
}

/// A reader of one row: that of the path's `key`, or of the group that the query names.
struct ContractReader {
    api: Arc<Api>,
    read: Arc<ReadConfig>,
    row: String,
}

impl ContractReader {
    fn view(&self) -> &Running {
        &self.api.views[&self.read.view]
    }
}

impl FromRequestParts<ReadState> for ContractReader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ReadState) -> Result<Self, ApiError> {
        let ReadState { api, read } = state.clone();
        let view = &api.view(&read.view)?.view;
        let row = match view.stats() {
            Some(stats) => query_parameter(parts, state, stats.group_name()).await,
            None => path_parameter(parts, "key").await,
        };
        api.keys.authorize_row(
            credentials(&parts.headers),
            &view.stream,
            &row,
            read.access == Access::Open,
        )?;
        Ok(Self { api, read, row })
    }
}
