//! Tests of the proxy. A transaction that it cuts at the COMMIT is in the database or not, as the test chose.

use std::net::TcpStream;
use std::process::Command;

use crate::harness::cutting::{Moment, Proxy, Which};
use crate::harness::mariadb::Mariadb;
use crate::harness::postgres::Postgres;
use crate::harness::servers::{Kind, PASSWORD, Server, USER};

fn each(test: impl Fn(&Server)) {
    test(Postgres::shared());
    test(Mariadb::shared());
}

/// Adds a row through the proxy, in a transaction. Returns whether the client of the database reports success.
fn add(server: &Server, proxy: &Proxy, url: &str) -> bool {
    let mut command = match server.kind {
        Kind::Postgres => {
            let mut command = Command::new("psql");
            command.args(["-X", "-v", "ON_ERROR_STOP=1", "-d", &proxy.url(url)]);
            command.args(["-c", "BEGIN", "-c", "INSERT INTO t VALUES (1)", "-c", "COMMIT"]);
            command
        }
        Kind::Mariadb => {
            let mut command = Command::new("mariadb");
            command.args(["--no-defaults", "--protocol=tcp", "--host=127.0.0.1", "--skip-reconnect"]);
            command.args([&format!("--port={}", proxy.port), &format!("--user={USER}")]);
            command.args([&format!("--password={PASSWORD}"), "--batch"]);
            command.arg("--execute=BEGIN; INSERT INTO t VALUES (1); COMMIT");
            command.arg(url.rsplit('/').next().unwrap());
            command
        }
    };
    command.output().unwrap().status.success()
}

fn database(server: &Server) -> (Proxy, String) {
    let url = server.new_database();
    server.sql(&url, "CREATE TABLE t (a INT)");
    (Proxy::in_front_of(server), url)
}

fn rows(server: &Server, url: &str) -> u32 {
    server.sql(url, "SELECT count(*) FROM t").parse().unwrap()
}

#[test]
fn a_commit_whose_answer_is_cut_is_in_the_database() {
    each(|server| {
        let (proxy, url) = database(server);
        assert!(add(server, &proxy, &url));
        proxy.cut_commits(Moment::After, Which::Next(2));
        for expected in [2, 3] {
            assert!(!add(server, &proxy, &url));
            assert_eq!(rows(server, &url), expected);
        }
        assert!(add(server, &proxy, &url));
        assert_eq!((rows(server, &url), proxy.commits_seen(), proxy.commits_cut()), (4, 4, 2));
    });
}

#[test]
fn a_commit_that_is_cut_before_it_arrives_is_not_in_the_database() {
    each(|server| {
        let (proxy, url) = database(server);
        proxy.cut_commits(Moment::Before, Which::Every(3));
        let outcomes: Vec<bool> = (0..6).map(|_| add(server, &proxy, &url)).collect();
        assert_eq!(outcomes, [true, true, false, true, true, false]);
        assert_eq!((rows(server, &url), proxy.commits_seen(), proxy.commits_cut()), (4, 6, 2));
    });
}

#[test]
fn a_seed_cuts_the_same_commits_again() {
    let server = Mariadb::shared();
    let outcomes = |seed| {
        let (proxy, url) = database(server);
        proxy.cut_commits(Moment::After, Which::Drawn { seed, one_in: 2 });
        let outcomes: Vec<bool> = (0..12).map(|_| add(server, &proxy, &url)).collect();
        assert_eq!(rows(server, &url), 12);
        outcomes
    };
    let first = outcomes(7);
    assert!(first.contains(&true) && first.contains(&false), "{first:?}");
    assert_eq!(outcomes(7), first);
    assert_ne!(outcomes(8), first);
}

#[test]
fn the_proxy_refuses_stalls_and_cuts_connections() {
    each(|server| {
        let (proxy, url) = database(server);
        proxy.refuse();
        TcpStream::connect(("127.0.0.1", proxy.port)).unwrap_err();
        assert!(!add(server, &proxy, &url));
        proxy.stall();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| add(server, &proxy, &url));
            crate::harness::wait_for("a connection", || proxy.open_connections() == 1);
            assert!(!waiting.is_finished());
            proxy.cut();
            assert!(!waiting.join().unwrap());
            let second = scope.spawn(|| add(server, &proxy, &url));
            crate::harness::wait_for("a connection", || proxy.open_connections() == 1);
            proxy.pass();
            assert!(second.join().unwrap());
        });
        assert_eq!(rows(server, &url), 1);
    });
}
