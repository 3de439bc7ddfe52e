//! The SQL views that millrace makes beside its tables, for people who read the database with their own SQL.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::{Start, StoreKind, TestApp, wait_for};

const VISITS: &str = r#"
[stream.visits]
key = "site"
fields.site = { type = "text", required = true }
fields.page = { type = "text" }
fields.user = { type = "text" }
fields.at = { type = "time" }

[view.visit_stats]
kind = "stats"
from = "visits"
group = "site"
time = "at"
distinct = "user"
counts = ["page", "user"]
distinct_counts = ["page"]
"#;

const EVENTS: &str = "/v1/streams/visits/events?wait=applied";
const DAYS: [&str; 3] = ["2025-10-31", "2025-11-01", "2025-11-02"];
const SITES: [&str; 2] = ["a", "b"];

fn send(app: &TestApp, event: &Value) -> String {
    let answer = app.client().post(EVENTS, &event.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["eventId"].as_str().unwrap().to_owned()
}

/// Sends visits of two sites on three days, some without a page or a user, and takes one of them back.
fn send_visits(app: &TestApp) {
    let mut ids = Vec::new();
    for number in 0..60 {
        let (site, day) = (SITES[number % 2], DAYS[number % 3]);
        let page = (number % 5 > 0).then(|| format!("/{}", number / 3 % 6));
        let user = (number % 7 > 0).then(|| format!("u{}", number / 2 % 9));
        let at = format!("{day}T{:02}:00:00Z", number % 24);
        ids.push(send(app, &json!({ "site": site, "page": page, "user": user, "at": at })));
    }
    for id in &ids[20..24] {
        send(app, &json!({ "takesBack": id, "reason": "counted by mistake" }));
    }
    app.settle();
}

/// Returns the SQL views' numbers of the API: those of a day, or of all time.
fn from_api(app: &TestApp, day: Option<&str>) -> (Vec<String>, Vec<String>) {
    let (mut totals, mut values) = (Vec::new(), Vec::new());
    for site in SITES {
        let range = day.map(|day| format!("&from={day}&to={day}")).unwrap_or_default();
        let shown_day = day.map(|day| format!("{day}\t")).unwrap_or_default();
        for field in ["page", "user"] {
            let path = format!("/v1/views/visit_stats/stats?group={site}&by={field}&top=100{range}");
            let answer = app.client().get(&path);
            assert_eq!(answer.status, 200, "{}", answer.text());
            let numbers = answer.json();
            if field == "page" {
                totals.push(format!("{site}\t{shown_day}{}\t{}", numbers["total"], numbers["distinct"]));
            }
            for counted in numbers["top"].as_array().unwrap() {
                let value = counted["value"].as_str().unwrap_or("NULL");
                let distinct = counted["distinct"].as_i64().map_or("NULL".to_owned(), |n| n.to_string());
                values.push(format!("{site}\t{shown_day}{field}\t{value}\t{}\t{distinct}", counted["count"]));
            }
        }
    }
    totals.sort();
    values.sort();
    (totals, values)
}

fn sorted(lines: &str) -> Vec<String> {
    let mut lines: Vec<String> = lines.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn assert_equal_to_api(app: &TestApp) {
    let select = |columns: &str, view: &str, more: &str| {
        sorted(&app.sql(&format!("SELECT {columns} FROM visit_stats_{view} {more}")))
    };
    let (totals, values) = from_api(app, None);
    assert!(totals.len() == 2 && values.len() > 15, "{totals:?} {values:?}");
    assert_eq!(select("group_key, total, distinct_count", "total", ""), totals);
    assert_eq!(select("group_key, field, value, total, distinct_count", "total_values", ""), values);
    for day in DAYS {
        let on_day = format!("WHERE day = '{day}'");
        let (totals, values) = from_api(app, Some(day));
        assert_eq!(select("group_key, day, total, distinct_count", "daily", &on_day), totals);
        let columns = "group_key, day, field, value, total, distinct_count";
        assert_eq!(select(columns, "daily_values", &on_day), values);
    }
    assert_eq!(app.sql("SELECT count(*) FROM visit_stats_daily"), "6", "no other days");
}

#[test]
fn sql_views_of_statistics_have_the_numbers_of_the_api_also_after_a_rebuild_and_a_restart() {
    let mut app = TestApp::configured(VISITS);
    send_visits(&app);
    assert_equal_to_api(&app);
    // A person's own SQL views read the table and the SQL view.
    app.sql("CREATE VIEW own AS SELECT grp, n FROM visit_stats_counts WHERE day = 0 AND field = ''");
    app.sql("CREATE VIEW own_of_daily AS SELECT max(total) AS most FROM visit_stats_daily");
    let own = || (sorted(&app.sql("SELECT grp, n FROM own")), app.sql("SELECT most FROM own_of_daily"));
    let before = own();
    app.sql("UPDATE visit_stats_counts SET n = n + 1000");
    assert_ne!(own(), before);
    let rebuilt = app.client().post("/v1/views/visit_stats/rebuild", "");
    assert_eq!(rebuilt.status, 200, "{}", rebuilt.text());
    assert_equal_to_api(&app);
    assert_eq!(own(), before, "a person's SQL views read the rebuilt tables");
    // A second rebuild finds the names of the first one in order.
    assert_eq!(app.client().post("/v1/views/visit_stats/rebuild", "").status, 200);
    send(&app, &json!({ "site": "a", "page": "/9", "at": "2025-11-01" }));
    assert_equal_to_api(&app);
    app.restart();
    assert_equal_to_api(&app);
    assert!(!app.log_text().contains("SQL view"), "{}", app.log_text());
}

#[test]
fn a_changed_configuration_changes_the_sql_views() {
    let mut app = TestApp::configured(VISITS);
    send_visits(&app);
    let columns = |app: &TestApp| app.stored.columns("visit_stats_total_values").join(" ");
    assert_eq!(columns(&app), "group_key field value total distinct_count");
    crate::harness::configure(app.folder.path(), &VISITS.replace("distinct_counts = [\"page\"]", ""));
    app.restart();
    accept(&app);
    wait_for("the SQL view to change", || columns(&app) == "group_key field value total");
    assert!(!app.log_text().contains("SQL view"), "{}", app.log_text());
}

/// An object of a person keeps its name, and the view works without its SQL view.
#[test]
fn a_name_that_a_person_uses_is_left_alone_and_reported_once() {
    let mut app = TestApp::configured(VISITS);
    app.stop();
    app.sql(
        "CREATE TABLE visit_stats_daily (mine {text}); CREATE VIEW visit_stats_total AS SELECT 7 AS mine",
    );
    app.restart();
    send_visits(&app);
    assert_eq!(app.sql("SELECT mine FROM visit_stats_total"), "7");
    assert_eq!(app.sql("SELECT count(mine) FROM visit_stats_daily"), "0");
    assert!(app.sql("SELECT count(*) FROM visit_stats_daily_values").parse::<u32>().unwrap() > 0);
    // The view begins again after a pause, without a second warning.
    app.sql("ALTER TABLE visit_stats_members RENAME TO elsewhere");
    send_later(&app);
    wait_for("the view to pause", || app.view("visit_stats")["state"] == "paused");
    app.sql("ALTER TABLE elsewhere RENAME TO visit_stats_members");
    app.settle();
    let log = app.log_text();
    for name in ["visit_stats_daily", "visit_stats_total"] {
        let warnings = log.lines().filter(|line| {
            line.contains("an SQL view for reading was not made") && line.contains(&format!("\"{name}\""))
        });
        assert_eq!(warnings.count(), 1, "{name}: {log}");
    }
    // After a person replaced one of the SQL views, it is the person's.
    app.sql("DROP VIEW visit_stats_total_values; CREATE VIEW visit_stats_total_values AS SELECT 8 AS mine");
    crate::harness::configure(app.folder.path(), &VISITS.replace("distinct_counts = [\"page\"]", ""));
    app.restart();
    accept(&app);
    app.settle();
    assert_eq!(app.sql("SELECT mine FROM visit_stats_total_values"), "8");
}

/// Continues the statistics under the changed configuration.
fn accept(app: &TestApp) {
    let answer = app.client().post("/v1/views/visit_stats/accept", "");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn send_later(app: &TestApp) {
    let event = json!({ "site": "a", "user": "late", "at": "2025-11-01" }).to_string();
    assert_eq!(app.client().post("/v1/streams/visits/events", &event).status, 200);
}

/// A view that was configured later needs the name of an SQL view for its table.
#[test]
fn an_sql_view_gives_way_to_a_table_of_the_configuration() {
    let mut app = TestApp::configured(VISITS);
    send_visits(&app);
    let more = "[stream.days]\nkey = \"day\"\nfields.day = { type = \"text\", required = true }\nfields.n = { type = \"integer\", required = true }\n\
         [view.visit_stats_daily]\nkind = \"ledger\"\nfrom = \"days\"\namount = \"+n\"\n";
    crate::harness::configure(app.folder.path(), &format!("{VISITS}{more}"));
    app.restart();
    let answer = app.client().post("/v1/streams/days/events?wait=applied", r#"{"day":"x","n":5}"#);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let balance = app.client().get("/v1/views/visit_stats_daily/balances/x").json();
    assert_eq!(balance["balance"], 5, "{balance}");
    app.restart();
    app.settle();
    assert_eq!(app.view("visit_stats_daily")["state"], "running");
    assert_eq!(app.view("visit_stats")["state"], "running");
}

#[test]
fn sql_views_stay_after_the_view_is_dropped_and_work_when_it_is_configured_again() {
    let mut app = TestApp::configured(VISITS);
    send_visits(&app);
    crate::harness::configure(app.folder.path(), "");
    app.restart();
    let dropped = app.client().request("DELETE", "/v1/views/visit_stats", None);
    assert_eq!(dropped.status, 200, "{}", dropped.text());
    assert_eq!(app.sql("SELECT count(*) FROM visit_stats_daily"), "6");
    let tables = ["counts", "members", "spans"].map(|part| format!("DROP TABLE visit_stats_{part}"));
    let tables = match app.stored.store_kind {
        StoreKind::Sqlite => {
            [tables.join("; "), "DROP TABLE visit_stats_top; DROP TABLE visit_stats_floors".to_owned()]
                .join("; ")
        }
        StoreKind::Postgres => tables.map(|sql| sql + " CASCADE").join("; "),
        StoreKind::Mariadb => tables.join("; "),
    };
    app.sql(&tables);
    crate::harness::configure(app.folder.path(), VISITS);
    app.restart();
    app.settle();
    assert_equal_to_api(&app);
}

#[test]
fn amounts_in_sqlite_sort_by_value_in_the_numeric_sql_view() {
    if StoreKind::from_env().skip_unless_sqlite("other databases store amounts as numbers") {
        return;
    }
    let app = TestApp::start();
    for (user, value) in [("nine", "9"), ("ten", "10"), ("debt", "-200.5"), ("half", "0.5")] {
        let event = format!(r#"{{"userId":"{user}","name":"add_revenue","value":{value}}}"#);
        assert_eq!(app.client().post("/liveEvent", &event).status, 200);
    }
    app.settle();
    let sorted =
        "SELECT group_concat(user_id, ' ') FROM (SELECT user_id FROM users_revenue_numeric ORDER BY revenue)";
    assert_eq!(app.sql(sorted), "debt half nine ten");
    assert_eq!(
        app.sql("SELECT max(revenue), typeof(max(revenue)) FROM users_revenue_numeric"),
        "10\tinteger"
    );
    assert_eq!(app.sql("SELECT max(revenue) FROM users_revenue"), "9", "amounts themselves are text");
    // Views of kind `table` have one too, with the number of each row.
    let item = r#"{"productId":23,"productName":"Product 1","quantity":50,"price":10.99}"#;
    let sent = app.client().post("/v1/streams/inventory/events?wait=applied", item);
    assert_eq!(sent.status, 200, "{}", sent.text());
    assert_eq!(app.sql("SELECT id, typeof(price), price FROM inventory_numeric"), "1\treal\t10.99");
}

/// A restored file contains the SQL views, and the restored server uses them as its own.
#[test]
fn sql_views_are_restored_with_a_backup() {
    if StoreKind::from_env().skip_unless_sqlite("a backup contains the database only with SQLite") {
        return;
    }
    let app = TestApp::configured(VISITS);
    send_visits(&app);
    let backup = app.folder.path().join("b.tar");
    let done = app.command(&["backup", backup.to_str().unwrap()]);
    assert!(done.status.success(), "{done:?}");
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let data = folder.path().join("data");
    let done = app.command(&["restore", backup.to_str().unwrap(), "--data", data.to_str().unwrap()]);
    assert!(done.status.success(), "{done:?}");
    let restored =
        TestApp::with_folder(Start { config: Some(VISITS.to_owned()), ..Start::default() }, folder);
    restored.settle();
    assert_equal_to_api(&restored);
    assert!(!restored.log_text().contains("SQL view"), "{}", restored.log_text());
}
