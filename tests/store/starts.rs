//! Starts of millrace with a database server: the settings that name the database, the source of the password, and a
//! database that is not yet reachable.

use std::process::{Command, Stdio};

use millrace::config::{Config, Overrides};
use millrace::server::inspect_store;

use crate::harness::cutting::Proxy;
use crate::harness::mariadb::Mariadb;
use crate::harness::postgres::Postgres;
use crate::harness::servers::{Kind, PASSWORD, Server, USER};
use crate::harness::{Start, StoreKind, TestApp, wait_for};

fn each(test: impl Fn(&'static Server)) {
    test(Postgres::shared());
    test(Mariadb::shared());
}

/// Starts millrace. Only the arguments name the store.
fn start(environment: &[(&str, &str)], config: &str, dotenv: &str) -> Result<TestApp, String> {
    let start = Start {
        config: Some(config.to_owned()),
        arguments: ["--listen", "localhost:0"].map(str::to_owned).to_vec(),
        environment: environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        dotenv: Some(dotenv.to_owned()),
        store_kind: Some(StoreKind::Sqlite),
        ..Start::default()
    };
    TestApp::try_with(start, std::sync::Arc::new(tempfile::tempdir().unwrap()))
}

fn store_of(app: &TestApp) -> String {
    app.log_line("store is open").unwrap()["store"].as_str().unwrap().to_owned()
}

fn without_password(url: &str) -> String {
    let (with, without) = (format!(":{PASSWORD}@"), "@");
    assert!(url.contains(&with), "{url}");
    url.replace(&with, without)
}

/// Returns the name under which millrace logs a store.
fn name_of(url: &str) -> String {
    without_password(url).replace(&format!("{USER}@"), "")
}

#[test]
fn a_start_says_which_database_does_not_answer_and_never_its_password() {
    each(|server| {
        let proxy = Proxy::in_front_of(server);
        let url = proxy.url(&server.new_database());
        proxy.refuse();
        let app = start(&[("MILLRACE_STORE", &url)], "", "").unwrap();
        let message = "the database does not answer; the server starts without it and accepts events";
        let line = app.log_line(message).unwrap();
        assert_eq!((&line["level"], &line["store"]), (&"WARN".into(), &name_of(&url).into()));
        proxy.pass();
        wait_for("the database to be used", || app.log_line("store is open").is_some());
        assert_eq!(store_of(&app), name_of(&url));
        assert!(!app.log_text().contains(PASSWORD));
    });
}

#[test]
fn a_start_that_waits_for_its_database_can_be_stopped() {
    each(|server| {
        let proxy = Proxy::in_front_of(server);
        let url = proxy.url(&server.new_database());
        proxy.stall();
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_millrace"))
            .current_dir(folder.path())
            .env_clear()
            .args(["serve", "--listen", "localhost:0", "--store", &url])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("an attempt", || proxy.open_connections() == 1);
        assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
        wait_for("the process to end", || child.try_wait().unwrap().is_some());
        assert_eq!(child.wait().unwrap().code(), Some(0));
    });
}

#[test]
fn a_password_comes_from_the_environment_or_a_file_and_is_never_logged() {
    each(|server| {
        let full = server.new_database();
        let url = without_password(&full);
        let app = start(&[("MILLRACE_STORE", &url), ("MILLRACE_STORE_PASSWORD", PASSWORD)], "", "").unwrap();
        assert_eq!(store_of(&app), name_of(&full));
        assert!(!app.log_text().contains(PASSWORD));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();
        // The URL has a wrong password and the file the right one.
        let full = server.new_database();
        let wrong = full.replace(&format!(":{PASSWORD}@"), ":of-yesterday@");
        let config = format!("[store]\nurl = \"{wrong}\"\npassword_file = \"{}\"\n", file.display());
        let app = start(&[], &config, "").unwrap();
        assert_eq!(store_of(&app), name_of(&full));
        let given = [("MILLRACE_STORE_PASSWORD", "of-yesterday")];
        let log = start(&given, &config, "").err().unwrap();
        let errors = log.lines().filter(|line| line.contains("\"ERROR\"") || !line.starts_with('{'));
        assert_eq!(errors.count(), 1, "{log}");
        assert!(
            log.contains("password") && !log.contains("of-yesterday") && !log.contains(PASSWORD),
            "{log}"
        );
    });
}

/// Creates an account, and returns a URL with it but without its password.
pub fn account(server: &Server, name: &str, password: &str) -> String {
    let url = server.new_database();
    let database = url.rsplit('/').next().unwrap();
    match server.kind {
        Kind::Postgres => {
            server.administer(&format!("CREATE ROLE {name} LOGIN PASSWORD '{password}'"));
            server.sql(&url, &format!("GRANT USAGE, CREATE ON SCHEMA public TO {name}"));
        }
        Kind::Mariadb => {
            let sql =
                format!("CREATE USER {name} IDENTIFIED BY '{password}'; GRANT ALL ON {database}.* TO {name}");
            server.administer(&sql);
        }
    }
    url.replace(&format!("{USER}:{PASSWORD}@"), &format!("{name}@"))
}

/// Puts the password into a URL that `account` returned.
pub fn with_password(url: &str, name: &str, password: &str) -> String {
    url.replace(&format!("{name}@"), &format!("{name}:{password}@"))
}

fn change_password(server: &Server, name: &str, password: &str) {
    match server.kind {
        Kind::Postgres => server.administer(&format!("ALTER ROLE {name} PASSWORD '{password}'")),
        Kind::Mariadb => server.administer(&format!("ALTER USER {name} IDENTIFIED BY '{password}'")),
    };
}

#[test]
fn a_changed_password_is_read_again_without_a_restart() {
    each(|server| {
        let proxy = Proxy::in_front_of(server);
        let url = proxy.url(&account(server, "rotating", "first-word"));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "first-word\n").unwrap();
        let config = format!("[store]\nurl = \"{url}\"\npassword_file = \"{}\"\n", file.display());
        let app = start(&[], &config, "").unwrap();
        let sell = || {
            let body = r#"{"userId":"a","name":"add_revenue","value":5}"#;
            assert_eq!(app.client().post("/liveEvent", body).status, 200);
        };
        sell();
        app.settle();

        // The server refuses the old password at the next connection, and millrace reads the new one from the file.
        change_password(server, "rotating", "second-word");
        std::fs::write(&file, "second-word\n").unwrap();
        proxy.cut();
        sell();
        app.settle();
        wait_for("the log line", || app.log_line("the store's password has changed").is_some());

        // The view is paused until the new password is in the file. Its reason says whose login was refused.
        change_password(server, "rotating", "third-word");
        proxy.cut();
        sell();
        wait_for("the view to say why it waits", || {
            let paused = app.view("revenue")["reason"].to_string();
            paused.contains("refuses the login of user `rotating`") && paused.contains("password_file")
        });
        std::fs::write(&file, "third-word\n").unwrap();
        app.signal("-HUP");
        wait_for("the file to be read", || {
            app.log_line("SIGHUP: reading certificate and password file again").is_some()
        });
        app.settle();
        assert_eq!(app.balance("a").as_deref(), Some("15"));
        for secret in ["first-word", "second-word", "third-word"] {
            assert!(!app.log_text().contains(secret), "{}", app.log_text());
        }
    });
}

