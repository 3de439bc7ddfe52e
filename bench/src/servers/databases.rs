//! Database servers from Debian with their default settings, so that a commit is on the disk. The benchmarks start
//! them, and never use a server that runs already.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Folder, Process, free_port, wait_for};
use crate::{Outcome, clients};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    Mariadb,
}

pub struct Server {
    kind: Kind,
    process: Process,
    folder: Folder,
    port: u16,
    databases: AtomicU32,
}

const POSTGRES_USER: &str = "postgres";

impl Server {
    pub fn start(kind: Kind, above: &Path) -> Outcome<Self> {
        let folder = Folder::new(above, "database")?;
        let (data, port) = (folder.path().join("data"), free_port()?);
        let process = match kind {
            Kind::Postgres => postgres(&folder, &data, port)?,
            Kind::Mariadb => mariadb(&folder, &data, port)?,
        };
        let server = Self { kind, process, folder, port, databases: AtomicU32::new(0) };
        wait_for("a database server", || Ok(server.administer("SELECT 1").is_ok()))?;
        Ok(server)
    }

    fn url(&self, database: &str) -> String {
        match self.kind {
            Kind::Postgres => format!("postgres://{POSTGRES_USER}@127.0.0.1:{}/{database}", self.port),
            Kind::Mariadb => format!("mysql://bench@127.0.0.1:{}/{database}", self.port),
        }
    }

    /// Creates an empty database and returns its URL.
    pub fn new_database(&self) -> Outcome<String> {
        let name = format!("bench_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.administer(&format!("CREATE DATABASE {name}"))?;
        Ok(self.url(&name))
    }

    /// Drops a database. A checkpoint makes sure that the next round does not write this round's pages to the disk.
    pub fn drop_database(&self, url: &str) -> Outcome<()> {
        let name = url.rsplit('/').next().unwrap_or_default();
        let force = if self.kind == Kind::Postgres { " WITH (FORCE)" } else { "" };
        self.administer(&format!("DROP DATABASE {name}{force}"))?;
        match self.kind {
            Kind::Postgres => self.administer("CHECKPOINT"),
            Kind::Mariadb => Ok(()),
        }
    }

    fn administer(&self, sql: &str) -> Outcome<()> {
        match self.kind {
            Kind::Postgres => clients::postgres::administer(&self.url("postgres"), sql),
            Kind::Mariadb => clients::mariadb::administer(&self.url("mysql"), sql),
        }
    }

    /// Runs psql with these commands and waits for it.
    pub fn psql(&self, url: &str, commands: &str) -> Outcome<()> {
        let file = self.folder.path().join("commands.sql");
        std::fs::write(&file, commands)?;
        let mut process = Process::start(&postgres_program("psql")?, |command| {
            command
                .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url, "-f"])
                .arg(&file)
                .stdout(Stdio::null());
        })?;
        process.wait()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A fast and clean stop for either server, which leaves nothing in shared memory.
        let signal = if self.kind == Kind::Postgres { "-INT" } else { "-TERM" };
        drop(self.process.end(signal));
    }
}

/// Returns the path of a program of the newest installed version; Debian does not put them in `PATH`.
fn postgres_program(name: &str) -> Outcome<PathBuf> {
    const MISSING: &str = "PostgreSQL is not installed: apt-get install postgresql";
    let versions = std::fs::read_dir("/usr/lib/postgresql").map_err(|_| MISSING)?;
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("bin/postgres").exists())
        .max_by_key(|path| number(path));
    Ok(newest.ok_or(MISSING)?.join("bin").join(name))
}

/// Starts PostgreSQL. It refuses to run as root, so root starts it as the user `postgres`.
fn postgres(folder: &Folder, data: &Path, port: u16) -> Outcome<Process> {
    let id = Command::new("id").arg("-u").output()?.stdout;
    let user = (id.trim_ascii() == b"0").then_some(POSTGRES_USER);
    if let Some(user) = user {
        let status = Command::new("chown").arg(user).arg(folder.path()).status()?;
        if !status.success() {
            return Err("cannot change the owner of the database folder to `postgres`".into());
        }
    }
    Process::start_as(user, &postgres_program("initdb")?, |command| {
        command
            .args(["--username", POSTGRES_USER, "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "-D"])
            .arg(data)
            .stdout(Stdio::null());
    })?
    .wait()?;
    let log = std::fs::File::create(folder.path().join("log"))?;
    Process::start_as(user, &postgres_program("postgres")?, |command| {
        command
            .arg("-D")
            .arg(data)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "unix_socket_directories=", "-c", "dynamic_shared_memory_type=mmap"])
            .stderr(log);
    })
}

fn mariadb(folder: &Folder, data: &Path, port: u16) -> Outcome<Process> {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let whoami = Command::new("id").arg("-un").output()?.stdout;
    let user = format!("--user={}", String::from_utf8_lossy(&whoami).trim());
    Process::start(Path::new("/usr/bin/mariadb-install-db"), |command| {
        command
            .env("PATH", path)
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", &user])
            .arg(format!("--datadir={}", data.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
    })?
    .wait()?;
    let first = folder.path().join("first.sql");
    std::fs::write(&first, "CREATE USER bench@'%';\nGRANT ALL ON *.* TO bench@'%';\n")?;
    let log = std::fs::File::create(folder.path().join("log"))?;
    Process::start(Path::new("/usr/sbin/mariadbd"), |command| {
        command
            .env("PATH", path)
            .args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve", &user])
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--init-file={}", first.display()))
            .arg(format!("--socket={}", folder.path().join("socket").display()))
            .arg(format!("--port={port}"))
            .stderr(log);
    })
}
