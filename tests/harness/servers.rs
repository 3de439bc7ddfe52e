//! Private database servers for tests. Each has its own temporary folder, port and socket; a server that runs
//! already is never used. All tests of a process share one server (`Postgres::shared()`), each with its own
//! database. A test that stops, pauses or configures its server starts its own (`Postgres::start()`).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::process::{Account, Running, allow_traversal, copy_cached, run};
use super::{mariadb, postgres};

const START_DURATION_MAX: Duration = Duration::from_secs(30);
/// Below the range of ephemeral ports, so that no client uses the port while a server restarts.
const PORTS: std::ops::Range<u32> = 20_000..32_000;

/// The database account that millrace uses. It owns its database and nothing else.
pub const USER: &str = "millrace";
pub const PASSWORD: &str = "secret";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    Mariadb,
}

/// The settings of a server.
#[derive(Clone)]
pub struct Setup {
    /// Syncs each commit to the disk.
    pub sync: bool,
    /// Requires TLS over TCP. The certificate is `Server::certificate`, for `localhost` and `127.0.0.1`.
    pub tls: bool,
    /// Settings of the database, with the names of its documentation.
    pub settings: Vec<(String, String)>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { sync: true, tls: false, settings: Vec::new() }
    }
}

impl Setup {
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

pub struct Server {
    pub kind: Kind,
    pub port: u16,
    pub(super) setup: Setup,
    pub(super) account: Account,
    pub folder: PathBuf,
    running: Option<Running>,
    databases: AtomicU32,
}

impl Server {
    pub(super) fn start(kind: Kind, setup: Setup) -> Self {
        let account = match kind {
            Kind::Postgres => Account::of(&["postgres", "nobody"]),
            Kind::Mariadb => Account::of(&["mysql", "nobody"]),
        };
        let folder = tempfile::Builder::new().prefix("millrace-").tempdir().unwrap().keep();
        allow_traversal(&folder);
        let mut server =
            Self { kind, port: 0, setup, account, folder, running: None, databases: AtomicU32::new(0) };
        let version = match kind {
            Kind::Postgres => postgres::version(),
            Kind::Mariadb => mariadb::version(),
        };
        let version: String = version.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
        let made = format!("{kind:?}-{}-{version}", account.name()).to_lowercase();
        let make = |data: &Path| match kind {
            Kind::Postgres => postgres::make(account, data),
            Kind::Mariadb => mariadb::make(account, data),
        };
        copy_cached(&made, make, &server.data());
        std::fs::create_dir(server.sockets()).unwrap();
        account.give(&server.sockets());
        if server.setup.tls {
            server.make_certificate();
        }
        for _ in 0..10 {
            server.port = free_port();
            // Another process may have taken the port in the meantime.
            match server.try_start() {
                Ok(()) => return server,
                Err(log) if log.contains("ddress already in use") => {}
                Err(log) => panic!("{kind:?} did not start:\n{log}"),
            }
        }
        panic!("no free port for {kind:?}");
    }

