//! Tests of the servers that tests start. They are private, they end with the test however it ends, and they keep
//! their data over a kill.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::mariadb::Mariadb;
use crate::harness::postgres::Postgres;
use crate::harness::process::state;
use crate::harness::servers::{Kind, PASSWORD, Server, Setup, USER};
use crate::harness::wait_for;

fn each(test: impl Fn(fn(Setup) -> Server)) {
    test(Postgres::with);
    test(Mariadb::with);
}

#[test]
fn two_servers_share_nothing_and_neither_do_two_databases() {
    each(|with| {
        let (one, two) = (with(Setup::default()), with(Setup::default()));
        assert_ne!(one.port, two.port);
        let (one_first, two_first, one_second) = (one.new_database(), two.new_database(), one.new_database());
        one.sql(&one_first, "CREATE TABLE t (a INT); INSERT INTO t VALUES (1), (NULL)");
        assert_eq!(one.sql(&one_first, "SELECT a, 'x' FROM t ORDER BY a IS NULL"), "1\tx\nNULL\tx");
        two.try_sql(&two_first, "SELECT a FROM t").unwrap_err();
        one.try_sql(&one_second, "SELECT a FROM t").unwrap_err();
    });
}

#[test]
fn committed_rows_survive_a_kill() {
    each(|with| {
        let mut server = with(Setup::default());
        let url = server.new_database();
        server.sql(&url, "CREATE TABLE t (a INT)");
        for round in 1..=3 {
            server.sql(&url, "INSERT INTO t VALUES (1)");
            let pid = server.pid();
            server.kill();
            assert_eq!(state(pid), None);
            server.try_sql(&url, "SELECT 1").unwrap_err();
            server.start_again();
            assert_eq!(server.sql(&url, "SELECT count(*) FROM t"), round.to_string());
        }
    });
}

#[test]
fn a_paused_server_answers_once_it_is_resumed() {
    each(|with| {
        let server = with(Setup { sync: false, ..Setup::default() });
        let url = server.new_database();
        server.pause();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| server.sql(&url, "SELECT 1"));
            wait_for("the server to be stopped", || state(server.pid()).unwrap().0 == 'T');
            assert!(!waiting.is_finished());
            server.resume();
            assert_eq!(waiting.join().unwrap(), "1");
        });
    });
}

#[test]
fn a_dropped_server_leaves_nothing() {
    each(|with| {
        for paused in [false, true] {
            let server = with(Setup::default());
            let (pid, folder) = (server.pid(), server.folder.clone());
            if paused {
                server.pause();
            }
            assert!(state(pid).is_some() && folder.exists());
            drop(server);
            assert!(state(pid).is_none() && !folder.exists());
        }
    });
}

/// This test runs itself in a second process, which starts servers and is killed.
#[test]
fn a_killed_test_leaves_nothing() {
    const VICTIM: &str = "MILLRACE_TEST_VICTIM";
    if std::env::var_os(VICTIM).is_some() {
        let servers = [Postgres::start(), Mariadb::start()];
        for server in &servers {
            println!("\nserver {} {}", server.pid(), server.folder.display());
        }
        // Wait to be killed.
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        return;
    }
    let name = std::thread::current().name().unwrap().to_owned();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args([&name, "--exact", "--nocapture"])
        .env(VICTIM, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let server = |line: String| {
        let (pid, folder) = line.strip_prefix("server ")?.split_once(' ')?;
        Some((pid.parse().unwrap(), PathBuf::from(folder)))
    };
    let servers: Vec<(i32, PathBuf)> = lines.map_while(Result::ok).filter_map(server).take(2).collect();
    assert!(servers.iter().all(|(pid, folder)| state(*pid).is_some() && folder.exists()));
    assert_eq!(servers.len(), 2);
    victim.kill().unwrap();
    victim.wait().unwrap();
    wait_for("the servers to end", || {
        servers.iter().all(|(pid, folder)| state(*pid).is_none() && !folder.exists())
    });
}

/// Connects over TCP with the client of the database, as millrace's user.
fn connect(server: &Server, trusted: Option<&Path>) -> std::process::Output {
    let database = server.new_database();
    let mut command = match server.kind {
        Kind::Postgres => {
            let mut command = Command::new("psql");
            let tls = match trusted {
                Some(path) => format!("?sslmode=verify-full&sslrootcert={}", path.display()),
                None => "?sslmode=disable".to_owned(),
            };
            command.args(["-X", "-A", "-t", "-c", "SELECT current_user"]).arg(format!("{database}{tls}"));
            command
        }
        Kind::Mariadb => {
            let mut command = Command::new("mariadb");
            command.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--batch"]);
            command.args(["--skip-column-names", "--execute=SELECT substring_index(user(), '@', 1)"]);
            command.args([&format!("--port={}", server.port), &format!("--user={USER}")]);
            command.arg(format!("--password={PASSWORD}"));
            match trusted {
                Some(path) => {
                    command.args(["--ssl-verify-server-cert", &format!("--ssl-ca={}", path.display())])
                }
                None => command.arg("--skip-ssl"),
            };
            command
        }
    };
    command.output().unwrap()
}

#[test]
fn a_server_with_tls_refuses_clients_without_it() {
    each(|with| {
        let server = with(Setup { tls: true, ..Setup::default() });
        let with_tls = connect(&server, Some(&server.certificate()));
        assert_eq!(String::from_utf8_lossy(&with_tls.stdout).trim(), USER, "{with_tls:?}");
        assert!(!connect(&server, None).status.success());
        let plain = with(Setup::default());
        let open = connect(&plain, None);
        assert_eq!(String::from_utf8_lossy(&open.stdout).trim(), USER, "{open:?}");
    });
}

#[test]
fn settings_reach_the_server() {
    let postgres = Postgres::with(Setup::default().setting("lock_timeout", "1234ms"));
    assert_eq!(postgres.administer("SHOW lock_timeout"), "1234ms");
    let mariadb = Mariadb::with(Setup::default().setting("max-allowed-packet", "1048576"));
    assert_eq!(mariadb.administer("SELECT @@max_allowed_packet"), "1048576");
}
