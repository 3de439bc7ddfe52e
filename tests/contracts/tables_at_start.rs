//! Existing tables are checked when the server starts, before the first event, and all faults are named at once.

use serde_json::Value;

use crate::harness::{StoreKind, TestApp, wait_for};

fn paused(app: &TestApp, view: &str) -> String {
    wait_for("the view to pause", || app.view(view)["state"] == "paused");
    app.view(view)["reason"].as_str().unwrap().to_owned()
}

/// The table has many faults. One run of the SQL in the reason repairs all of them.
#[test]
fn a_table_of_the_wrong_shape_pauses_its_view_at_the_start_and_is_repaired_in_one_round() {
    let sql = StoreKind::from_env().pick([
        "CREATE TABLE users_revenue (user_id BIGINT PRIMARY KEY, revenue REAL, must TEXT NOT NULL, note TEXT);
         CREATE UNIQUE INDEX merging ON users_revenue (user_id COLLATE NOCASE);
         INSERT INTO users_revenue VALUES (7, 1.5, 'x', 'y')",
        "CREATE TABLE users_revenue (user_id BIGINT, revenue INT DEFAULT 1, must TEXT NOT NULL, id INT PRIMARY KEY, other INT UNIQUE DEFAULT 0, part INT NOT NULL);
         CREATE UNIQUE INDEX merging ON users_revenue (revenue);
         INSERT INTO users_revenue VALUES (7, 1, 'x', 9, 5, 3)",
        "CREATE TABLE users_revenue (user_id BIGINT, revenue FLOAT, must VARCHAR(9) NOT NULL, other INT UNIQUE DEFAULT 0) ENGINE=MyISAM;
         INSERT INTO users_revenue VALUES (7, 1.5, 'x', 5)",
    ]);
    let mut app = TestApp::start();
    app.stop();
    app.stored.native_sql(sql);
    app.restart();
    // No event has arrived.
    let reason = paused(&app, "revenue");
    let named: &[&str] = StoreKind::from_env().pick([
        &["`user_id` of type BIGINT", "`revenue` of type REAL", "`must`", "byte for byte"] as &[&str],
        &[
            "`user_id` of type bigint",
            "`revenue` of type integer",
            "`must`",
            "`part`",
            "`id`",
            "unique key `merging`",
            "needs a unique key",
        ],
        &[
            "MyISAM",
            "`user_id` of type bigint",
            "`revenue` of type float",
            "`must`",
            "unique key `other`",
            "needs a unique key",
        ],
    ]);
    for part in named {
        assert!(reason.contains(part), "{part} is missing in {reason}");
    }
    // Other views are not concerned.
    assert_eq!(app.view("site_stats")["state"], "running");
    let line = app.log_line("view is paused").unwrap();
    assert_eq!((&line["view"], line["reason"].as_str()), (&Value::from("revenue"), Some(&*reason)));
    app.stored.native_sql(reason.split_once("to fix it, run: ").unwrap().1);
    wait_for("the view to go on", || app.view("revenue")["state"] == "running");
    let event = r#"{"userId":"7","name":"add_revenue","value":0.25}"#;
    assert_eq!(app.client().post("/liveEvent", event).status, 200);
    let expected = app.stored.store_kind.pick(["1.75", "1.25", "1.75"]);
    assert_eq!(app.balance("7").as_deref(), Some(expected));
}
