//! A private server for the tests in this folder. It is started once per test run, and stopped and removed at its
//! end.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Server, Session};
use crate::store::Password;

/// Starts the server and waits for the end of standard input, which is a pipe from the test process. So the server
/// stops however that process ends.
const WATCH: &str = r#"
programs=$1 folder=$2 as=
if [ "$(id -u)" = 0 ]; then
    as="setpriv --reuid=postgres --regid=postgres --clear-groups"
    chown postgres "$folder"
fi
cd "$folder"
$as "$programs/initdb" -D data --username=admin --auth=trust --encoding=UTF8 --locale=C.UTF-8 \
    --locale-provider=icu --icu-locale=en-US --no-sync >log 2>&1 </dev/null
$as "$programs/postgres" -D data -c listen_addresses= -c unix_socket_directories="$folder" -c fsync=off \
    -c timezone=Asia/Kathmandu >>log 2>&1 </dev/null &
until [ -S .s.PGSQL.5432 ] && "$programs/pg_isready" -q -h "$folder"; do
    kill -0 $! || { cat log; exit 1; }
    sleep 0.05
done
echo ready
exec >/dev/null 2>&1
read -r end
kill -QUIT $!
wait
rm -rf "$folder"
"#;

pub struct TestServer {
    folder: PathBuf,
    databases: AtomicU32,
    /// Keeps the pipe open.
    _watch: Child,
}

pub fn shared() -> &'static TestServer {
    static SHARED: OnceLock<TestServer> = OnceLock::new();
    SHARED.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder").keep();
        let programs = programs();
        let mut watch = Command::new("setsid")
            .args(["sh", "-c", WATCH, "watch"])
            .args([&programs, &folder])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut line = String::new();
        let mut lines = BufReader::new(watch.stdout.take().expect("is piped"));
        lines.read_line(&mut line).expect("a line");
        assert_eq!(line.trim(), "ready");
        TestServer { folder, databases: AtomicU32::new(0), _watch: watch }
    })
}

/// Returns the folder of the newest PostgreSQL. Debian installs each version in a folder outside the path.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let folders = versions.map(|entry| entry.path()).filter(|path| path.join("bin/postgres").exists());
    let newest = folders.max_by_key(|path| version(path));
    newest.expect("PostgreSQL is installed (Debian: apt-get install postgresql)").join("bin")
}

impl TestServer {
    pub fn url(&self, database: &str) -> String {
        format!("postgres://admin@/{database}?host={}", self.folder.display())
    }

    /// Returns the server with a new database.
    pub async fn server(&self) -> Server {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let server =
            Server::parse(&self.url(&format!("test_{number}")), &Password::default()).expect("a URL");
        server.preflight().await.expect("creates the database");
        server
    }

    pub async fn session(&self) -> Session {
        self.server().await.connect().await.expect("connects")
    }
}
