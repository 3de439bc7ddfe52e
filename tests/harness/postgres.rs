//! A private PostgreSQL server. It uses Debian's programs, which are not in `PATH`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::process::{Account, run};
use super::servers::{Kind, PASSWORD, Server, Setup, USER};

pub struct Postgres;

impl Postgres {
    pub fn start() -> Server {
        Self::with(Setup::default())
    }

    pub fn with(setup: Setup) -> Server {
        Server::start(Kind::Postgres, setup)
    }

    /// Returns the server that the tests of this process share.
    pub fn shared() -> &'static Server {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }
}

/// Returns the path of a program of the newest installed version.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions
        .map(|entry| entry.path())
        .filter(|path| path.join("bin/postgres").exists())
        .max_by_key(|path| number(path))
        .expect("PostgreSQL is installed (Debian: apt-get install postgresql)");
    newest.join("bin").join(name)
}

pub(super) fn version() -> String {
    let mut command = Command::new(program("postgres"));
    command.arg("--version");
    run(command, "").unwrap()
}

/// Creates a cluster whose default collation is linguistic and not bytewise, as on many servers of users.
pub(super) fn make(account: Account, data: &Path) {
    std::fs::create_dir(data).unwrap();
    account.give(data);
    let mut initdb = account.command(&program("initdb"));
    initdb.arg("-D").arg(data).args(["--username=admin", "--auth-local=trust", "--auth-host=reject"]);
    initdb.args(["--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"]);
    initdb.args(["--no-sync", "--wal-segsize=1"]);
    run(initdb, "").unwrap();
    let mut single = account.command(&program("postgres"));
    single.args(["--single", "-j", "-c", "exit_on_error=true", "-D"]).arg(data).arg("postgres");
    run(single, &format!("CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}';\n\n")).unwrap();
}

pub(super) fn serve(server: &Server) -> Command {
    let access = server.folder.join("access.conf");
    let tcp = if server.setup.tls { "hostssl" } else { "host" };
    std::fs::write(&access, format!("local all all trust\n{tcp} all all 127.0.0.1/32 scram-sha-256\n"))
        .unwrap();
    let mut command = server.account.command(&program("postgres"));
    command.arg("-D").arg(server.data());
    let mut set = |name: &str, value: &str| {
        command.arg("-c").arg(format!("{name}={value}"));
    };
    set("listen_addresses", "127.0.0.1");
    set("port", &server.port.to_string());
    set("unix_socket_directories", &server.sockets().display().to_string());
    set("hba_file", &access.display().to_string());
    // Shared memory in files of the data folder, so that a kill leaves none in the system.
    set("dynamic_shared_memory_type", "mmap");
    set("shared_buffers", "32MB");
    set("max_connections", "200");
    // Not the test machine's zone, and its offset is not a whole number of hours.
    set("timezone", "Asia/Kathmandu");
    if !server.setup.sync {
        set("fsync", "off");
    }
    if server.setup.tls {
        set("ssl", "on");
        set("ssl_cert_file", &server.certificate().display().to_string());
        set("ssl_key_file", &server.private_key().display().to_string());
    }
    for (name, value) in &server.setup.settings {
        set(name, value);
    }
    command
}

/// Returns whether the server is ready. It writes that to `postmaster.pid`; a file that an earlier process left has
/// another process id.
pub(super) fn answers(server: &Server, pid: i32) -> bool {
    let note = std::fs::read_to_string(server.data().join("postmaster.pid")).unwrap_or_default();
    let lines: Vec<&str> = note.lines().map(str::trim).collect();
    lines.first() == Some(&pid.to_string().as_str()) && lines.get(7) == Some(&"ready")
}

/// Returns a `psql` command. Connections over the socket need no password, for any user.
pub(super) fn client(server: &Server, database: &str, user: &str) -> Command {
    let mut command = Command::new(program("psql"));
    command.env_clear().env("PGCLIENTENCODING", "UTF8");
    command.args(["-X", "-q", "-A", "-t", "-F", "\t", "-P", "null=NULL", "-v", "ON_ERROR_STOP=1"]);
    command.arg("-h").arg(server.sockets());
    command.args(["-p", &server.port.to_string(), "-U", user, "-d", database]);
    command
}

pub(super) fn dump(server: &Server, database: &str) -> Command {
    let mut command = Command::new(program("pg_dump"));
    command.arg("-h").arg(server.sockets()).args([
        "-p",
        &server.port.to_string(),
        "-U",
        USER,
        "-d",
        database,
    ]);
    command
}
