//! The set-up of every test here: a new database, a proxy in front of it, millrace with a ledger, statistics and a
//! table of one stream, and the checker.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::checker::{Checker, Proof};
use crate::harness::cutting::Proxy;
use crate::harness::mariadb::Mariadb;
use crate::harness::postgres::Postgres;
use crate::harness::seed::Seed;
use crate::harness::servers::{Kind, Server, Setup};
use crate::harness::{Answer, Start, StoreKind, TestApp, wait_for};
use crate::load::Load;
use crate::sockets::SOCKETIO_SOURCE;

/// Redefines the stream `revenue` with a number per event, and adds statistics and a table of it. The ledger is in
/// the presets.
const VIEWS: &str = r#"
[stream.revenue]
key = "userId"
fields.userId = { type = "text", required = true, max = 255 }
fields.name = { type = "text", required = true, one_of = ["add_revenue", "subtract_revenue"] }
fields.value = { type = "decimal", required = true }
fields.number = { type = "integer", required = true }

[view.sale_counts]
kind = "stats"
from = "revenue"
group = "userId"
distinct = "name"
counts = ["name"]
table = "sale_counts"

[view.sales]
kind = "table"
from = "revenue"
columns = { number = "number", who = "userId", name = "name", value = "value" }
"#;

/// The pause between two requests of a sender, so that database servers have time to start.
const PAUSE: Duration = Duration::from_millis(25);

/// A run proves something only with more acknowledged requests than this.
const ACKNOWLEDGED_MIN: usize = 20;

pub const VIEW_NAMES: [&str; 3] = ["revenue", "sale_counts", "sales"];

pub fn start(kind: Kind, setup: Setup) -> Server {
    match kind {
        Kind::Postgres => Postgres::with(setup),
        Kind::Mariadb => Mariadb::with(setup),
    }
}

/// Returns the server that the tests of this process share.
pub fn shared(kind: Kind) -> &'static Server {
    match kind {
        Kind::Postgres => Postgres::shared(),
        Kind::Mariadb => Mariadb::shared(),
    }
}

/// Returns the settings to start millrace with a database.
pub fn start_with_store(url: &str) -> Start {
    Start {
        config: Some(format!("{VIEWS}{SOCKETIO_SOURCE}")),
        environment: vec![("MILLRACE_STORE".to_owned(), url.to_owned())],
        // The environment above selects the database, so the harness must not.
        store_kind: Some(StoreKind::Sqlite),
        ..Start::default()
    }
}

/// The parts of a test, in the order in which they must be dropped.
pub struct Rig {
    pub app: TestApp,
    pub checker: Checker,
    pub proxy: Proxy,
    pub url: String,
    pub seed: Seed,
}

impl Rig {
    pub fn new(server: &Server) -> Self {
        Self::with(server, "")
    }

    pub fn with(server: &Server, failpoints: &str) -> Self {
        let failpoints = ("MILLRACE_FAILPOINTS".to_owned(), failpoints.to_owned());
        Self::started(server, |start| start.environment.push(failpoints))
    }

    pub fn started(server: &Server, change: impl FnOnce(&mut Start)) -> Self {
        let (proxy, url) = (Proxy::in_front_of(server), server.new_database());
        let mut start = start_with_store(&proxy.url(&url));
        change(&mut start);
        let app = TestApp::with(start);
        let checker = Checker::open(&app.folder.path().join("history"));
        Self { app, checker, proxy, url, seed: Seed::new() }
    }

    /// Runs `meanwhile` under load. The load continues until enough requests are acknowledged, earlier loads
    /// included.
    pub fn load<T>(&self, meanwhile: impl FnOnce() -> T) -> T {
        let mut load = Load::new(&self.checker, self.app.client());
        load.pause = PAUSE;
        load.run(self.seed.0, || {
            let outcome = meanwhile();
            wait_for("enough acknowledged requests", || self.acknowledged() > ACKNOWLEDGED_MIN);
            outcome
        })
    }

