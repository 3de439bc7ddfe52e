//! A database server that is away: at the start, while millrace runs, or because it cannot be written to. Events are
//! accepted all the time, and the outage is visible within seconds.

use std::time::{Duration, Instant};

use event::Millis;
use millrace::store::Store;
use serde_json::{Value, json};

use crate::harness::cutting::Proxy;
use crate::harness::mariadb::Mariadb;
use crate::harness::postgres::Postgres;
use crate::harness::servers::{Kind, Server, Setup};
use crate::harness::{Client, Start, StoreKind, TestApp, copy_files, wait_for};
use crate::starts::{account, with_password};

const BEGINS: &str = "the database cannot be used now; events are accepted, and the views apply them later";
const AT_START: &str = "the database does not answer; the server starts without it and accepts events";
const ENDS: &str = "the database can be used again";

fn each(test: impl Fn(&'static Server)) {
    test(Postgres::shared());
    test(Mariadb::shared());
}

fn start(url: &str) -> TestApp {
    TestApp::with(at(url))
}

fn at(url: &str) -> Start {
    let arguments = ["--listen", "localhost:0", "--store", url].map(str::to_owned).to_vec();
    let config = Some("presets = [\"revenue\"]".to_owned());
    Start { arguments, config, store_kind: Some(StoreKind::Sqlite), ..Start::default() }
}

fn ready(app: &TestApp) -> Value {
    let answer = app.anonymous().get("/ready");
    assert_eq!(answer.status, 200, "events are accepted: {}", answer.text());
    answer.json()
}

fn sell(client: &Client) {
    let answer = client.post("/liveEvent", r#"{"userId":"a","name":"add_revenue","value":5}"#);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn metric(app: &TestApp, name: &str) -> String {
    let text = app.client().get("/metrics").text();
    let line =
        text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in\n{text}"));
    line.rsplit(' ').next().unwrap().to_owned()
}

/// An outage is logged within this time. An operator is promised 5 s; a loaded machine gets a little more.
const LOGGED_WITHIN_MILLIS: i64 = 15_000;

/// Waits until the outage that began at `begun` is visible everywhere, and returns the reason.
fn expect_outage(app: &TestApp, begun: Millis) -> String {
    wait_for("the outage to be logged", || app.log_line(BEGINS).is_some());
    let line = app.log_line(BEGINS).unwrap();
    let logged: Millis = line["timestamp"].as_str().unwrap().parse().unwrap();
    let after = logged.0 - begun.0;
    assert!((0..LOGGED_WITHIN_MILLIS).contains(&after), "{after} ms after the outage began: {line}");
    assert_eq!(line["level"], "WARN");
    wait_for("/ready to say so", || ready(app)["database"]["state"] == "down");
    assert!(ready(app)["database"]["since"].is_string());
    assert_eq!(metric(app, "millrace_store_up"), "0");
    line["reason"].as_str().unwrap().to_owned()
}

/// Expects that the start has reported the outage, once.
fn expect_outage_at_start(app: &TestApp) {
    assert_eq!(app.log_line(AT_START).unwrap()["level"], "WARN");
    assert_eq!(ready(app)["database"]["state"], "down");
    wait_for("the metric", || metric(app, "millrace_store_up") == "0");
    assert!(app.log_line(BEGINS).is_none(), "one line for one outage");
}

fn expect_recovery(app: &TestApp) {
    wait_for("the recovery to be logged", || app.log_line(ENDS).is_some());
    assert_eq!(app.log_line(ENDS).unwrap()["level"], "INFO");
    assert_eq!(ready(app)["database"]["state"], "up");
    assert_eq!(metric(app, "millrace_store_up"), "1");
    let begun = app.log_text().matches(BEGINS).count() + app.log_text().matches(AT_START).count();
    assert_eq!(begun, 1, "one line for one outage");
}

#[test]
fn a_stopped_database_is_reported_once_and_so_is_its_return() {
    each(|server| {
        let proxy = Proxy::in_front_of(server);
        let app = start(&proxy.url(&server.new_database()));
        sell(&app.client());
        app.settle();
        proxy.refuse();
        let begun = Millis::now();
        proxy.cut();
        sell(&app.client());
        expect_outage(&app, begun);
        wait_for("the view to wait", || ready(&app)["views"]["revenue"]["state"] == "waiting");
        wait_for("the lag in seconds", || ready(&app)["views"]["revenue"]["lagSeconds"].as_u64() > Some(0));
        assert!(metric(&app, "millrace_view_lag_seconds{view=\"revenue\"}") != "0");
        proxy.pass();
        expect_recovery(&app);
        assert_eq!(app.balance("a").as_deref(), Some("10"));
        assert_eq!(ready(&app)["views"]["revenue"]["lagSeconds"], 0);
    });
}

#[test]
fn a_database_that_hangs_is_reported_even_if_no_event_arrives() {
    each(|server| {
        let proxy = Proxy::in_front_of(server);
        let app = start(&proxy.url(&server.new_database()));
        let begun = Millis::now();
        proxy.stall();
        let reason = expect_outage(&app, begun);
        assert!(reason.contains("has not answered for 3 s"), "{reason}");
        proxy.pass();
        expect_recovery(&app);
    });
}

/// A reused id is refused at once if the database says that it was used. If the database hangs, the deduplicator finds
/// it later.
#[test]
fn reused_ids_are_accepted_quickly_while_the_database_hangs_and_do_not_count() {
    each(|server| {
        let proxy = Proxy::in_front_of(server);
        let app = start(&proxy.url(&server.new_database()));
        let events = |value: u32| {
            let event = |id: u32| json!({ "id": id.to_string(), "userId": "a", "name": "add_revenue", "value": value });
            json!((0..20).map(event).collect::<Vec<_>>()).to_string()
        };
        let send = |value| app.client().post("/v1/streams/revenue/events", &events(value)).status;
        assert_eq!(send(1), 200);
        app.settle();
        assert_eq!(send(2), 409);
        proxy.stall();
        let begun = Instant::now();
        assert_eq!(send(2), 200);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
        proxy.pass();
        assert_eq!(app.balance("a").as_deref(), Some("20"));
        let open = app.client().get("/v1/dead-letters?status=open").json();
        assert_eq!(open["deadLetters"].as_array().unwrap().len(), 20);
    });
}

#[test]
fn a_database_that_is_read_only_is_reported_and_loses_nothing() {
    for with in [Postgres::with as fn(Setup) -> Server, Mariadb::with] {
        let server = with(Setup { sync: false, ..Setup::default() });
        let url = with_password(&account(&server, "writer", "word"), "writer", "word");
        let app = start(&url);
        sell(&app.client());
        app.settle();
        let read_only = |on: bool| match server.kind {
            Kind::Postgres => {
                server.administer(&format!("ALTER SYSTEM SET default_transaction_read_only = {on}"));
                server.administer("SELECT pg_reload_conf()");
            }
            Kind::Mariadb => drop(server.administer(&format!("SET GLOBAL read_only = {on}"))),
        };
        let begun = Millis::now();
        read_only(true);
        sell(&app.client());
        let reason = expect_outage(&app, begun);
        assert!(reason.contains("read-only"), "{reason}");
        read_only(false);
        expect_recovery(&app);
        assert_eq!(app.balance("a").as_deref(), Some("10"));
    }
}

#[test]
fn a_database_without_free_connections_is_reported() {
    for with in [Postgres::with as fn(Setup) -> Server, Mariadb::with] {
        let server = with(Setup { sync: false, ..Setup::default() });
        let proxy = Proxy::in_front_of(&server);
        let url = with_password(&account(&server, "limited", "word"), "limited", "word");
        let app = start(&proxy.url(&url));
        std::thread::scope(|scope| {
            match server.kind {
                Kind::Postgres => drop(server.administer("ALTER ROLE limited CONNECTION LIMIT 0")),
                // The smallest limit there is 10. Other sessions take all of them; an administrator gets one more.
                Kind::Mariadb => {
                    for _ in 0..10 {
                        scope.spawn(|| server.try_sql(&url, "SELECT sleep(60)"));
                    }
                    let asleep =
                        "SELECT count(*) FROM information_schema.processlist WHERE info LIKE 'SELECT sleep%'";
                    wait_for("the other sessions", || server.administer(asleep) == "10");
                    server.administer("SET GLOBAL max_connections = 10");
                }
            }
            let cut = Millis::now();
            proxy.cut();
            expect_outage(&app, cut);
            match server.kind {
                Kind::Postgres => drop(server.administer("ALTER ROLE limited CONNECTION LIMIT -1")),
                Kind::Mariadb => {
                    server.administer("SET GLOBAL max_connections = 100");
                    server.administer("KILL USER limited");
                }
            }
            expect_recovery(&app);
        });
    }
}

#[test]
fn a_start_without_its_database_serves_and_catches_up_later() {
    each(|server| {
        let proxy = Proxy::in_front_of(server);
        let database = server.new_database();
        proxy.refuse();
        let mut app = start(&proxy.url(&database));
        app.settled_at_end = false;
        assert_eq!(app.anonymous().get("/health").status, 200);
        sell(&app.client());
        assert_eq!(app.anonymous().post("/liveEvent", "{}").status, 401, "keys are checked");
        // Without the database and without a copy of its keys, nobody knows whether this key is valid.
        let unknown =
            || app.anonymous().with_header("Authorization", "mr_of_another_node").post("/liveEvent", "{}");
        assert_eq!((unknown().status, unknown().header("retry-after").is_some()), (503, true));
        expect_outage_at_start(&app);
        let read = app.client().get("/userEvents/a");
        assert_eq!((read.status, read.header("retry-after")), (503, Some("1")), "{}", read.text());
        app.restart();
        sell(&app.client());
        expect_outage_at_start(&app);
        proxy.pass();
        expect_recovery(&app);
        let unknown = app.anonymous().with_header("Authorization", "mr_of_another_node");
        assert_eq!(unknown.post("/liveEvent", "{}").status, 401);
        assert_eq!(app.balance("a").as_deref(), Some("10"));
    });
}

#[test]
fn a_start_with_a_database_that_hangs_serves_and_catches_up_later() {
    each(|server| {
        let proxy = Proxy::in_front_of(server);
        let database = server.new_database();
        proxy.stall();
        let app = start(&proxy.url(&database));
        sell(&app.client());
        expect_outage_at_start(&app);
        proxy.pass();
        expect_recovery(&app);
        assert_eq!(app.balance("a").as_deref(), Some("5"));
    });
}

/// While the database is away, the log grows, and its end alone no longer tells that it lacks events.
#[test]
fn a_log_that_is_older_than_its_database_is_recognised_after_it_has_grown() {
    each(|server| {
        let proxy = Proxy::in_front_of(server);
        let database = server.new_database();
        let mut app = start(&proxy.url(&database));
        app.settled_at_end = false;
        let sell_some = |app: &TestApp, count| (0..count).for_each(|_| sell(&app.client()));
        sell_some(&app, 1);
        app.settle();
        app.stop();
        let (journal, copy) = (app.data().join("journal"), app.folder.path().join("older"));
        copy_files(&journal, &copy);
        app.restart();
        sell_some(&app, 3);
        app.settle();
        app.stop();
        let newest = app.folder.path().join("newest");
        std::fs::rename(&journal, &newest).unwrap();
        copy_files(&copy, &journal);
        proxy.refuse();
        app.restart();
        sell_some(&app, 2);
        // The log is as long as before, and longer after the next start.
        app.restart();
        sell_some(&app, 2);
        proxy.pass();
        wait_for("the view to pause", || ready(&app)["views"]["revenue"]["state"] == "paused");
        let reason = ready(&app)["views"]["revenue"]["reason"].as_str().unwrap().to_owned();
        assert!(reason.contains("the log is older than the store"), "{reason}");
        let unchanged = "SELECT count(*) FROM users_revenue WHERE revenue = 20";
        assert_eq!(server.sql(&database, unchanged), "1", "nothing was applied");
        let accepted = app.client().get("/v1/streams/revenue/events?from=1").json();
        assert_eq!(accepted["events"].as_array().unwrap().len(), 4, "they can be read: {accepted}");
        let refused = app.try_restart_with(|_| {}).unwrap_err();
        assert!(refused.contains("the log is older than the store"), "{refused}");
        // The way out that the message names.
        std::fs::remove_dir_all(&journal).unwrap();
        std::fs::rename(&newest, &journal).unwrap();
        let refused = app.try_restart_with(|_| {}).unwrap_err();
        assert!(refused.contains("delete `data/unchecked-log-end`"), "{refused}");
        std::fs::remove_file(app.data().join("unchecked-log-end")).unwrap();
        app.restart();
        sell(&app.client());
        app.settle();
        assert_eq!(app.balance("a").as_deref(), Some("25"));
    });
}

#[test]
fn a_start_without_its_database_that_is_killed_between_its_steps_loses_nothing() {
    each(|server| {
        let proxy = Proxy::in_front_of(server);
        proxy.refuse();
        let mut app = start(&proxy.url(&server.new_database()));
        app.settled_at_end = false;
        sell(&app.client());
        let die_at = |point: &str| vec![("MILLRACE_FAILPOINTS".to_owned(), format!("{point}=abort"))];
        app.try_restart_with(|start| start.environment = die_at("unchecked.remembered")).unwrap_err();
        app.restart_with(|start| start.environment = die_at("unchecked.forgotten"));
        sell(&app.client());
        proxy.pass();
        wait_for("the process to die", || app.is_gone());
        assert!(!app.data().join("unchecked-log-end").exists());
        app.restart_with(|start| start.environment.clear());
        sell(&app.client());
        app.settle();
        assert_eq!(app.balance("a").as_deref(), Some("15"));
    });
}

/// A restart of the server cuts all sessions, and the next one works.
#[test]
fn a_look_at_the_database_does_not_fail_because_of_sessions_from_before_its_restart() {
    each(|server| {
        let proxy = Proxy::in_front_of(server);
        let url = proxy.url(&server.new_database());
        let folder = tempfile::tempdir().unwrap();
        let look = async {
            let store = Store::open(&url, None, folder.path()).await.unwrap();
            let read = || store.rows("SELECT 1".to_owned(), Vec::new());
            let (one, two, three) = tokio::join!(read(), read(), read());
            for rows in [one, two, three] {
                assert_eq!(rows.unwrap().len(), 1);
            }
            assert!(proxy.open_connections() > 1, "several sessions are idle");
            proxy.cut();
            let looked = store.probe().await;
            store.close();
            looked
        };
        tokio::runtime::Runtime::new().unwrap().block_on(look).unwrap();
    });
}

#[test]
fn keys_are_known_without_the_database_and_a_missed_revocation_applies_once_it_is_back() {
    each(|server| {
        let proxy = Proxy::in_front_of(server);
        let database = server.new_database();
        let mut app = start(&proxy.url(&database));
        let create = |name: &str| {
            let body = json!({ "name": name, "scopes": ["send"] }).to_string();
            let created = app.client().post("/v1/keys", &body).json();
            app.anonymous().with_header("Authorization", created["key"].as_str().unwrap())
        };
        let (good, revoked) = (create("good"), create("revoked"));
        let expires = Millis(Millis::now().0 + 5_000);
        let body = json!({ "name": "expired", "scopes": ["read"], "expires": expires.to_text() }).to_string();
        let expired = app.client().post("/v1/keys", &body).json();
        let expired = app.anonymous().with_header("Authorization", expired["key"].as_str().unwrap());
        let client = |client: &Client, app: &TestApp| client.at(&app.address);
        app.settle();
        proxy.refuse();
        app.restart();
        wait_for("the key to expire", || Millis::now() > expires);
        assert_eq!(client(&expired, &app).get("/v1/views").status, 401, "expiries are known");
        for key in [&good, &revoked] {
            sell(&client(key, &app));
        }
        assert_eq!(client(&good, &app).get("/v1/views").status, 403, "scopes are known");
        server.sql(&database, "UPDATE millrace_keys SET revoked = 1 WHERE name = 'revoked'");
        proxy.pass();
        wait_for("the revocation to apply", || {
            let body = r#"{"userId":"a","name":"add_revenue","value":5}"#;
            client(&revoked, &app).post("/liveEvent", body).status == 401
        });
        sell(&client(&good, &app));
    });
}

/// A 401 is final for most senders, so a server that has not read the keys yet must not answer with it.
#[test]
fn a_key_that_is_not_in_the_copy_gets_503_until_the_database_is_back() {
    each(|server| {
        let proxy = Proxy::in_front_of(server);
        let mut app = start(&proxy.url(&server.new_database()));
        let copy = app.data().join("keys.json");
        let before = std::fs::read(&copy).unwrap();
        let body = json!({ "name": "new", "scopes": ["send", "read"] }).to_string();
        let new = app.client().post("/v1/keys", &body).json();
        let new = app.anonymous().with_header("Authorization", new["key"].as_str().unwrap());
        app.settle();
        app.stop();
        // The copy is from the time before the key, as if another node had created it.
        std::fs::write(&copy, before).unwrap();
        proxy.refuse();
        app.restart();
        let new = new.at(&app.address);
        let made_up = app.anonymous().with_header("Authorization", "mr_made_up");
        sell(&app.client());
        let event = r#"{"userId":"a","name":"add_revenue","value":5}"#;
        for unknown in [&new, &made_up] {
            let refused = unknown.post("/liveEvent", event);
            assert_eq!(
                (refused.status, refused.header("retry-after")),
                (503, Some("1")),
                "{}",
                refused.text()
            );
        }
        // A made-up key does not learn which views and events exist.
        let answers = ["revenue/stats", "nothing/stats", "revenue/definition", "nothing/definition"]
            .map(|path| made_up.get(&format!("/v1/views/{path}")))
            .into_iter()
            .chain([made_up.get("/v1/events/nothing")]);
        for answer in answers {
            assert_eq!(answer.status, 503, "{}", answer.text());
            assert!(answer.text().contains("does not know this key yet"), "{}", answer.text());
        }
        let no_key = app.anonymous();
        assert_eq!(no_key.get("/v1/views/revenue/definition").status, 401);
        let not_text = app.anonymous().with_header("Authorization", "\u{e9}");
        assert_eq!(not_text.get("/v1/views/revenue/definition").status, 401);
        proxy.pass();
        wait_for("the new key to be known", || new.get("/v1/views").status == 200);
        sell(&new);
        assert_eq!(made_up.post("/liveEvent", event).status, 401);
        app.settle();
    });
}

/// The file of the first key stays in the data folder when the key is revoked.
#[test]
fn a_revoked_first_key_stays_unknown_without_the_database() {
    each(|server| {
        let proxy = Proxy::in_front_of(server);
        let mut app = start(&proxy.url(&server.new_database()));
        let body = json!({ "name": "other", "scopes": ["admin"] }).to_string();
        let other = app.client().post("/v1/keys", &body).json();
        let other = app.anonymous().with_header("Authorization", other["key"].as_str().unwrap());
        assert_eq!(other.request("DELETE", "/v1/keys/first", None).status, 200);
        app.settle();
        proxy.refuse();
        app.restart();
        assert_eq!(other.at(&app.address).get("/v1/keys").status, 200, "the other key is known");
        assert_eq!(app.client().get("/v1/keys").status, 503, "the key may be known again");
        proxy.pass();
        wait_for("the keys to be read", || app.client().get("/v1/keys").status != 503);
        assert_eq!(app.client().get("/v1/keys").status, 401);
    });
}

#[test]
fn the_end_of_a_wrong_database_is_reported_and_the_views_continue() {
    each(|server| {
        let proxy = Proxy::in_front_of(server);
        let database = server.new_database();
        let url = proxy.url(&database);
        {
            let app = start(&url);
            sell(&app.client());
            app.settle();
        }
        proxy.refuse();
        let app = start(&url);
        sell(&app.client());
        proxy.pass();
        wait_for("/ready to say so", || ready(&app)["database"]["state"] == "wrong");
        assert_eq!(metric(&app, "millrace_store_up"), "0");
        assert!(app.log_line(ENDS).is_none());
        server.sql(&database, "DELETE FROM millrace_positions");
        expect_recovery(&app);
        app.settle();
        assert_eq!(app.balance("a").as_deref(), Some("10"));
    });
}

#[test]
fn a_database_that_turns_out_wrong_pauses_the_views_and_ends_only_a_start() {
    each(|server| {
        let proxy = Proxy::in_front_of(server);
        let database = server.new_database();
        let url = proxy.url(&database);
        {
            let app = start(&url);
            sell(&app.client());
            app.settle();
        }
        // Another data folder, and so another log.
        proxy.refuse();
        let mut app = start(&url);
        app.settled_at_end = false;
        sell(&app.client());
        proxy.pass();
        wait_for("the view to pause", || ready(&app)["views"]["revenue"]["state"] == "paused");
        let reason = ready(&app)["views"]["revenue"]["reason"].as_str().unwrap().to_owned();
        assert!(reason.contains("the store was built from log"), "{reason}");
        wait_for("/ready to say so", || ready(&app)["database"]["state"] == "wrong");
        sell(&app.client());
        let unchanged = "SELECT count(*) FROM users_revenue WHERE revenue = 5";
        assert_eq!(server.sql(&database, unchanged), "1", "nothing was applied");
        let refused = app.try_restart_with(|_| {}).unwrap_err();
        assert!(refused.contains("the store was built from log"), "{refused}");
    });
}