#[test]
fn a_refused_login_names_the_setting_that_gave_the_password() {
    each(|server| {
        let url = server.new_database();
        let wrong = url.replace(&format!(":{PASSWORD}@"), ":of-yesterday@");
        let none = without_password(&url);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "of-yesterday").unwrap();
        let in_file = format!("[store]\nurl = \"{none}\"\npassword_file = \"{}\"\n", file.display());
        let in_url = format!("[store]\nurl = \"{wrong}\"\n");
        let (place, database) = wrong.rsplit_once('/').unwrap();
        let (host, port) = ("127.0.0.1", server.port);
        let (original, variable) = match server.kind {
            Kind::Postgres => (format!("DB_URL={place}\nDATABASE={database}\n"), "`DB_URL`"),
            Kind::Mariadb => (
                format!(
                    "MYSQL_HOST={host}\nMYSQL_PORT={port}\nMYSQL_USER={USER}\nMYSQL_PASSWORD=of-yesterday\nMYSQL_DATABASE={database}\n"
                ),
                "`MYSQL_PASSWORD`",
            ),
        };
        let store = [("MILLRACE_STORE", wrong.as_str())];
        let given = [("MILLRACE_STORE", none.as_str()), ("MILLRACE_STORE_PASSWORD", "of-yesterday")];
        for (environment, config, dotenv, named) in [
            (&[][..], in_file.as_str(), "", "`password_file`"),
            (&[], &in_url, "", "`[store] url`"),
            (&store, "", "", "`MILLRACE_STORE`"),
            (&given, "", "", "`MILLRACE_STORE_PASSWORD`"),
            (&[], "", &original, variable),
        ] {
            let log = start(environment, config, dotenv).err().expect("refused");
            assert!(log.contains("refuses the login") && log.contains(named), "{named}: {log}");
            assert!(!log.contains("of-yesterday"), "{log}");
        }
    });
}

