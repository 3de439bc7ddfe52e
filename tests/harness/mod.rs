//! A real server for each test: the built binary, in its own folder and on a free port. On drop it is stopped with
//! SIGTERM, and the test fails if an acknowledged event was not applied.

#![allow(clippy::unwrap_used, dead_code, unused_imports)]

pub mod http;

pub mod cutting;
pub mod event_stream;
pub mod mail_server;
pub mod mariadb;
pub mod node;
pub mod postgres;
pub mod process;
pub mod python;
pub mod receiver;
pub mod seed;
pub mod servers;
pub mod small_disk;
pub mod socketio;
pub mod stored;
pub mod websocket;
mod wire;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

pub use http::{Answer, Client};
pub use stored::{StoreKind, Stored};

const START_DURATION_MAX: Duration = Duration::from_secs(20);
const WAIT_MAX: Duration = Duration::from_secs(60);

/// The settings of a server's start.
#[derive(Clone, Default)]
pub struct Start {
    /// The content of `millrace.toml`.
    pub config: Option<String>,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Written as `.env` into the working directory.
    pub dotenv: Option<String>,
    /// The limit of open files of the process.
    pub files_max: Option<u32>,
    /// The database of its views; by default `MILLRACE_TEST_STORE` selects it.
    pub store_kind: Option<StoreKind>,
}

impl Start {
    fn names_a_store(&self) -> bool {
        self.config.as_ref().is_some_and(|config| config.contains("[store]"))
            || self.arguments.iter().any(|argument| argument == "--store")
    }
}

pub struct TestApp {
    pub folder: Arc<tempfile::TempDir>,
    pub address: String,
    /// The database of the views, unless configuration or environment name another one.
    pub stored: Stored,
    start: Start,
    child: Option<Child>,
    log: Arc<Mutex<Vec<String>>>,
    /// Waits on drop until the views have caught up.
    pub settled_at_end: bool,
}

/// The configuration line that turns all presets on.
pub const ALL_PRESETS: &str = "presets = [\"revenue\", \"analytics\", \"notifications\", \"inventory\"]\n";

/// Writes the configuration file of a server. All presets are on unless `config` names some.
pub fn configure(folder: &Path, config: &str) {
    let presets = if config.contains("presets =") { "" } else { ALL_PRESETS };
    std::fs::write(folder.join("millrace.toml"), format!("{presets}{config}")).unwrap();
}

impl TestApp {
    pub fn start() -> Self {
        Self::with(Start::default())
    }

    pub fn configured(config: &str) -> Self {
        Self::with(Start { config: Some(config.to_owned()), ..Start::default() })
    }

    pub fn with(start: Start) -> Self {
        Self::with_folder(start, Arc::new(tempfile::tempdir().unwrap()))
    }

    pub fn with_folder(start: Start, folder: Arc<tempfile::TempDir>) -> Self {
        Self::try_with(start, folder).unwrap_or_else(|log| panic!("the server did not start:\n{log}"))
    }

    /// Returns the log as the error if the server ends and does not listen.
    pub fn try_with(start: Start, folder: Arc<tempfile::TempDir>) -> Result<Self, String> {
        if let Some(config) = &start.config {
            configure(folder.path(), config);
        }
        if let Some(dotenv) = &start.dotenv {
            std::fs::write(folder.path().join(".env"), dotenv).unwrap();
        }
        let store_kind = start.store_kind.unwrap_or_else(StoreKind::from_env);
        let stored = Stored::for_folder(store_kind, folder.path(), &folder.path().join("data/millrace.db"));
        let mut app = Self {
            folder,
            stored,
            address: String::new(),
            start,
            child: None,
            log: Arc::default(),
            settled_at_end: true,
        };
        app.spawn()?;
        Ok(app)
    }