    fn try_start(&mut self) -> Result<(), String> {
        let (command, signal) = match self.kind {
            Kind::Postgres => (postgres::serve(self), "QUIT"),
            Kind::Mariadb => (mariadb::serve(self), "KILL"),
        };
        let running = Running::start(&command, &self.folder, signal);
        let deadline = Instant::now() + START_DURATION_MAX;
        loop {
            let answers = match self.kind {
                Kind::Postgres => postgres::answers(self, running.pid()),
                Kind::Mariadb => mariadb::answers(self),
            };
            if answers {
                self.running = Some(running);
                return Ok(());
            }
            if running.is_gone() || Instant::now() > deadline {
                let log = std::fs::read_to_string(self.folder.join("log")).unwrap();
                std::fs::write(self.folder.join("log"), "").unwrap();
                running.kill();
                return Err(log);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(super) fn sockets(&self) -> PathBuf {
        self.folder.join("sockets")
    }

    /// Returns the path of the certificate (PEM) that a client must trust.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("certificate.pem")
    }

    pub(super) fn private_key(&self) -> PathBuf {
        self.folder.join("key.pem")
    }

    fn make_certificate(&self) {
        let made =
            rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        std::fs::write(self.certificate(), made.cert.pem()).unwrap();
        std::fs::write(self.private_key(), made.signing_key.serialize_pem()).unwrap();
        self.account.give(&self.private_key());
    }

    /// Returns the server's log since its start.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap()
    }

    /// Returns the URL of the database with this name, as `[store] url` takes it.
    pub fn url(&self, database: &str) -> String {
        let scheme = match self.kind {
            Kind::Postgres => "postgres",
            Kind::Mariadb => "mysql",
        };
        format!("{scheme}://{USER}:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// Creates an empty database and returns its URL.
    pub fn new_database(&self) -> String {
        self.new_database_with("")
    }

    /// Creates an empty database with `clause` at the end of `CREATE DATABASE`, and returns its URL.
    pub fn new_database_with(&self, clause: &str) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let url = self.url(&format!("test_{number}"));
        match self.kind {
            Kind::Postgres => {
                self.administer(&format!("CREATE DATABASE test_{number} OWNER {USER} {clause}"));
            }
            Kind::Mariadb => {
                self.administer(&format!("CREATE DATABASE test_{number} {clause}"));
            }
        }
        url
    }

    /// Executes statements as the server's administrator, outside the test's databases.
    pub fn administer(&self, sql: &str) -> String {
        let client = match self.kind {
            Kind::Postgres => postgres::client(self, "postgres", "admin"),
            Kind::Mariadb => mariadb::client(self, "mysql"),
        };
        run(client, sql).unwrap_or_else(|error| panic!("{sql}\n{error}"))
    }

    /// Executes statements in the database of a URL, with the command-line client of the server. Returns a line per
    /// row, with tabs between columns and `NULL` for null.
    pub fn sql(&self, url: &str, sql: &str) -> String {
        self.try_sql(url, sql).unwrap_or_else(|error| panic!("{sql}\n{error}"))
    }

    pub fn try_sql(&self, url: &str, sql: &str) -> Result<String, String> {
        let path = url.split('?').next().unwrap();
        let database = path.rsplit('/').next().unwrap();
        match self.kind {
            Kind::Postgres => run(postgres::client(self, database, USER), sql),
            Kind::Mariadb => run(mariadb::client(self, database), sql),
        }
    }

    /// Returns a dump of a database as statements, made by the backup tool of the server.
    pub fn dump(&self, url: &str) -> String {
        let database = url.rsplit('/').next().unwrap();
        let dump = match self.kind {
            Kind::Postgres => postgres::dump(self, database),
            Kind::Mariadb => mariadb::dump(self, database),
        };
        run(dump, "").unwrap()
    }

    pub fn pid(&self) -> i32 {
        self.running.as_ref().expect("the server runs").pid()
    }

    /// Kills all of the server's processes with SIGKILL. Writes that were not synced survive, because the machine
    /// keeps running.
    pub fn kill(&mut self) {
        self.running.take().expect("the server runs").kill();
    }

    /// Starts the server again, with the same port and data.
    pub fn start_again(&mut self) {
        assert!(self.running.is_none(), "the server runs already");
        self.try_start().unwrap_or_else(|log| panic!("{:?} did not start again:\n{log}", self.kind));
    }

    /// Starts the server again if its process has ended.
    pub fn start_again_if_gone(&mut self) {
        if self.running.as_ref().is_some_and(Running::is_gone) {
            self.kill();
            self.start_again();
        }
    }

    /// Stops the server's processes. It no longer answers, but its connections stay open.
    pub fn pause(&self) {
        self.running.as_ref().expect("the server runs").pause();
    }

    pub fn resume(&self) {
        self.running.as_ref().expect("the server runs").resume();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        match self.running.take() {
            // The watching shell also removes the folder.
            Some(running) => drop(running),
            None => drop(std::fs::remove_dir_all(&self.folder)),
        }
    }
}

/// Returns a port on which nobody listens. Processes and calls get different ports.
pub(super) fn free_port() -> u16 {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id() * 37 + CALLS.fetch_add(1, Ordering::Relaxed);
        let port = (PORTS.start + number % (PORTS.end - PORTS.start)) as u16;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
