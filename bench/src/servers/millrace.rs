//! Millrace as a user starts it: one process, a data folder on the disk, the default configuration.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Folder, Process, wait_for};
use crate::Outcome;
use crate::events::expect_balances;
use crate::http::{Client, request};

/// Applying ten million visits takes minutes.
const CATCH_UP_DURATION_MAX: Duration = Duration::from_secs(900);

/// The log lines, each with its time.
type Log = Arc<Mutex<Vec<(Instant, Value)>>>;

pub struct Millrace {
    process: Process,
    log: Log,
    pub address: String,
    pub key: String,
    folder: Folder,
    program: PathBuf,
}

impl Millrace {
    pub fn start(program: &Path, above: &Path) -> Outcome<Self> {
        Self::start_in(program, Folder::new(above, "millrace")?, None)
    }

    pub fn start_with_failpoints(program: &Path, above: &Path, failpoints: &str) -> Outcome<Self> {
        Self::start_in(program, Folder::new(above, "millrace")?, Some(failpoints))
    }

    /// Starts millrace in a folder, and returns once it listens.
    pub fn start_in(program: &Path, folder: Folder, failpoints: Option<&str>) -> Outcome<Self> {
        let mut process = Process::start(program, |command| {
            command
                .current_dir(folder.path())
                .args(["serve", "--log-format", "json", "--listen", "127.0.0.1:0", "--data", "data"])
                .envs(failpoints.map(|value| ("MILLRACE_FAILPOINTS", value)))
                .stdout(Stdio::null())
                .stderr(Stdio::piped());
        })?;
        let log: Log = Arc::default();
        let stderr = process.child.stderr.take().ok_or("the process has no stderr")?;
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let at = Instant::now();
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                lines.lock().expect("no panic while holding the lock").push((at, line));
            }
        });
        let mut server = Self {
            process,
            log,
            address: String::new(),
            key: String::new(),
            folder,
            program: program.to_owned(),
        };
        let (_, line) = server.logged("listening")?;
        let addresses = line["addresses"].as_str().ok_or("the log line has no addresses")?;
        server.address = addresses.trim_start_matches("http://").to_owned();
        server.key = std::fs::read_to_string(server.data().join("api-key"))?.trim().to_owned();
        Ok(server)
    }

    /// Blocks until the log has a line with this message. Returns the time and the line.
    pub fn logged(&mut self, message: &str) -> Outcome<(Instant, Value)> {
        let mut found = None;
        let (log, process) = (&self.log, &mut self.process);
        wait_for(message, || {
            let log = log.lock().expect("no panic while holding the lock");
            found = log.iter().find(|(_, line)| line["message"] == message).cloned();
            match (&found, process.child.try_wait()?) {
                (None, Some(status)) => Err(format!("millrace ended with {status}: {log:?}").into()),
                _ => Ok(found.is_some()),
            }
        })?;
        found.ok_or_else(|| format!("millrace did not log `{message}`").into())
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn database(&self) -> Outcome<rusqlite::Connection> {
        Ok(rusqlite::Connection::open(self.data().join("millrace.db"))?)
    }

    pub fn client(&self) -> Outcome<Client> {
        Client::connect(&self.address)
    }

    pub fn post(&self, path: &str, event: &str) -> Vec<u8> {
        let headers = format!("Authorization: {}\r\nContent-Type: application/json\r\n", self.key);
        request("POST", path, &headers, event)
    }

    /// Returns the processor time that the server has used.
    pub fn processor_seconds(&self) -> Outcome<f64> {
        self.process.processor_seconds()
    }

    /// Returns the end position of its log.
    pub fn log_end(&self) -> Outcome<u64> {
        Ok(self.client()?.get("/ready")?["log"]["end"].as_u64().unwrap_or_default())
    }

    /// Blocks until dedup and views have applied everything.
    pub fn settle(&self) -> Outcome<()> {
        let mut client = self.client()?;
        let begun = Instant::now();
        loop {
            let ready = client.get("/ready")?;
            if ready["views"].as_object().is_some_and(|views| views.values().all(|view| view["lag"] == 0)) {
                return Ok(());
            }
            if begun.elapsed() > CATCH_UP_DURATION_MAX {
                return Err(format!("views do not catch up: {ready}").into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Fails unless every user has the right balance, in hundredths.
    pub fn check_balances(&self, right: &[i64]) -> Outcome<()> {
        let database = self.database()?;
        let mut statement =
            database.prepare("SELECT user_id, CAST(round(revenue * 100) AS INTEGER) FROM users_revenue")?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
        let found = rows.collect::<Result<_, _>>()?;
        expect_balances(&found, right)
    }

    /// Returns the peak memory of the process, in MiB.
    pub fn memory_peak(&self) -> Outcome<f64> {
        self.memory("VmHWM:")
    }

    /// Returns the memory that the process uses now, in MiB.
    pub fn memory_now(&self) -> Outcome<f64> {
        self.memory("VmRSS:")
    }

    fn memory(&self, name: &str) -> Outcome<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find(|line| line.starts_with(name)).ok_or("/proc has no such line")?;
        let kib: f64 = line.split_whitespace().nth(1).ok_or("the line has no value")?.parse()?;
        Ok(kib / 1024.0)
    }

    /// Stops the process with SIGTERM, and returns its folder.
    pub fn stop(mut self) -> Outcome<Folder> {
        self.process.end("-TERM")?;
        Ok(self.folder)
    }

    /// Kills the process with SIGKILL, and returns its folder.
    pub fn kill(self) -> Folder {
        drop(self.process);
        self.folder
    }

    /// Runs another command of the binary against this server, and waits for it.
    pub fn command(&self, arguments: &[&str]) -> Outcome<()> {
        let mut process = Process::start(&self.program, |command| {
            command
                .current_dir(self.folder.path())
                .env("MILLRACE_URL", format!("http://{}", self.address))
                .env("MILLRACE_API_KEY", &self.key)
                .args(arguments)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
        })?;
        process.wait()
    }
}
