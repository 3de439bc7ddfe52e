//! A view whose definition has changed pauses until a person rebuilds it or accepts the change. Every event counts
//! under the definition that applied to it.

use serde_json::{Value, json};

use crate::harness::{TestApp, configure, wait_for};

const EVENTS: &str = "/v1/streams/orders/events";
const APPLIED: &str = "/v1/streams/orders/events?wait=applied";

/// Returns a configuration with a ledger, statistics and a table on the same stream.
fn config(amount: &str, counted: &str, columns: &str) -> String {
    format!(
        r#"presets = []
        [stream.orders]
        key = "who"
        fields.who = {{ type = "text", required = true, max = 40 }}
        fields.total = {{ type = "decimal", required = true }}
        fields.kind = {{ type = "text", max = 40 }}
        [view.totals]
        kind = "ledger"
        from = "orders"
        amount = "{amount}"
        [view.kinds]
        kind = "stats"
        from = "orders"
        group = "who"
        {counted}
        [view.order_rows]
        kind = "table"
        from = "orders"
        columns = {{ {columns} }}
        "#
    )
}

const COLUMNS: &str = r#"who = "who", total = "total""#;

fn first() -> String {
    config("+total", "", COLUMNS)
}

fn with_config(config: &str) -> TestApp {
    let mut app = TestApp::configured(config);
    app.settled_at_end = false;
    app
}

fn reconfigure(app: &mut TestApp, config: &str) {
    app.settle();
    configure(app.folder.path(), config);
    app.restart();
}

