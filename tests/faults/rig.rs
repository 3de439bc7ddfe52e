//! What every case here begins with: a database of its own, a proxy before it, millrace behind that with a view
//! of each kind over one stream, and the checker that knows what was sent.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::checker::{Checker, Proof};
use crate::harness::cutting::Proxy;
use crate::harness::mariadb::Mariadb;
use crate::harness::postgres::Postgres;
use crate::harness::seed::Seed;
use crate::harness::servers::{Kind, Server, Setup};
use crate::harness::{Answer, Keeping, Start, TestApp, wait_for};
use crate::load::Load;

/// The ledger of `revenue` is there by itself; statistics and a row an event come from the same events.
pub const VIEWS: &str = r#"
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

/// Servers need time to start, beside millrace and what it is sent.
const PAUSE: Duration = Duration::from_millis(25);

/// A run of no more requests acknowledged than this was an idle one.
const PROVES: usize = 20;

const OF_VIEWS: [&str; 3] = ["revenue", "sale_counts", "sales"];

pub fn start(kind: Kind, setup: Setup) -> Server {
    match kind {
        Kind::Postgres => Postgres::with(setup),
        Kind::Mariadb => Mariadb::with(setup),
    }
}

/// Of the server that the tests of this process share.
pub fn shared(kind: Kind) -> &'static Server {
    match kind {
        Kind::Postgres => Postgres::shared(),
        Kind::Mariadb => Mariadb::shared(),
    }
}

/// How millrace is started at a database.
pub fn at(url: &str) -> Start {
    Start {
        config: Some(VIEWS.to_owned()),
        environment: vec![("MILLRACE_STORE".to_owned(), url.to_owned())],
        // Told by the environment above.
        keeping: Some(Keeping::Sqlite),
        ..Start::default()
    }
}

/// In the order in which they have to end.
pub struct Rig {
    pub app: TestApp,
    pub checker: Checker,
    pub proxy: Proxy,
    pub url: String,
    pub seed: Seed,
}

impl Rig {
    pub fn before(server: &Server) -> Self {
        Self::with(server, "")
    }

    pub fn with(server: &Server, failpoints: &str) -> Self {
        let failpoints = ("MILLRACE_FAILPOINTS".to_owned(), failpoints.to_owned());
        Self::started(server, |start| start.environment.push(failpoints))
    }

    pub fn started(server: &Server, change: impl FnOnce(&mut Start)) -> Self {
        let (proxy, url) = (Proxy::before(server), server.new_database());
        let mut start = at(&proxy.url(&url));
        change(&mut start);
        let app = TestApp::with(start);
        let checker = Checker::open(&app.folder.path().join("history"));
        Self { app, checker, proxy, url, seed: Seed::new() }
    }

    /// Load while `meanwhile` runs, and until there was enough of it, loads before included.
    pub fn load<T>(&self, meanwhile: impl FnOnce() -> T) -> T {
        let mut load = Load::new(&self.checker, self.app.client());
        load.pause = PAUSE;
        load.run(self.seed.0, || {
            let outcome = meanwhile();
            wait_for("a load that proves something", || self.acknowledged() > PROVES);
            outcome
        })
    }

    fn acknowledged(&self) -> usize {
        let requests = self.checker.history.requests();
        requests.iter().filter(|known| known.acknowledged.is_some()).count()
    }

    /// Under load: so many events more in the log.
    pub fn more(&self, events: u64) {
        let end = self.app.log_end();
        wait_for("more events in the log", || self.app.log_end() >= end + events);
    }

    /// Under load: the view comes further than it is.
    pub fn goes_on(&self, view: &str) {
        let before = position(&self.app, view);
        wait_for("a view to go on", || position(&self.app, view) > before);
    }

    /// Whether gate or view say why they wait.
    pub fn waits(&self) -> bool {
        let views = self.app.stranger().get("/ready").json()["views"].clone();
        views.as_object().unwrap().values().any(|view| view["waiting"].is_string())
    }

    /// How often a plan was tried again.
    pub fn retries(&self) -> u64 {
        let metrics = metrics(&self.app);
        let of_retries = metrics.lines().filter(|line| line.starts_with("millrace_store_retries_total{"));
        of_retries.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    /// Every event that was acknowledged is in every view once, and nothing else is.
    pub fn exact(&self, server: &Server) -> Result<Proof, String> {
        let proof = self.checker.demand_equality(&self.app)?;
        let expected = proof.events - proof.repeats_in_log;
        let sql = |sql: &str| server.sql(&self.url, sql);
        let rows = sql("SELECT count(*), count(DISTINCT number) FROM sales");
        if rows != format!("{expected}\t{expected}") {
            return Err(format!("rows and events among them: {rows}, not {expected} of each"));
        }
        let counts = in_order(&sql("SELECT grp, n FROM sale_counts_counts WHERE field = '' AND day = 0"));
        let counted = in_order(&sql("SELECT who, count(*) FROM sales GROUP BY who"));
        if counts != counted {
            return Err(format!("counts differ\n   in statistics {counts:?}\n   rows {counted:?}"));
        }
        OF_VIEWS.into_iter().try_for_each(|view| same_as_log(&self.app, view))?;
        Ok(proof)
    }

    /// The same, where anything else is a failure.
    pub fn demand_exact(&self, server: &Server) -> Proof {
        let proof = self.exact(server).unwrap_or_else(|error| panic!("{error}"));
        assert!(proof.acknowledged > PROVES, "an idle run proves nothing: {proof:?}");
        proof
    }
}

pub fn position(app: &TestApp, view: &str) -> u64 {
    app.view(view)["position"].as_u64().unwrap()
}

/// Waits until the view stands still; what it says.
pub fn paused(app: &TestApp, view: &str) -> String {
    wait_for("a view to stand still", || app.view(view)["paused"].is_string());
    app.view(view)["paused"].as_str().unwrap().to_owned()
}

pub fn metrics(app: &TestApp) -> String {
    let answer = app.client().get("/metrics");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

pub fn same_as_log(app: &TestApp, view: &str) -> Result<(), String> {
    let report: Value = app.client().post(&format!("/v1/views/{view}/reconcile"), "").json();
    match report["differenceCount"] == 0 {
        true => Ok(()),
        false => Err(format!("reconcile of `{view}` says {report}")),
    }
}

/// Sends one event, and wants it acknowledged.
pub fn sale(app: &TestApp, body: &str) -> Answer {
    let answer = app.client().post("/v1/streams/revenue/events", body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

/// Of two processes one folder, with a log of one identity.
pub fn copy_of(folder: &tempfile::TempDir) -> Arc<tempfile::TempDir> {
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
