//! `/v1/status`: one page about the server for an operator: version, log, database, disk, sources and views.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use event::{Millis, PositionState};
use serde::Serialize;

use super::Api;
use super::health::DatabaseState;
use super::views::ViewSummary;
use crate::config::Config;
use crate::http::{Access, Reader};
use crate::log::DiskBytes;
use crate::store::DEDUP_NAME;

pub fn routes(api: &Arc<Api>) -> Router {
    Router::new().route("/v1/status", get(status)).with_state(Arc::clone(api))
}

/// The properties that do not change while the server runs.
pub struct About {
    started: Millis,
    clock: Instant,
    presets: Vec<&'static str>,
    sources: Vec<SourceSummary>,
}

#[derive(Clone, Serialize)]
struct SourceSummary {
    name: String,
    kind: &'static str,
    path: String,
    stream: String,
    access: Access,
}

impl About {
    /// Describes a server that starts now.
    pub fn starting_now(config: &Config) -> Self {
        let sources = config.sources.iter().map(|(name, source)| SourceSummary {
            name: name.clone(),
            kind: source.kind_name(),
            path: source.path().to_owned(),
            stream: source.stream().to_owned(),
            access: source.access(),
        });
        Self {
            started: Millis::now(),
            clock: Instant::now(),
            presets: config.presets.iter().map(|preset| preset.name).collect(),
            sources: sources.collect(),
        }
    }

    /// Returns the names of the sources whose events belong to `stream`.
    pub fn sources_of(&self, stream: &str) -> Vec<&str> {
        let of_stream = self.sources.iter().filter(|source| source.stream == stream);
        of_stream.map(|source| source.name.as_str()).collect()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    version: &'static str,
    started_at: String,
    uptime_seconds: u64,
    /// Why no event is accepted now.
    refusing: Option<String>,
    log: LogStatus,
    database: DatabaseStatus,
    /// `None` if the system cannot tell.
    disk: Option<DiskStatus>,
    presets: Vec<&'static str>,
    sources: Vec<SourceSummary>,
    dedup: PositionState,
    views: Vec<ViewSummary>,
    /// `None` if the database does not answer in time.
    open_dead_letters: Option<i64>,
}

#[derive(Serialize)]
struct LogStatus {
    id: String,
    begin: u64,
    end: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct DatabaseStatus {
    name: String,
    #[serde(flatten)]
    state: DatabaseState,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DiskStatus {
    free_bytes: u64,
    total_bytes: u64,
}

async fn status(_: Reader, State(api): State<Arc<Api>>) -> Json<Status> {
    let About { started, clock, presets, sources } = &api.about;
    let mut states = api.position_states();
    let end = api.log.end();
    let disk = DiskBytes::of(&api.data);
    Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        started_at: started.to_text(),
        uptime_seconds: clock.elapsed().as_secs(),
        refusing: api.log.accepts().err().map(|error| error.to_string()),
        log: LogStatus { id: api.log.id().to_string(), begin: api.log.begin(), end, bytes: api.log.bytes() },
        database: DatabaseStatus {
            name: api.store.name(),
            state: DatabaseState::of(&api.health, &api.store),
        },
        disk: disk.map(|disk| DiskStatus { free_bytes: disk.free, total_bytes: disk.total }),
        presets: presets.clone(),
        sources: sources.clone(),
        views: api.views.values().map(|running| ViewSummary::of(&running.view, &states)).collect(),
        dedup: states.remove(DEDUP_NAME).unwrap_or_default(),
        open_dead_letters: api.open_dead_letters().await,
    })
}