#[test]
fn settings_of_the_replaced_services_name_the_store_unless_a_millrace_setting_does() {
    each(|server| {
        let url = server.new_database();
        let (place, database) = url.rsplit_once('/').unwrap();
        let dotenv = match server.kind {
            Kind::Postgres => format!("DB_URL={place}\nDATABASE={database}\n"),
            Kind::Mariadb => format!(
                "MYSQL_HOST=127.0.0.1\nMYSQL_PORT={}\nMYSQL_USER={USER}\nMYSQL_PASSWORD={PASSWORD}\nMYSQL_DATABASE={database}\n",
                server.port
            ),
        };
        let app = start(&[], "", &dotenv).unwrap();
        assert_eq!(store_of(&app), name_of(&url));
        for line in dotenv.lines() {
            let name = line.split_once('=').unwrap().0;
            assert!(app.log_text().contains(&format!("\"variable\":\"{name}\"")), "{name}");
        }
        let body = r#"{"userId":"a","name":"add_revenue","value":5}"#;
        assert_eq!(app.client().post("/liveEvent", body).status, 200);
        app.settle();
        assert_eq!(
            server.sql(&url, "SELECT user_id, revenue FROM users_revenue").split('.').next(),
            Some("a\t5")
        );
        assert!(!app.log_text().contains(PASSWORD));
        for (environment, config) in [
            (vec![("MILLRACE_STORE", "sqlite:other.db")], ""),
            (Vec::new(), "[store]\nurl = \"sqlite:other.db\"\n"),
        ] {
            let app = start(&environment, config, &dotenv).unwrap();
            assert!(store_of(&app).contains("other.db"), "{}", store_of(&app));
            assert!(!app.log_text().contains("setting of a replaced service is used"));
        }
    });
}

/// Returns the `GRANT` lines of docs/OPERATING.md, with names for this test.
fn minimal_grants(kind: Kind, database: &str, account: &str) -> Vec<String> {
    let lines = include_str!("../../docs/OPERATING.md").lines().map(str::trim);
    let grants = lines.filter(|line| line.starts_with("GRANT"));
    let of_kind = |line: &&str| line.contains("ON SCHEMA") == (kind == Kind::Postgres);
    let named = |line: &str| line.replace("events", database).replace("millrace", account);
    let grants: Vec<String> = grants.filter(of_kind).map(named).collect();
    assert_eq!(grants.len(), 1, "{grants:?}");
    grants
}

