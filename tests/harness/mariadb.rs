//! A private MariaDB server with its built-in defaults, without the machine's configuration. Text in a new table
//! is `latin1` with a Swedish collation unless the `CREATE TABLE` says otherwise.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::process::{Account, run};
use super::servers::{Kind, PASSWORD, Server, Setup, USER};

pub struct Mariadb;

impl Mariadb {
    pub fn start() -> Server {
        Self::with(Setup::default())
    }

    pub fn with(setup: Setup) -> Server {
        Server::start(Kind::Mariadb, setup)
    }

    /// Returns the server that the tests of this process share.
    pub fn shared() -> &'static Server {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }
}

/// Finds a program in `PATH` or in `/usr/sbin`, where Debian installs the server.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|folder| folder.join(name)).find(|program| program.exists());
    found.expect("MariaDB is installed (Debian: apt-get install mariadb-server)")
}

pub(super) fn version() -> String {
    let mut command = Command::new(program("mariadbd"));
    command.args(["--no-defaults", "--version"]);
    run(command, "").unwrap()
}

pub(super) fn make(account: Account, data: &Path) {
    std::fs::create_dir(data).unwrap();
    account.give(data);
    let mut install = account.command(&program("mariadb-install-db"));
    install.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
    install.args(["--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"]);
    install.args(["--innodb-log-file-size=16M", "--innodb-flush-method=nosync"]);
    run(install, "").unwrap();
}

pub(super) fn serve(server: &Server) -> Command {
    // Only a running server can create users, so it does that at each start.
    let first = server.folder.join("first.sql");
    let sql = format!(
        "CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';\n\
         GRANT ALL ON `test\\_%`.* TO '{USER}'@'%';\n"
    );
    std::fs::write(&first, sql).unwrap();
    let mut command = server.account.command(&program("mariadbd"));
    command.arg("--no-defaults");
    let mut set = |name: &str, value: &str| {
        command.arg(format!("--{name}={value}"));
    };
    set("datadir", &server.data().display().to_string());
    set("bind-address", "127.0.0.1");
    set("port", &server.port.to_string());
    set("socket", &socket(server).display().to_string());
    set("init-file", &first.display().to_string());
    set("skip-name-resolve", "ON");
    set("innodb-log-file-size", "16M");
    set("innodb-buffer-pool-size", "64M");
    set("max-connections", "200");
    // Not the test machine's zone, and its offset is not a whole number of hours.
    set("default-time-zone", "+05:45");
    if !server.setup.sync {
        set("innodb-flush-method", "nosync");
    }
    if server.setup.tls {
        set("ssl-cert", &server.certificate().display().to_string());
        set("ssl-key", &server.private_key().display().to_string());
        set("require-secure-transport", "ON");
    }
    for (name, value) in &server.setup.settings {
        set(name, value);
    }
    command
}

fn socket(server: &Server) -> PathBuf {
    server.sockets().join("socket")
}

/// Returns whether the server is ready: only then does it send its greeting to a new connection.
pub(super) fn answers(server: &Server) -> bool {
    let Ok(mut stream) = UnixStream::connect(socket(server)) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    stream.read(&mut [0; 64]).is_ok_and(|bytes| bytes > 0)
}

pub(super) fn client(server: &Server, database: &str) -> Command {
    let mut command = Command::new(program("mariadb"));
    command.args(["--no-defaults", "--batch", "--raw", "--skip-column-names", "--skip-reconnect"]);
    command.args(["--default-character-set=utf8mb4", "--user=root"]);
    command.arg(format!("--socket={}", socket(server).display())).arg(database);
    command
}

pub(super) fn dump(server: &Server, database: &str) -> Command {
    let mut command = Command::new(program("mariadb-dump"));
    command.args(["--no-defaults", "--single-transaction", "--hex-blob", "--user=root"]);
    command.arg(format!("--socket={}", socket(server).display())).arg(database);
    command
}