    fn spawn(&mut self) -> Result<(), String> {
        let mut command = program(self.start.files_max);
        command.current_dir(self.folder.path()).env_clear().arg("serve").args(["--log-format", "json"]);
        let named = self.start.arguments.iter().any(|argument| argument == "--listen");
        let variables = ["PORT", "API_PORT", "MILLRACE_LISTEN"];
        let ported = self.start.dotenv.is_some()
            || self.start.environment.iter().any(|(name, _)| variables.contains(&name.as_str()));
        if !named && !ported {
            command.args(["--listen", "localhost:0"]);
        }
        if self.stored.store_kind != StoreKind::Sqlite && !self.start.names_a_store() {
            command.env("MILLRACE_STORE", self.stored.url());
        }
        command
            .args(&self.start.arguments)
            .envs(self.start.environment.iter().map(|(name, value)| (name, value)));
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        self.child = Some(child);
        self.log.lock().unwrap().clear();
        let log = Arc::clone(&self.log);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                log.lock().unwrap().push(line);
            }
        });
        let deadline = Instant::now() + START_DURATION_MAX;
        loop {
            if let Some(address) = self.listening() {
                self.address = address;
                return Ok(());
            }
            let ended = self.child.as_mut().unwrap().try_wait().unwrap().is_some();
            if ended || Instant::now() > deadline {
                self.kill();
                // Only after the join does the log have its last lines.
                reader.join().unwrap();
                return Err(self.log_text());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn listening(&self) -> Option<String> {
        let line = self.log_line("listening")?;
        let urls = line["addresses"].as_str()?.to_owned();
        Some(urls.split(' ').next()?.trim_start_matches("http://").to_owned())
    }

    /// Returns the first log line with this message.
    pub fn log_line(&self, message: &str) -> Option<Value> {
        let lines = self.log.lock().unwrap();
        lines
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|line| line["message"] == message)
    }

    pub fn log_text(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Returns the end position of the log. A refused event does not move it.
    pub fn log_end(&self) -> u64 {
        self.anonymous().get("/ready").json()["log"]["end"].as_u64().unwrap()
    }

    /// Returns the state of one view, as `/ready` shows it. Fails if it shows no state of the view.
    pub fn view(&self, name: &str) -> Value {
        let ready = self.anonymous().get("/ready").json();
        let view = &ready["views"][name];
        assert!(view["state"].is_string(), "no state of view `{name}` in {ready}");
        view.clone()
    }

    /// Opens a connection to the store, as another program would; for SQLite only.
    pub fn database(&self) -> rusqlite::Connection {
        self.stored.connection()
    }

    /// Executes SQL in the store, as another program would. See `Stored::sql`.
    pub fn sql(&self, sql: &str) -> String {
        self.stored.sql(sql)
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn key(&self) -> String {
        std::fs::read_to_string(self.data().join("api-key")).unwrap()
    }

    /// Returns a client that sends the first key.
    pub fn client(&self) -> Client {
        Client::new(&self.address).with_header("Authorization", &self.key())
    }

    /// Returns a client without a key.
    pub fn anonymous(&self) -> Client {
        Client::new(&self.address)
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Blocks until every view has applied the whole log.
    pub fn settle(&self) {
        let client = self.anonymous();
        let settled = || {
            let body = client.get("/ready").json();
            body["views"].as_object().unwrap().values().all(|view| view["lag"] == 0)
        };
        wait_for("views to catch up", settled);
    }

    /// Lets notifications stay as they were queued.
    pub fn pause_log_destination(&self) {
        let answer = self.client().post("/v1/destinations/log/pause", r#"{"reason":"test"}"#);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    pub fn balance(&self, user: &str) -> Option<String> {
        self.settle();
        let answer = self.client().get(&format!("/userEvents/{user}"));
        (answer.status == 200).then(|| {
            let text = answer.text();
            text.rsplit_once(':').unwrap().1.trim_end_matches("}]").to_owned()
        })
    }

    /// Kills the process with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Blocks until the process ends, and returns its exit code.
    pub fn wait_for_exit(&mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        let deadline = Instant::now() + WAIT_MAX;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(child.kill());
        drop(child.wait());
        panic!("the server did not end:\n{}", self.log_text());
    }

    /// Stops the process with SIGTERM, and returns its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        let pid = self.pid().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        self.wait_for_exit()
    }

    /// Kills the process and starts it again in the same folder.
    pub fn restart(&mut self) {
        self.kill();
        self.spawn().unwrap_or_else(|log| panic!("the server did not start again:\n{log}"));
    }

    pub fn restart_with(&mut self, change: impl FnOnce(&mut Start)) {
        self.try_restart_with(change).unwrap_or_else(|log| panic!("the server did not start again:\n{log}"));
    }

    /// Returns the log as the error if the server ends and does not listen.
    pub fn try_restart_with(&mut self, change: impl FnOnce(&mut Start)) -> Result<(), String> {
        self.kill();
        change(&mut self.start);
        self.spawn()
    }

    /// Returns whether the process has ended.
    pub fn is_gone(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some())
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.pid().to_string()]).status().unwrap();
        assert!(sent.success(), "kill {name}");
    }

    /// Runs another command of the binary in the server's folder.
    pub fn command(&self, arguments: &[&str]) -> std::process::Output {
        self.prepared(arguments).output().unwrap()
    }

    /// Returns such a command before it runs.
    pub fn prepared(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
        command
            .current_dir(self.folder.path())
            .env_clear()
            .env("MILLRACE_URL", format!("http://{}", self.address))
            .args(arguments)
            .stdin(Stdio::null());
        command
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        if self.child.is_none() {
            return;
        }
        if std::thread::panicking() {
            self.kill();
            eprintln!("--- log of the server\n{}", self.log_text());
            return;
        }
        if self.settled_at_end {
            self.settle();
        }
        let code = self.stop();
        assert_eq!(code, Some(0), "a clean stop\n{}", self.log_text());
    }
}

fn program(files_max: Option<u32>) -> Command {
    let binary = env!("CARGO_BIN_EXE_millrace");
    match files_max {
        None => Command::new(binary),
        Some(files) => {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", &format!("ulimit -n {files}; exec \"$0\" \"$@\""), binary]);
            shell
        }
    }
}

/// Returns a port that is free at the moment.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("localhost:0").unwrap().local_addr().unwrap().port()
}

/// Blocks until a condition holds. Panics after a deadline.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT_MAX;
    while !condition() {
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Copies the files of one folder into another, which is created if it does not exist.
pub fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

pub fn read_lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

/// Returns whether any file below a folder contains the text.
pub fn occurs(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
        if path.is_dir() {
            occurs(&path, text)
        } else {
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
            if found {
                println!("{text} is in {}", path.display());
            }
            found
        }
    })
}