#[test]
fn the_privileges_that_the_manual_names_are_enough() {
    each(|server| {
        let url = server.new_database();
        let database = url.rsplit('/').next().unwrap();
        let grants = minimal_grants(server.kind, database, "least").join("\n");
        match server.kind {
            Kind::Postgres => {
                server.administer("CREATE ROLE least LOGIN PASSWORD 'least'");
                server.sql(&url, &grants);
            }
            Kind::Mariadb => {
                server.administer(&format!("CREATE USER least IDENTIFIED BY 'least'; {grants}"));
            }
        }
        let url = url.replace(&format!("{USER}:{PASSWORD}@"), "least:least@");
        let app = start(&[("MILLRACE_STORE", &url)], "", "").unwrap();
        for (path, body) in [
            ("/liveEvent", r#"{"userId":"a","name":"add_revenue","value":5}"#),
            (
                "/event",
                r#"{"site_id":"s","event_type":"page_view","path":"/","user_id":"u","timestamp":"2025-11-01T10:00:00Z"}"#,
            ),
            (
                "/events/ingest",
                r#"{"eventType":"user_signup","timestamp":"2023-10-27T10:00:00Z","payload":{"userId":"u","email":"a@b.example","username":"anna"}}"#,
            ),
        ] {
            let answer = app.client().post(path, body);
            assert!(answer.status < 300, "{path}: {} {}", answer.status, answer.text());
        }
        app.settle();
        assert_eq!(app.balance("a").as_deref(), Some("5"));
        for view in ["revenue", "site_events", "site_stats"] {
            let output = app.command(&["view", "rebuild", view]);
            assert!(output.status.success(), "{view}: {}", String::from_utf8_lossy(&output.stderr));
        }
    });
}

#[test]
fn an_inspection_of_a_store_names_all_faults_and_creates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let inspected = |url: &str| {
        let file = folder.path().join("m.toml");
        std::fs::write(&file, format!("presets = [\"revenue\", \"analytics\"]\n[store]\nurl = \"{url}\"\n"))
            .unwrap();
        let config = Config::load(Some(&file), &Overrides::default()).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(inspect_store(&config, folder.path()))
    };
    let found_in = |url: &str| inspected(url).unwrap();
    each(|server| {
        let url = server.new_database();
        let amount = match server.kind {
            Kind::Postgres => "NUMERIC",
            Kind::Mariadb => "DECIMAL(38,4)",
        };
        let revenue = format!("CREATE TABLE users_revenue (user_id CHAR(9), revenue {amount})");
        server.sql(&url, &format!("{revenue}; CREATE TABLE events (id INT, path INT)"));
        let found = found_in(&url);
        assert!(found.exists && found.name == name_of(&url), "{found:?}");
        let of = |view: &str| {
            found.faults.iter().filter(|(of, _)| of == view).map(|(_, fault)| fault).collect::<Vec<_>>()
        };
        assert_eq!(of("revenue").len(), 1, "{found:?}");
        assert_eq!(of("site_stats").len(), 0, "tables that do not exist are created later: {found:?}");
        let [rows] = of("site_events")[..] else { panic!("{found:?}") };
        assert!(rows.problems.len() >= 5, "{rows}");
        for (_, fault) in &found.faults {
            server.sql(&url, &fault.repair.join("; "));
        }
        assert_eq!(found_in(&url).faults, []);
        let tables = "SELECT count(*) FROM information_schema.tables WHERE table_name LIKE 'millrace%' AND table_schema NOT LIKE 'pg_%'";
        let here = match server.kind {
            Kind::Postgres => "",
            Kind::Mariadb => " AND table_schema = database()",
        };
        assert_eq!(server.sql(&url, &format!("{tables}{here}")).trim(), "0");
        let (server_url, _) = url.rsplit_once('/').unwrap();
        match (server.kind, inspected(&format!("{server_url}/not_there"))) {
            (Kind::Postgres, Ok(none)) => assert!(!none.exists && none.faults.is_empty(), "{none:?}"),
            // MariaDB does not say whether a database exists that the user may not use.
            (Kind::Mariadb, Err(error)) => assert!(error.to_string().contains("CREATE DATABASE"), "{error}"),
            (kind, other) => panic!("{kind:?}: {other:?}"),
        }
    });
    // A file that does not exist is not created, and no other file appears beside an existing one.
    let entries = || std::fs::read_dir(folder.path()).unwrap().count();
    let before = entries();
    assert!(!found_in("sqlite:").exists);
    let file = folder.path().join("millrace.db");
    rusqlite::Connection::open(&file)
        .unwrap()
        .execute_batch("CREATE TABLE users_revenue (user_id INT, revenue REAL)")
        .unwrap();
    let found = found_in("sqlite:");
    assert!(found.exists && found.faults[0].1.problems.len() == 3, "{found:?}");
    assert_eq!(entries(), before + 1);
}

/// A user who may not write to a table learns of it at the start, with the GRANT.
#[test]
fn missing_privileges_are_faults_with_the_grant_that_repairs_them() {
    each(|server| {
        let url = server.new_database();
        let (user, database) =
            (format!("few{}", url.rsplit('/').next().unwrap()), url.rsplit('/').next().unwrap());
        let table = match server.kind {
            Kind::Postgres => "CREATE TABLE users_revenue (user_id TEXT PRIMARY KEY, revenue NUMERIC)",
            Kind::Mariadb => {
                "CREATE TABLE users_revenue (user_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin PRIMARY KEY, revenue DECIMAL(38,4))"
            }
        };
        server.sql(&url, table);
        match server.kind {
            Kind::Postgres => {
                server.administer(&format!("CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'"));
                server.sql(&url, &format!("GRANT SELECT ON users_revenue TO {user}"));
            }
            Kind::Mariadb => {
                server.administer(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY '{PASSWORD}'"));
                server.administer(&format!("GRANT SELECT ON `{database}`.users_revenue TO '{user}'@'%'"));
            }
        }
        let inspected = || {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("m.toml");
            let url = url.replace(&format!("//{USER}:"), &format!("//{user}:"));
            std::fs::write(&file, format!("presets = [\"revenue\"]\n[store]\nurl = \"{url}\"\n")).unwrap();
            let config = Config::load(Some(&file), &Overrides::default()).unwrap();
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(inspect_store(&config, folder.path())).unwrap().faults
        };
        let faults = inspected();
        let [(view, fault)] = &faults[..] else { panic!("{faults:?}") };
        let text = fault.to_string();
        assert!(view == "revenue" && text.contains("INSERT") && text.contains("UPDATE"), "{text}");
        assert_eq!(fault.repair.len(), 1, "{text}");
        server.sql(&url, &fault.repair[0]);
        assert_eq!(inspected(), []);
    });
}
