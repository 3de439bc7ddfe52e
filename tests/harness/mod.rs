//! A real server for each test: the built binary in a folder of its own, on a free port. Dropping it
//! stops it the way an operator would, and fails the test if anything acknowledged was left unapplied.

#![allow(clippy::unwrap_used, dead_code, unused_imports)]

pub mod http;

pub mod cutting;
pub mod mariadb;
pub mod postgres;
pub mod process;
pub mod seed;
pub mod servers;
pub mod small_disk;
pub mod stored;
mod wire;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

pub use http::{Answer, Client};
pub use stored::{Keeping, Stored};

const START_DURATION_MAX: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(60);

/// How a server is started.
#[derive(Clone, Default)]
pub struct Start {
    /// Laid over the built-in configuration.
    pub config: Option<String>,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// Written as `.env` into the working directory.
    pub dotenv: Option<String>,
    /// As many files as the process may have open.
    pub files_max: Option<u32>,
    /// Where its views are; the environment has it for tests that do not say.
    pub keeping: Option<Keeping>,
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
    /// Unless its configuration or environment names another.
    pub stored: Stored,
    start: Start,
    child: Option<Child>,
    log: Arc<Mutex<Vec<String>>>,
    /// Whether views are expected to have caught up at the end.
    pub settled_at_end: bool,
}

/// Turns all presets on.
pub const ALL_PRESETS: &str = "presets = [\"revenue\", \"analytics\", \"notifications\", \"inventory\"]\n";

/// Writes the configuration file of a server, with all presets on unless it says which.
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
        Self::try_with(start, folder).unwrap_or_else(|log| panic!("did not start:\n{log}"))
    }

    /// The log, if the server ends instead of listening.
    pub fn try_with(start: Start, folder: Arc<tempfile::TempDir>) -> Result<Self, String> {
        if let Some(config) = &start.config {
            configure(folder.path(), config);
        }
        if let Some(dotenv) = &start.dotenv {
            std::fs::write(folder.path().join(".env"), dotenv).unwrap();
        }
        let keeping = start.keeping.unwrap_or_else(Keeping::of_environment);
        let stored = Stored::of_folder(keeping, folder.path(), &folder.path().join("data/millrace.db"));
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
        let places = ["PORT", "API_PORT", "MILLRACE_LISTEN"];
        let ported = self.start.dotenv.is_some()
            || self.start.environment.iter().any(|(name, _)| places.contains(&name.as_str()));
        if !named && !ported {
            command.args(["--listen", "localhost:0"]);
        }
        if self.stored.keeping != Keeping::Sqlite && !self.start.names_a_store() {
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
                // It has the last lines only at its end.
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

    /// The first log line with this message.
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

    /// Where the log ends: what is refused does not move it.
    pub fn log_end(&self) -> u64 {
        self.stranger().get("/ready").json()["log"]["end"].as_u64().unwrap()
    }

    /// The state of one view, as `/ready` shows it.
    pub fn view(&self, name: &str) -> Value {
        self.stranger().get("/ready").json()["views"][name].clone()
    }

    /// A connection to the store, as another program would have one, if it is SQLite.
    pub fn database(&self) -> rusqlite::Connection {
        self.stored.connection()
    }

    /// What another program finds in the store, or changes there, in words that every database has.
    pub fn sql(&self, sql: &str) -> String {
        self.stored.sql(sql)
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn key(&self) -> String {
        std::fs::read_to_string(self.data().join("api-key")).unwrap()
    }

    /// A client that shows the first key.
    pub fn client(&self) -> Client {
        Client::new(&self.address).with_header("Authorization", &self.key())
    }

    /// A client without any key.
    pub fn stranger(&self) -> Client {
        Client::new(&self.address)
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Waits until every view has applied what the log holds.
    pub fn settle(&self) {
        let client = self.stranger();
        let settled = || {
            let body = client.get("/ready").json();
            body["views"].as_object().unwrap().values().all(|view| view["lag"] == 0)
        };
        wait_for("views to catch up", settled);
    }

    pub fn balance(&self, user: &str) -> Option<String> {
        self.settle();
        let answer = self.client().get(&format!("/userEvents/{user}"));
        (answer.status == 200).then(|| {
            let text = answer.text();
            text.rsplit_once(':').unwrap().1.trim_end_matches("}]").to_owned()
        })
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Waits for the process to end by itself; its exit code.
    pub fn ended(&mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(child.kill());
        drop(child.wait());
        panic!("did not end:\n{}", self.log_text());
    }

    /// SIGTERM, and the exit code.
    pub fn stop(&mut self) -> Option<i32> {
        let pid = self.pid().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        self.ended()
    }

    /// Starts again in the same folder.
    pub fn restart(&mut self) {
        self.kill();
        self.spawn().unwrap_or_else(|log| panic!("did not start again:\n{log}"));
    }

    pub fn restart_with(&mut self, change: impl FnOnce(&mut Start)) {
        self.try_restart_with(change).unwrap_or_else(|log| panic!("did not start again:\n{log}"));
    }

    /// The log, if the server ends instead of listening.
    pub fn try_restart_with(&mut self, change: impl FnOnce(&mut Start)) -> Result<(), String> {
        self.kill();
        change(&mut self.start);
        self.spawn()
    }

    /// Whether the process is gone, by itself or by a kill.
    pub fn is_gone(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some())
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.pid().to_string()]).status().unwrap();
        assert!(sent.success(), "kill {name}");
    }

    /// Runs another command of the binary in this app's folder.
    pub fn command(&self, arguments: &[&str]) -> std::process::Output {
        Command::new(env!("CARGO_BIN_EXE_millrace"))
            .current_dir(self.folder.path())
            .env_clear()
            .env("MILLRACE_URL", format!("http://{}", self.address))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap()
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

/// A port that nobody uses just now, in either address family.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("localhost:0").unwrap().local_addr().unwrap().port()
}

/// Waits for a condition, with a deadline.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn read_lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

/// Whether the text occurs anywhere in the files of a folder.
pub fn occurs(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).any(|path| match path.is_dir() {
        true => occurs(&path, text),
        false => {
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
            if found {
                println!("{text} is in {}", path.display());
            }
            found
        }
    })
}
