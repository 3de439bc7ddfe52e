//! Views and their tables: views that are only configured, events that cannot be applied, and tables that are
//! missing, too narrow, locked, or used by another view.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::{StoreKind, TestApp, configure, wait_for};
use crate::life::samples;

const EVENTS: &str = "/v1/streams/revenue/events";

fn event(user: &str, value: &str) -> String {
    format!(r#"{{"userId":"{user}","name":"add_revenue","value":{value}}}"#)
}

/// Starts a server on a store in which `sql` was executed while no server was running.
fn prepared(sql: &str) -> TestApp {
    let mut app = TestApp::start();
    app.stop();
    app.sql(sql);
    app.restart();
    app
}

fn send(app: &TestApp, body: &str) {
    let answer = app.client().post("/liveEvent", body);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_ledger_can_be_configured_with_its_own_names() {
    let app = TestApp::configured(
        r#"
        [stream.refunds]
        key = "customer"
        fields.customer = { type = "text", required = true }
        fields.cents = { type = "integer", required = true, min = 1, max = 9000000000000000000 }
        fields.why = { type = "text", max = 10 }

        [view.refunds]
        kind = "ledger"
        from = "refunds"
        table = "refunds \"by\" customer"
        key_column = "who"
        amount_column = "sum; --"
        amount = "-cents"
        "#,
    );
    let client = app.client();
    let path = "/v1/streams/refunds/events?wait=applied";
    for (body, status) in [
        (r#"{"customer":"c","cents":250}"#, 200),
        (r#"{"customer":"c","cents":9000000000000000000,"why":"all of it"}"#, 200),
        (r#"{"customer":"c","cents":0}"#, 400),
        (r#"{"customer":"c","cents":1.5}"#, 400),
        (r#"{"customer":"c","cents":9000000000000000001}"#, 400),
        (r#"{"customer":"c","cents":99999999999999999999}"#, 400),
        (r#"{"customer":"c","cents":1,"why":"01234567890"}"#, 400),
    ] {
        let answer = client.post(path, body);
        assert_eq!(answer.status, status, "{body}: {}", answer.text());
    }
    assert_eq!(
        client.get("/v1/views/refunds/balances").text(),
        r#"{"balances":[{"key":"c","balance":-9000000000000000250}]}"#
    );
    // The two streams are independent.
    send(&app, &event("c", "1"));
    assert_eq!(app.balance("c").as_deref(), Some("1"));
    let names: Vec<String> = client.get("/v1/views").json()["views"]
        .as_array()
        .unwrap()
        .iter()
        .map(|view| view["name"].as_str().unwrap().to_owned())
        .collect();
    assert!(names.contains(&"refunds".to_owned()) && names.contains(&"revenue".to_owned()), "{names:?}");
}

/// Otherwise the old view's balances would be taken as opening amounts, and all events counted a second time.
#[test]
fn a_renamed_view_over_the_same_table_pauses_and_names_the_old_view() {
    let config = |view: &str, table: &str| {
        format!(
            "[stream.refunds]\nkey = \"who\"\nfields.who = {{ type = \"text\", required = true }}\n\
             fields.cents = {{ type = \"integer\", required = true }}\n\
             [view.{view}]\nkind = \"ledger\"\nfrom = \"refunds\"\ntable = \"{table}\"\namount = \"+cents\""
        )
    };
    let mut app = TestApp::configured(&config("refunds", "refunds"));
    let refund = r#"{"who":"c","cents":5}"#;
    assert_eq!(app.client().post("/v1/streams/refunds/events?wait=applied", refund).status, 200);
    let balance = |app: &TestApp, view: &str| {
        app.client().get(&format!("/v1/views/{view}/balances/c")).json()["balance"].clone()
    };
    let rename = |app: &mut TestApp, view: &str, table: &str| {
        configure(app.folder.path(), &config(view, table));
        app.restart();
    };
    // SQLite ignores the case of table names.
    let same = app.stored.store_kind.pick(["REFUNDS", "refunds", "refunds"]);
    rename(&mut app, "refunds2", same);
    wait_for("the view to pause", || app.view("refunds2")["state"] == "paused");
    let reason = app.view("refunds2")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("name the view `refunds` as before"), "{reason}");
    rename(&mut app, "refunds", "refunds");
    app.settle();
    assert_eq!(balance(&app, "refunds"), 5);
    // If the table is dropped, the new view starts with its own.
    app.sql("DROP TABLE refunds");
    rename(&mut app, "refunds2", "refunds");
    app.settle();
    assert_eq!(balance(&app, "refunds2"), 5);
}

#[test]
fn an_event_that_cannot_be_applied_becomes_a_dead_letter_and_delays_no_other() {
    let app = prepared(
        "CREATE TABLE users_revenue (user_id {key} PRIMARY KEY, revenue {amount} NOT NULL);
         INSERT INTO users_revenue VALUES ('poisoned', '0.5')",
    );
    app.stored.refuse("users_revenue", "user_id", "poisoned");
    let users = ["a", "poisoned", "b", "c", "poisoned", "a"];
    let body: Vec<String> = users.iter().map(|user| event(user, "999999999999999.9999")).collect();
    let answer = app.client().post(EVENTS, &format!("[{}]", body.join(",")));
    let ids = answer.json()["eventIds"].clone();
    for (user, balance) in [("a", "1999999999999999.9998"), ("b", "999999999999999.9999")] {
        assert_eq!(app.balance(user).as_deref(), Some(balance));
    }
    let dead_letters = app.client().get("/v1/dead-letters?status=open");
    assert!(
        dead_letters.text().contains(r#""value":999999999999999.9999"#),
        "to the last digit: {}",
        dead_letters.text()
    );
    let dead_letters = dead_letters.json()["deadLetters"].as_array().unwrap().clone();
    assert_eq!(dead_letters.len(), 2);
    for dead_letter in &dead_letters {
        assert_eq!((&dead_letter["view"], &dead_letter["stream"]), (&json!("revenue"), &json!("revenue")));
        let reason = dead_letter["reason"].as_str().unwrap();
        assert!(reason.contains("refuse") || reason.contains("refusal"), "{reason}");
        assert!([&ids[1], &ids[4]].contains(&&dead_letter["eventId"]), "{dead_letter}");
    }
    let receipt = app.client().get(&format!("/v1/events/{}", ids[1].as_str().unwrap())).json();
    assert_eq!(receipt["views"]["revenue"]["state"], "dead-letter");
    // Repair the table and retry both: one unchanged, one corrected.
    app.stored.stop_refusing("users_revenue");
    for (dead_letter, body) in dead_letters.iter().zip(["", &event("poisoned", "2")]) {
        let path = format!("/v1/dead-letters/{}/retry", dead_letter["id"].as_str().unwrap());
        let answer = app.client().post(&path, body);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(app.balance("poisoned").as_deref(), Some("1000000000000002.4999"));
    let open = app.client().get("/v1/dead-letters?status=open").json();
    assert_eq!(open, json!({ "deadLetters": [], "more": false }));
}

/// Events that wait for the store are retried without a limit. Only skipped events become dead letters.
#[test]
fn dead_letters_are_written_once_a_broken_store_is_repaired() {
    let config = |field: &str| {
        format!(
            "[stream.refunds]\nkey = \"who\"\nfields.who = {{ type = \"text\", required = true }}\n\
             fields.{field} = {{ type = \"integer\", required = true }}\n\
             [view.refunds]\nkind = \"ledger\"\nfrom = \"refunds\"\namount = \"+{field}\""
        )
    };
    let mut app = TestApp::configured(&config("cents"));
    app.sql("CREATE TABLE refunds (who {key} PRIMARY KEY, balance REAL)");
    let body = r#"{"who":"c","cents":5}"#.to_owned() + "\n";
    let answer = app.client().post_lines("/v1/streams/refunds/events", &body.repeat(60));
    assert_eq!(answer.status, 200, "{}", answer.text());
    wait_for("the view to pause", || app.view("refunds")["state"] == "paused");
    app.stop();
    let broken = "DROP TABLE refunds; ALTER TABLE millrace_dead_letters RENAME COLUMN reason TO why";
    app.sql(broken);
    configure(app.folder.path(), &config("units"));
    app.restart();
    wait_for("the view to pause again", || app.view("refunds")["state"] == "paused");
    app.sql("ALTER TABLE millrace_dead_letters RENAME COLUMN why TO reason");
    app.settle();
    let dead_letters = app.client().get("/v1/dead-letters?status=open").json();
    assert_eq!(dead_letters["deadLetters"].as_array().unwrap().len(), 60);
}

#[test]
fn a_pause_reason_names_the_column_but_not_its_value() {
    if StoreKind::from_env().skip_unless_sqlite("elsewhere a column of numbers holds no text") {
        return;
    }
    let app = prepared(
        "CREATE TABLE users_revenue (user_id TEXT PRIMARY KEY, revenue TEXT NOT NULL);
         INSERT INTO users_revenue VALUES ('u', 'secret')",
    );
    let answer = app.client().post_lines(EVENTS, &(event("u", "1") + "\n").repeat(101));
    assert_eq!(answer.status, 200, "{}", answer.text());
    wait_for("the view to pause", || app.view("revenue")["state"] == "paused");
    let reason = app.view("revenue")["reason"].as_str().unwrap().to_owned();
    assert!(reason.ends_with("column `revenue` holds text that is not a number"), "{reason}");
    let row = app.client().get("/v1/views/revenue/balances/u");
    assert!(!row.text().contains("secret") && row.text().contains("column `revenue`"), "{}", row.text());
    assert!(!app.log_text().contains("secret"), "{}", app.log_text());
    // After the repair, the last event is applied.
    app.sql("UPDATE users_revenue SET revenue = '0.5'");
    assert_eq!(app.balance("u").as_deref(), Some("1.5"));
}

#[test]
fn a_row_without_a_key_in_an_existing_table_stops_nothing() {
    if StoreKind::from_env().skip_unless_sqlite("elsewhere a primary key holds no null") {
        return;
    }
    let app = prepared(
        "CREATE TABLE users_revenue (user_id TEXT PRIMARY KEY, revenue TEXT NOT NULL);
         INSERT INTO users_revenue VALUES (NULL, '7'), ('u', '2')",
    );
    send(&app, &event("u", "1"));
    assert_eq!(app.balance("u").as_deref(), Some("3"));
}

#[test]
fn a_missing_table_pauses_its_view_until_it_is_restored() {
    let app = TestApp::start();
    send(&app, &event("u", "1"));
    app.settle();
    app.sql("ALTER TABLE users_revenue RENAME TO elsewhere");
    send(&app, &event("u", "2"));
    wait_for("the view to pause", || app.view("revenue")["state"] == "paused");
    let reason = app.view("revenue")["reason"].as_str().unwrap().to_owned();
    assert!(reason.starts_with("table `users_revenue` does not exist; restore it"), "{reason}");
    let line = app.log_line("view is paused").unwrap();
    assert_eq!((&line["level"], &line["view"]), (&json!("ERROR"), &json!("revenue")));
    let metrics = samples(&app.client().get("/metrics").text());
    assert_eq!(metrics[r#"millrace_view_paused{view="revenue"}"#], 1.0);
    // Events are still accepted.
    assert_eq!(app.anonymous().get("/ready").status, 200);
    send(&app, &event("u", "4"));
    // A row that exists but cannot be read now is not reported as unknown.
    let answer = app.client().get("/userEvents/u");
    assert_eq!((answer.status, answer.header("retry-after")), (503, None), "{}", answer.text());
    assert!(answer.text().contains("the store cannot do this: table `users_revenue` does not exist"));
    // The same request in a short while would get the same answer, so the command does not say "try again later".
    let output = app.command(&["view", "balance", "revenue", "u"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("the store cannot do this"), "{output:?}");
    app.sql("ALTER TABLE elsewhere RENAME TO users_revenue");
    assert_eq!(app.balance("u").as_deref(), Some("7"));
    assert_eq!(app.view("revenue")["reason"], Value::Null);
}

#[test]
fn a_rounding_column_pauses_the_view_and_its_reason_contains_the_sql_fix() {
    let app = prepared(
        "CREATE TABLE users_revenue (user_id {key} PRIMARY KEY, revenue INTEGER NOT NULL);
         INSERT INTO users_revenue VALUES ('u', 40)",
    );
    send(&app, &event("u", "1.5"));
    wait_for("the view to pause", || app.view("revenue")["state"] == "paused");
    let reason = app.view("revenue")["reason"].as_str().unwrap().to_owned();
    let kind = app.stored.store_kind.pick(["INTEGER", "integer", "int(11)"]);
    assert!(reason.contains(&format!("column `revenue` of type {kind}")), "{reason}");
    assert_eq!(app.sql("SELECT revenue FROM users_revenue"), "40");
    // The SQL in the reason fixes the column.
    app.stored.native_sql(reason.split_once("to fix it, run: ").unwrap().1);
    assert_eq!(app.balance("u").as_deref(), Some("41.5"));
}

#[test]
fn a_key_column_that_would_merge_users_pauses_the_view() {
    let merging = StoreKind::from_env().pick([
        "CREATE TABLE users_revenue (user_id VARCHAR(255) COLLATE NOCASE PRIMARY KEY, revenue TEXT NOT NULL)",
        "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
         CREATE TABLE users_revenue (user_id VARCHAR(255) COLLATE nocase PRIMARY KEY, revenue NUMERIC NOT NULL)",
        "CREATE TABLE users_revenue (user_id VARCHAR(255) CHARACTER SET utf8mb4 PRIMARY KEY, revenue DECIMAL(38,4) NOT NULL)",
    ]);
    let app = prepared(merging);
    send(&app, &event("a", "1"));
    send(&app, &event("A", "2"));
    wait_for("the view to pause", || app.view("revenue")["state"] == "paused");
    let reason = app.view("revenue")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("byte for byte"), "{reason}");
    // The SQL in the reason fixes the column.
    app.stored.native_sql(reason.split_once("to fix it, run: ").unwrap().1);
    assert_eq!(app.balance("a").as_deref(), Some("1"));
    assert_eq!(app.balance("A").as_deref(), Some("2"));
}

#[test]
fn a_paused_view_does_not_delay_a_stop() {
    let mut app =
        prepared("CREATE TABLE users_revenue (user_id {key} PRIMARY KEY, revenue INTEGER NOT NULL)");
    send(&app, &event("u", "1"));
    wait_for("the view to pause", || app.view("revenue")["state"] == "paused");
    let begun = std::time::Instant::now();
    assert_eq!(app.stop(), Some(0));
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    assert!(app.log_text().contains("views have not applied everything yet"));
    app.sql("DROP TABLE users_revenue");
    app.restart();
    assert_eq!(app.balance("u").as_deref(), Some("1"));
}

#[test]
fn a_view_waits_while_another_program_locks_the_store() {
    if StoreKind::from_env().skip_unless_sqlite("nobody holds all of a database there") {
        return;
    }
    let app = TestApp::start();
    send(&app, &event("u", "1"));
    app.settle();
    let other = app.stored.connection();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let released = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_for("the view to wait", || app.view("revenue")["state"] == "waiting");
            released.store(true, Ordering::SeqCst);
        });
        send(&app, &event("u", "2"));
        // Reads still work.
        assert_eq!(app.client().get("/userEvents/u").text(), r#"[{"user_id":"u","revenue":1}]"#);
        wait_for("the view to report that it waits", || released.load(Ordering::SeqCst));
        other.execute_batch("ROLLBACK").unwrap();
    });
    assert_eq!(app.balance("u").as_deref(), Some("3"));
}