fn send(app: &TestApp, path: &str, id: &str, total: i64) {
    let event = json!({ "id": id, "who": "ann", "total": total, "kind": "web" });
    let answer = app.client().post(path, &event.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn take_back(app: &TestApp, id: &str) {
    let answer = app.client().post(APPLIED, &json!({ "takesBack": id }).to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

fn balance(app: &TestApp) -> Value {
    app.client().get("/v1/views/totals/balances/ann").json()["balance"].clone()
}

/// Waits until the view is paused, and returns the reason.
fn reason(app: &TestApp, view: &str) -> String {
    wait_for("the view to pause", || app.view(view)["state"] == "paused");
    app.view(view)["reason"].as_str().unwrap().to_owned()
}

fn post(app: &TestApp, path: &str, body: &str) -> Value {
    let answer = app.client().post(path, body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn accept(app: &TestApp, view: &str) -> Value {
    post(app, &format!("/v1/views/{view}/accept"), "")
}

fn differences(app: &TestApp, view: &str) -> Value {
    post(app, &format!("/v1/views/{view}/reconcile"), "")["differenceCount"].clone()
}

fn definitions(app: &TestApp, view: &str) -> Vec<u64> {
    let shown = app.client().get(&format!("/v1/views/{view}/definition")).json();
    shown["stored"].as_array().unwrap().iter().map(|stored| stored["from"].as_u64().unwrap()).collect()
}

#[test]
fn an_accepted_change_applies_from_its_position_on_and_corrections_undo_what_was_counted() {
    let mut app = with_config(&first());
    send(&app, APPLIED, "a", 10);
    send(&app, APPLIED, "b", 2);
    reconfigure(&mut app, &config("-total", "", COLUMNS));
    let reason = reason(&app, "totals");
    assert!(reason.contains("`amount` was \"+total\" and is now \"-total\""), "{reason}");
    assert!(reason.contains("`millrace view rebuild totals`"), "{reason}");
    assert!(reason.contains("`millrace view accept totals` to keep the rows"), "{reason}");
    assert_eq!(
        (app.view("totals")["position"].clone(), app.view("totals")["lag"].clone()),
        (json!(2), json!(0))
    );
    send(&app, EVENTS, "c", 3);
    assert_eq!(balance(&app), 12, "a paused view applies nothing");
    assert_eq!(differences(&app, "totals"), 0, "the rows are right under the definition that made them");

    let accepted = accept(&app, "totals");
    assert_eq!(accepted["from"], 2, "{accepted}");
    assert_eq!(accepted["changes"], json!([{ "setting": "amount", "was": "+total", "is": "-total" }]));
    app.settle();
    assert_eq!(balance(&app), 9);
    assert_eq!(accept(&app, "totals")["changes"], json!([]), "there is nothing more to accept");
    take_back(&app, "a");
    assert_eq!(balance(&app), -1, "what was added is subtracted");
    take_back(&app, "c");
    assert_eq!(balance(&app), 2, "what was subtracted is added");
    assert_eq!(differences(&app, "totals"), 0);
    app.sql("UPDATE totals SET balance = '99'");
    assert_eq!(post(&app, "/v1/views/totals/rebuild", "")["differenceCount"], 1);
    assert_eq!((balance(&app), definitions(&app, "totals")), (json!(2), vec![0, 2]));
    app.restart();
    send(&app, APPLIED, "d", 1);
    assert_eq!(balance(&app), 1);
}

#[test]
fn a_rebuild_makes_all_rows_again_under_the_changed_definition() {
    let mut app = with_config(&first());
    send(&app, APPLIED, "a", 10);
    reconfigure(&mut app, &config("-total", "counts = [\"kind\"]\ndistinct = \"kind\"", COLUMNS));
    for view in ["totals", "kinds"] {
        reason(&app, view);
        post(&app, &format!("/v1/views/{view}/rebuild"), "");
    }
    send(&app, APPLIED, "b", 1);
    assert_eq!(balance(&app), -11);
    take_back(&app, "a");
    assert_eq!(balance(&app), -1);
    assert_eq!((definitions(&app, "totals"), definitions(&app, "kinds")), (vec![0], vec![0]));
    assert_eq!((differences(&app, "totals"), differences(&app, "kinds")), (json!(0), json!(0)));
    let stats = app.client().get("/v1/views/kinds/stats?group=ann").json();
    assert_eq!((&stats["total"], &stats["distinct"]), (&json!(1), &json!(1)), "{stats}");
}

#[test]
fn statistics_that_count_more_keep_their_numbers_and_count_the_rest_from_then_on() {
    let mut app = with_config(&first());
    send(&app, APPLIED, "a", 1);
    reconfigure(&mut app, &config("+total", "counts = [\"kind\"]\ndistinct = \"kind\"", COLUMNS));
    let reason = reason(&app, "kinds");
    assert!(reason.contains("`counts` was [] and is now [\"kind\"]"), "{reason}");
    assert!(reason.contains("`distinct` was absent and is now \"kind\""), "{reason}");
    accept(&app, "kinds");
    send(&app, APPLIED, "b", 1);
    let stats = || app.client().get("/v1/views/kinds/stats?group=ann").json();
    assert_eq!((&stats()["total"], &stats()["distinct"]), (&json!(2), &json!(1)), "{}", stats());
    take_back(&app, "a");
    assert_eq!((&stats()["total"], &stats()["distinct"]), (&json!(1), &json!(1)), "{}", stats());
    take_back(&app, "b");
    assert_eq!((&stats()["total"], &stats()["distinct"]), (&json!(0), &json!(0)), "{}", stats());
    assert_eq!(differences(&app, "kinds"), 0);
}

#[test]
fn rows_of_an_earlier_definition_are_compared_and_restored_under_it() {
    let mut app = with_config(&first());
    send(&app, APPLIED, "a", 1);
    app.settle();
    app.sql("ALTER TABLE order_rows ADD COLUMN kind VARCHAR(40)");
    reconfigure(&mut app, &config("+total", "", r#"who = "who", total = "total", kind = "kind""#));
    let reason = reason(&app, "order_rows");
    assert!(reason.contains("`columns.kind` was absent and is now \"kind\""), "{reason}");
    accept(&app, "order_rows");
    send(&app, APPLIED, "b", 2);
    let rows =
        || app.sql("SELECT CASE WHEN kind IS NULL THEN 'none' ELSE kind END FROM order_rows ORDER BY total");
    assert_eq!(rows(), "none\nweb");
    assert_eq!(differences(&app, "order_rows"), 0);
    app.sql("DELETE FROM order_rows");
    assert_eq!(post(&app, "/v1/views/order_rows/rebuild", "")["differenceCount"], 2);
    assert_eq!(rows(), "none\nweb");
    take_back(&app, "a");
    assert_eq!(rows(), "web");
}

#[test]
fn a_change_that_was_accepted_before_the_restart_needs_no_pause() {
    let new = config("-total", "", COLUMNS);
    let definition = {
        let app = with_config(&new);
        app.client().get("/v1/views/totals/definition").json()["configured"].clone()
    };
    let mut app = with_config(&first());
    send(&app, APPLIED, "a", 10);
    let prepared = post(&app, "/v1/views/totals/accept", &definition.to_string());
    assert_eq!((&prepared["from"], &prepared["changes"][0]["is"]), (&Value::Null, &json!("-total")));
    send(&app, APPLIED, "b", 5);
    assert_eq!(balance(&app), 15, "the running configuration has the earlier definition");
    reconfigure(&mut app, &new);
    send(&app, APPLIED, "c", 1);
    assert_eq!((balance(&app), definitions(&app, "totals")), (json!(14), vec![0, 2]));
    // Going back is a change like any other.
    reconfigure(&mut app, &first());
    assert!(reason(&app, "totals").contains("`amount` was \"-total\" and is now \"+total\""));
}

#[test]
fn changes_that_cannot_alter_rows_pass() {
    let mut app = with_config(&first());
    send(&app, APPLIED, "a", 10);
    let wider = first()
        .replace("max = 40", "max = 50")
        .replace("[view.totals]", "fields.note = { type = \"text\" }\n[view.totals]");
    // The wider field needs a wider column, as before.
    app.stored.native_sql(app.stored.store_kind.pick([
        "SELECT 1",
        "ALTER TABLE order_rows ALTER COLUMN who TYPE VARCHAR(50)",
        "ALTER TABLE order_rows MODIFY who VARCHAR(50) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL",
    ]));
    reconfigure(&mut app, &wider);
    send(&app, APPLIED, "b", 1);
    assert_eq!(balance(&app), 11);
    for view in ["totals", "kinds", "order_rows"] {
        assert_eq!((definitions(&app, view), differences(&app, view)), (vec![0], json!(0)), "{view}");
    }
}

#[test]
fn a_rebuild_that_was_cut_off_has_to_be_finished_before_any_definition_continues() {
    let mut app = with_config(&first());
    send(&app, APPLIED, "a", 10);
    let new = config("-total", "", COLUMNS);
    configure(app.folder.path(), &new);
    app.restart_with(|start| {
        start.environment = vec![("MILLRACE_FAILPOINTS".to_owned(), "rebuild.page_mended=abort".to_owned())];
    });
    reason(&app, "totals");
    assert!(
        app.client().try_request("POST", "/v1/views/totals/rebuild", None).is_err(),
        "the server was killed"
    );
    for config in [first(), new] {
        configure(app.folder.path(), &config);
        app.restart_with(|start| start.environment.clear());
        let reason = reason(&app, "totals");
        assert!(reason.contains("run `millrace view rebuild totals` again"), "{reason}");
        assert_eq!(app.client().post("/v1/views/totals/accept", "").status, 409);
    }
    post(&app, "/v1/views/totals/rebuild", "");
    send(&app, APPLIED, "b", 1);
    assert_eq!((balance(&app), differences(&app, "totals")), (json!(-11), json!(0)));
}

#[test]
fn rows_of_a_millrace_that_stored_no_definitions_are_taken_over() {
    let mut app = with_config(&first());
    send(&app, APPLIED, "a", 10);
    app.settle();
    app.kill();
    app.sql("UPDATE millrace_positions SET definition = NULL");
    app.sql("DELETE FROM millrace_definitions");
    app.restart();
    send(&app, APPLIED, "b", 1);
    assert_eq!((balance(&app), definitions(&app, "totals")), (json!(11), vec![0]));
    assert_eq!(differences(&app, "totals"), 0);
}
