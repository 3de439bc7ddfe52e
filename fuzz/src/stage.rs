//! A server in this process for the fuzzer's requests: asked one after the other, judged by whether the
//! log moved as the answer says, and examined at the end by its own `reconcile`.

use std::path::Path;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use millrace::config::{Config, LegacyEnv, Overrides};
use millrace::server::{InProcess, Settings};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

/// What only reads may be given up at any moment; the wait of a tail would stop the fuzzer.
const READING_DURATION_MAX: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Stage {
    runtime: Runtime,
    server: InProcess,
    key: String,
    views: Vec<String>,
    /// Whether nothing but the next request can move the log.
    pub still: bool,
}

pub struct Answer {
    pub status: StatusCode,
    pub content_type: String,
    pub body: Vec<u8>,
    /// How far the log moved meanwhile.
    pub moved: u64,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Stage {
    pub fn open(folder: &Path) -> Self {
        let config = Config::load(None, &Overrides::default()).expect("the built-in configuration is sound");
        let views = config.views.keys().cloned().collect();
        let settings = Settings {
            data: folder.join("data"),
            config,
            legacy_env: LegacyEnv::default(),
            dev: false,
            behind_proxy: false,
            accept_new_log: false,
            welcome: false,
        };
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let server = runtime.block_on(InProcess::open(&settings)).expect("a server opens");
        let key = std::fs::read_to_string(settings.data.join("api-key")).expect("the first key");
        Self { runtime, server, key: key.trim().to_owned(), views, still: true }
    }

    /// Shows the first key unless the request says who it is. `None` where it was given up.
    pub fn ask(&mut self, mut request: Request<Body>) -> Option<Answer> {
        let headers = request.headers_mut();
        for (name, value) in [
            (header::HOST, "localhost"),
            (header::AUTHORIZATION, &self.key),
            (header::CONTENT_TYPE, "application/json"),
        ] {
            headers.entry(name).or_insert(value.parse().expect("a header's value"));
        }
        let only_reads = [Method::GET, Method::HEAD].contains(request.method());
        let patience = if only_reads { READING_DURATION_MAX } else { PATIENCE };
        let before = self.server.log_end();
        let asked = async {
            let response = self.server.ask(request).await;
            let (head, body) = response.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.expect("a whole answer");
            (head, body)
        };
        let answered = self.runtime.block_on(async { tokio::time::timeout(patience, asked).await });
        let Ok((head, body)) = answered else {
            assert!(only_reads, "no answer for {patience:?}");
            return None;
        };
        let content_type = head.headers.get(header::CONTENT_TYPE).map(|value| value.to_str());
        let content_type = content_type.transpose().expect("text").unwrap_or_default().to_owned();
        let moved = self.server.log_end() - before;
        Some(Answer { status: head.status, content_type, body: body.into(), moved })
    }

    /// Every view comes to the end of the log, and is what the log makes.
    pub fn close(mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ready = self.get("GET", "/ready").json();
            let views = ready["views"].as_object().expect("the views");
            if views.values().all(|view| view["lag"] == 0) {
                break;
            }
            assert!(Instant::now() < deadline, "views stand still: {ready}");
            std::thread::sleep(Duration::from_millis(5));
        }
        for view in self.views.clone() {
            let report = self.get("POST", &format!("/v1/views/{view}/reconcile"));
            let differences = report.json()["differenceCount"].clone();
            assert!(
                report.status == StatusCode::CONFLICT || differences == 0,
                "{view} is not what the log makes: {}",
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
