//! Extractors for readers of one view, which check the key against the view's stream.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::Api;
use crate::admission::Scope;
use crate::http::key_check::path_parameter;
use crate::http::{ApiError, Query, credentials};
use crate::views::Running;

/// A reader of all rows of the view in the path.
pub struct ViewReader {
    pub api: Arc<Api>,
    pub name: String,
}

/// A reader of one row of the view in the path: that of the path's `key`, or of the query's `group`.
pub struct RowReader {
    pub api: Arc<Api>,
    pub name: String,
    pub row: String,
}

impl ViewReader {
    pub fn view(&self) -> &Running {
        &self.api.views[&self.name]
    }

    /// Checks the key of a request for the view `name`. An unknown key does not learn which views exist.
    pub fn of(api: &Arc<Api>, parts: &Parts, name: String) -> Result<Self, ApiError> {
        let presented = credentials(&parts.headers);
        api.keys.expect_known(presented)?;
        let stream = &api.view(&name)?.view.stream;
        api.keys.authorize(presented, Scope::Read, Some(stream), false)?;
        Ok(Self { api: Arc::clone(api), name })
    }
}

impl RowReader {
    pub fn view(&self) -> &Running {
        &self.api.views[&self.name]
    }
}

impl FromRequestParts<Arc<Api>> for ViewReader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let name = path_parameter(parts, "view").await;
        Self::of(api, parts, name)
    }
}

impl FromRequestParts<Arc<Api>> for RowReader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let (name, key) = (path_parameter(parts, "view").await, path_parameter(parts, "key").await);
        let row = if key.is_empty() { query_parameter(parts, api, "group").await } else { key };
        let presented = credentials(&parts.headers);
        api.keys.expect_known(presented)?;
        let stream = &api.view(&name)?.view.stream;
        api.keys.authorize_row(presented, stream, &row, false)?;
        Ok(Self { api: Arc::clone(api), name, row })
    }
}

/// Returns the last parameter of that name in the query; empty if there is none, or if the query is invalid. The
/// handler's own extractor reports an invalid query after the key is checked.
pub async fn query_parameter<S: Sync>(parts: &mut Parts, state: &S, name: &str) -> String {
    let query = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
    let parameters = query.map_or_else(|_| Vec::new(), |Query(parameters)| parameters);
    parameters.into_iter().rfind(|(known, _)| known == name).map_or_else(String::new, |(_, value)| value)
}
