//! Private database servers for tests: a folder of their own below the temporary one, a port and a socket
//! that nobody else has. Never one that runs already. A server is started once for all tests of a process
//! (`Postgres::shared()`), each test in a database of its own; one that is to be stopped, paused or set up
//! in another way is started by the test itself (`Postgres::start()`).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::process::{Account, Running, copy_made_once, open_to_pass, run};
use super::{mariadb, postgres};

const START_DURATION_MAX: Duration = Duration::from_secs(30);
/// Below the ports that clients are given, one of which could be in the way when a server starts again.
const PORTS: std::ops::Range<u32> = 20_000..32_000;

/// The account in the database that millrace is given: owner of its database, and of nothing else.
pub const USER: &str = "millrace";
pub const PASSWORD: &str = "secret";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    Mariadb,
}

/// How a server is started.
#[derive(Clone)]
pub struct Setup {
    /// Whether a commit waits for the disk.
    pub sync: bool,
    /// Over TCP only with TLS, with a certificate for `localhost` and `127.0.0.1`: `Server::certificate`.
    pub tls: bool,
    /// Settings by name, as the server's documentation has them.
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
        open_to_pass(&folder);
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
        copy_made_once(&made, make, &server.data());
        std::fs::create_dir(server.sockets()).unwrap();
        account.give(&server.sockets());
        if server.setup.tls {
            server.make_certificate();
        }
        for _ in 0..10 {
            server.port = free_port();
            // Somebody may be on the port by now.
            match server.try_start() {
                Ok(()) => return server,
                Err(log) if log.contains("ddress already in use") => {}
                Err(log) => panic!("{kind:?} did not start:\n{log}"),
            }
        }
        panic!("{kind:?} found no free port");
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

    /// The certificate that a client is to trust, as a file in PEM.
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

    /// What the server has said since it started.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap()
    }

    /// A database of this name, as `[store] url` has it.
    pub fn url(&self, database: &str) -> String {
        let scheme = match self.kind {
            Kind::Postgres => "postgres",
            Kind::Mariadb => "mysql",
        };
        format!("{scheme}://{USER}:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// A database that nobody has used before: its url.
    pub fn new_database(&self) -> String {
        self.new_database_with("")
    }

    /// The same, with what may stand at the end of the server's `CREATE DATABASE`.
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

    /// Carries out statements as the server's administrator, in no database of ours.
    pub fn administer(&self, sql: &str) -> String {
        let client = match self.kind {
            Kind::Postgres => postgres::client(self, "postgres", "admin"),
            Kind::Mariadb => mariadb::client(self, "mysql"),
        };
        run(client, sql).unwrap_or_else(|error| panic!("{sql}\n{error}"))
    }

    /// Carries out statements in the database of a url, as its owner and by the server's own client: rows as
    /// lines, columns with tabs between them, `NULL` where nothing is.
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

    /// All of a database as statements, by the server's own tool for backups.
    pub fn dump(&self, url: &str) -> String {
        let database = url.rsplit('/').next().unwrap();
        let dump = match self.kind {
            Kind::Postgres => postgres::dump(self, database),
            Kind::Mariadb => mariadb::dump(self, database),
        };
        run(dump, "").unwrap()
    }

    pub fn pid(&self) -> i32 {
        self.running.as_ref().expect("it runs").pid()
    }

    /// kill -9, of all the server's processes. What it had not synced is gone only if the machine goes too.
    pub fn stop_hard(&mut self) {
        self.running.take().expect("it runs").kill();
    }

    /// On the same port, with the same data.
    pub fn start_again(&mut self) {
        assert!(self.running.is_none(), "it runs already");
        self.try_start().unwrap_or_else(|log| panic!("{:?} did not start again:\n{log}", self.kind));
    }

    /// Starts it where it has ended by itself.
    pub fn start_again_if_gone(&mut self) {
        if self.running.as_ref().is_some_and(Running::is_gone) {
            self.stop_hard();
            self.start_again();
        }
    }

    /// The server stops answering, with every connection open.
    pub fn pause(&self) {
        self.running.as_ref().expect("it runs").pause();
    }

    pub fn resume(&self) {
        self.running.as_ref().expect("it runs").resume();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        match self.running.take() {
            // Who watches it removes the folder as well.
            Some(running) => drop(running),
            None => drop(std::fs::remove_dir_all(&self.folder)),
        }
    }
}

/// A port that nobody listens on, another in each process and at each call.
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