    fn acknowledged(&self) -> usize {
        let requests = self.checker.history.requests();
        requests.iter().filter(|known| known.acknowledged.is_some()).count()
    }

    /// Blocks until the log has `events` more events; only under load.
    pub fn wait_for_events(&self, events: u64) {
        let end = self.app.log_end();
        wait_for("more events in the log", || self.app.log_end() >= end + events);
    }

    /// Blocks until the view has moved beyond its present position; only under load.
    pub fn wait_for_progress(&self, view: &str) {
        let before = position(&self.app, view);
        wait_for("a view to move", || position(&self.app, view) > before);
    }

    /// Returns whether dedup or a view reports that it waits.
    pub fn any_view_waits(&self) -> bool {
        let views = self.app.anonymous().get("/ready").json()["views"].clone();
        views.as_object().unwrap().values().any(|view| view["state"] == "waiting")
    }

    /// Returns the number of retries of plans.
    pub fn retries(&self) -> u64 {
        let metrics = metrics(&self.app);
        let of_retries = metrics.lines().filter(|line| line.starts_with("millrace_store_retries_total{"));
        of_retries.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// Fails unless every view contains every acknowledged event once, and nothing else.
    pub fn exact(&self, server: &Server) -> Result<Proof, String> {
        let proof = self.checker.demand_equality(&self.app)?;
        let expected = proof.events - proof.repeats_in_log;
        let sql = |sql: &str| server.sql(&self.url, sql);
        let rows = sql("SELECT count(*), count(DISTINCT number) FROM sales");
        if rows != format!("{expected}\t{expected}") {
            return Err(format!("rows and events: {rows}, not {expected} of each"));
        }
        let counts = in_order(&sql("SELECT grp, n FROM sale_counts_counts WHERE field = '' AND day = 0"));
        let counted = in_order(&sql("SELECT who, count(*) FROM sales GROUP BY who"));
        if counts != counted {
            return Err(format!(
                "counts differ\n   in the statistics {counts:?}\n   in the rows {counted:?}"
            ));
        }
        VIEW_NAMES.into_iter().try_for_each(|view| same_as_log(&self.app, view))?;
        Ok(proof)
    }

    /// Panics unless `exact` succeeds and the run was not idle.
    pub fn demand_exact(&self, server: &Server) -> Proof {
        let proof = self.exact(server).unwrap_or_else(|error| panic!("{error}"));
        assert!(proof.acknowledged > ACKNOWLEDGED_MIN, "an idle run proves nothing: {proof:?}");
        proof
    }
}

/// Returns the position of a view; 0 until the database has told it.
pub fn position(app: &TestApp, view: &str) -> u64 {
    app.view(view)["position"].as_u64().unwrap_or(0)
}

/// Blocks until the view is paused, and returns its reason.
pub fn paused(app: &TestApp, view: &str) -> String {
    wait_for("a view to be paused", || app.view(view)["state"] == "paused");
    app.view(view)["reason"].as_str().unwrap().to_owned()
}

pub fn metrics(app: &TestApp) -> String {
    let answer = app.client().get("/metrics");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

pub fn same_as_log(app: &TestApp, view: &str) -> Result<(), String> {
    let report: Value = app.client().post(&format!("/v1/views/{view}/reconcile"), "").json();
    if report["differenceCount"] == 0 { Ok(()) } else { Err(format!("reconcile of `{view}` says {report}")) }
}

/// Sends one event. Panics if it is not acknowledged.
pub fn sale(app: &TestApp, body: &str) -> Answer {
    let answer = app.client().post("/v1/streams/revenue/events", body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

/// Returns a copy of a data folder, so that two processes have a log with the same identity.
pub fn copy_folder(folder: &tempfile::TempDir) -> Arc<tempfile::TempDir> {
    let copy = tempfile::tempdir().unwrap();
    let from = format!("{}/.", folder.path().display());
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(copy.path()).status().unwrap();
    assert!(copied.success());
    Arc::new(copy)
}

fn in_order(lines: &str) -> Vec<String> {
    let mut lines: Vec<String> = lines.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}
