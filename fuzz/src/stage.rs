//! A server in this process for the fuzzer's requests, which are sent one after another. After each, the growth of
//! the log is compared with the answer. At the end `reconcile` checks every view.

use std::path::Path;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use millrace::config::{Config, LegacyEnv, Overrides};
use millrace::server::{InProcess, Settings};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

/// The time after which a request that only reads is cancelled, because a waiting tail would stop the fuzzer.
const READING_DURATION_MAX: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(60);

pub struct Stage {
    runtime: Runtime,
    server: InProcess,
    key: String,
    views: Vec<String>,
    /// Only the next request can append to the log.
    pub quiet: bool,
}

pub struct Answer {
    pub status: StatusCode,
    pub content_type: String,
    pub body: Vec<u8>,
    /// The number of events that were appended to the log meanwhile.
    pub appended: u64,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Stage {
    pub fn open(folder: &Path) -> Self {
        let config = Config::load(None, &Overrides::default()).expect("the built-in configuration is valid");
        let views = config.views.keys().cloned().collect();
        let settings = Settings {
            data: folder.join("data"),
            config,
            legacy_env: LegacyEnv::default(),
            warnings: Vec::new(),
            dev: false,
            accept_new_log: false,
            welcome: false,
        };
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let server = runtime.block_on(InProcess::open(&settings)).expect("a server opens");
        let key = std::fs::read_to_string(settings.data.join("api-key")).expect("the first key");
        Self { runtime, server, key: key.trim().to_owned(), views, quiet: true }
    }

    /// Sends a request, with the first key unless it has an `Authorization`. Returns `None` if it was cancelled.
    pub fn ask(&mut self, mut request: Request<Body>) -> Option<Answer> {
        let headers = request.headers_mut();
        for (name, value) in [
            (header::HOST, "localhost"),
            (header::AUTHORIZATION, &self.key),
            (header::CONTENT_TYPE, "application/json"),
        ] {
            headers.entry(name).or_insert(value.parse().expect("a header value"));
        }
        let only_reads = [Method::GET, Method::HEAD].contains(request.method());
        let duration_max = if only_reads { READING_DURATION_MAX } else { WAIT_MAX };
        let before = self.server.log_end();
        let asked = async {
            let response = self.server.ask(request).await;
            let (head, body) = response.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.expect("a whole answer");
            (head, body)
        };
        let answered = self.runtime.block_on(async { tokio::time::timeout(duration_max, asked).await });
        let Ok((head, body)) = answered else {
            assert!(only_reads, "no answer after {duration_max:?}");
            return None;
        };
        let content_type = head.headers.get(header::CONTENT_TYPE).map(|value| value.to_str());
        let content_type = content_type.transpose().expect("text").unwrap_or_default().to_owned();
        let appended = self.server.log_end() - before;
        Some(Answer { status: head.status, content_type, body: body.into(), appended })
    }

    /// Waits until every view has applied the log, and checks that it equals the result from the log.
    pub fn close(mut self) {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let ready = self.get("GET", "/ready").json();
            let views = ready["views"].as_object().expect("the views");
            if views.values().all(|view| view["lag"] == 0) {
                break;
            }
            assert!(Instant::now() < deadline, "the views do not catch up: {ready}");
            std::thread::sleep(Duration::from_millis(5));
        }
        for view in self.views.clone() {
            let report = self.get("POST", &format!("/v1/views/{view}/reconcile"));
            let differences = report.json()["differenceCount"].clone();
            assert!(
                report.status == StatusCode::CONFLICT || differences == 0,
                "view `{view}` differs from the log: {}",
                String::from_utf8_lossy(&report.body)
            );
        }
        self.runtime.block_on(self.server.close());
    }

    fn get(&mut self, method: &str, path: &str) -> Answer {
        loop {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("a request");
            if let Some(answer) = self.ask(request) {
                return answer;
            }
        }
    }
}
