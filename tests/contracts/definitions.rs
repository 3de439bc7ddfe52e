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

/// Returns the definition of a view in the configuration.
fn configured(app: &TestApp, view: &str) -> Value {
    app.client().get(&format!("/v1/views/{view}/definition")).json()["configured"].clone()
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
    let definition = configured(&with_config(&new), "totals");
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
fn a_definition_that_cannot_be_read_is_refused_in_plain_words() {
    let app = with_config(&first());
    for (body, reason) in [
        (&b"{"[..], "definition: line 1, column 1: the JSON ends inside an object"),
        (b"5", "definition: line 1, column 1: expected an object, got a number"),
        (b"\xff", "the definition is not valid UTF-8"),
        (br#"{"kind":"ledger"}"#, "definition: `from` is missing"),
        (br#"{"from":"a","fields":{},"kind":"leger"}"#, "`leger` does not exist; did you mean `ledger`?"),
        (br#"{"from":1,"fields":{},"kind":"ledger"}"#, "expected text, got a number"),
        (br#"{"from":"a","fields":{"b":"decmal"},"kind":"ledger"}"#, "did you mean `decimal`?"),
        (
            br#"{"from":"a","fields":{},"kind":"ledger","key":"b","amount":1}"#,
            "a value has none of its possible forms",
        ),
    ] {
        let body = Some(("application/json", body));
        let refused = app.client().request("POST", "/v1/views/totals/accept", body);
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert_eq!(refused.status, 400, "{detail}");
        assert!(detail.contains(reason), "{detail}");
    }
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
    for point in ["rebuild.redefined", "rebuild.page_mended", "rebuild.mended"] {
        let mut app = with_config(&first());
        send(&app, APPLIED, "a", 10);
        let new = config("-total", "", COLUMNS);
        configure(app.folder.path(), &new);
        restart_killed_at(&mut app, point);
        reason(&app, "totals");
        assert!(is_killed_by(&app, "/v1/views/totals/rebuild"), "{point}");
        for config in [first(), new] {
            configure(app.folder.path(), &config);
            app.restart_with(|start| start.environment.clear());
            let reason = reason(&app, "totals");
            assert!(reason.contains("run `millrace view rebuild totals` again"), "{point}: {reason}");
            assert_eq!(app.client().post("/v1/views/totals/accept", "").status, 409, "{point}");
        }
        post(&app, "/v1/views/totals/rebuild", "");
        send(&app, APPLIED, "b", 1);
        assert_eq!((balance(&app), differences(&app, "totals")), (json!(-11), json!(0)), "{point}");
    }
}

#[test]
fn an_accept_that_was_cut_off_changes_nothing_and_can_be_repeated() {
    let mut app = with_config(&first());
    send(&app, APPLIED, "a", 1);
    app.settle();
    configure(app.folder.path(), &config("+total", "distinct = \"kind\"", COLUMNS));
    restart_killed_at(&mut app, "definition.tables_made");
    reason(&app, "kinds");
    assert!(is_killed_by(&app, "/v1/views/kinds/accept"));
    app.restart_with(|start| start.environment.clear());
    reason(&app, "kinds");
    assert_eq!(accept(&app, "kinds")["from"], 1);
    send(&app, APPLIED, "b", 1);
    assert_eq!(differences(&app, "kinds"), 0);
}

fn restart_killed_at(app: &mut TestApp, point: &str) {
    app.restart_with(|start| {
        start.environment = vec![("MILLRACE_FAILPOINTS".to_owned(), format!("{point}=abort"))];
    });
}

fn is_killed_by(app: &TestApp, path: &str) -> bool {
    app.client().try_request("POST", path, None).is_err()
}

/// Corrections of earlier events and new events may be in one batch, in any order.
#[test]
fn a_batch_may_undo_earlier_events_and_add_new_ones() {
    let mut app = with_config(&first());
    for (id, total) in [("a", 10), ("b", 20), ("c", 40)] {
        send(&app, APPLIED, id, total);
    }
    app.settle();
    app.sql("ALTER TABLE order_rows ADD COLUMN kind VARCHAR(40)");
    let columns = r#"who = "who", total = "total", kind = "kind""#;
    reconfigure(&mut app, &config("-total", "counts = [\"kind\"]\ndistinct = \"kind\"", columns));
    for view in ["totals", "kinds", "order_rows"] {
        reason(&app, view);
        accept(&app, view);
    }
    let event = |id: &str, total: u32| json!({ "id": id, "who": "ann", "total": total, "kind": "web" });
    let batch = json!([{ "takesBack": "a" }, event("d", 1), { "takesBack": "b" }, event("e", 2)]);
    let answer = app.client().post(APPLIED, &batch.to_string());
    assert_eq!((answer.status, &answer.json()["applied"]), (200, &json!(true)), "{}", answer.text());
    assert_eq!(balance(&app), 37, "40 of event c, less 1 and 2");
    assert_eq!(app.sql("SELECT count(*) FROM order_rows"), "3");
    let stats = app.client().get("/v1/views/kinds/stats?group=ann").json();
    assert_eq!((&stats["total"], &stats["distinct"]), (&json!(3), &json!(1)), "{stats}");
    for view in ["totals", "kinds", "order_rows"] {
        assert_eq!(differences(&app, view), 0, "{view}");
    }
}

#[test]
fn a_view_of_another_stream_or_kind_cannot_keep_its_rows() {
    let mut app = with_config(&first());
    send(&app, APPLIED, "a", 10);
    let other = "[stream.others]\nkey = \"who\"\nfields.who = { type = \"text\", required = true }\n\
                 fields.total = { type = \"decimal\", required = true }\n[view.totals]";
    let changed =
        first().replace("[view.totals]", other).replacen("from = \"orders\"", "from = \"others\"", 1);
    reconfigure(&mut app, &changed);
    let reason = reason(&app, "totals");
    assert!(reason.contains("`from` was \"orders\" and is now \"others\""), "{reason}");
    assert!(reason.contains("rebuild totals") && !reason.contains("accept"), "{reason}");
    let refused = app.client().post("/v1/views/totals/accept", "");
    assert_eq!(refused.status, 409, "{}", refused.text());
    post(&app, "/v1/views/totals/rebuild", "");
    app.settle();
    assert_eq!(balance(&app), 0, "no event of the other stream has arrived");
}

/// The rows would lose the event, and no dead letter would tell.
#[test]
fn a_rebuild_is_refused_if_the_new_definition_cannot_apply_an_event_of_the_rows() {
    let mut app = with_config(&first());
    send(&app, APPLIED, "a", 10);
    let changed =
        first().replace("fields.kind", "fields.extra = { type = \"decimal\", required = true }\nfields.kind");
    let columns = r#"who = "who", total = "total", kind = "kind""#;
    reconfigure(&mut app, &changed.replace("+total", "+extra").replace(COLUMNS, columns));
    app.sql("ALTER TABLE order_rows ADD COLUMN kind VARCHAR(40)");
    reason(&app, "totals");
    let refused = app.client().post("/v1/views/totals/rebuild", "");
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(refused.text().contains("cannot apply the event at position 0"), "{}", refused.text());
    assert_eq!((balance(&app), differences(&app, "totals")), (json!(10), json!(0)), "nothing was changed");
    accept(&app, "totals");
}

/// A table is repaired while the log is read, so the log is read once before the first row is replaced.
#[test]
fn a_rebuild_of_rows_is_refused_before_the_first_row_is_replaced() {
    let mut app = with_config(&first());
    send(&app, APPLIED, "a", 1);
    app.settle();
    app.sql("ALTER TABLE order_rows ADD COLUMN kind INTEGER");
    let columns = r#"who = "who", total = "total", kind = "kind""#;
    let changed =
        config("+total", "", columns).replace(r#"type = "text", max = 40 }"#, r#"type = "integer" }"#);
    reconfigure(&mut app, &changed);
    reason(&app, "order_rows");
    let refused = app.client().post("/v1/views/order_rows/rebuild", "");
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(refused.text().contains("cannot apply the event at position 0"), "{}", refused.text());
    accept(&app, "order_rows");
    app.settle();
    assert_eq!(differences(&app, "order_rows"), 0);
}

#[test]
fn an_accepted_definition_is_withdrawn_by_accepting_the_present_one() {
    let new = config("-total", "", COLUMNS);
    let prepared = configured(&with_config(&new), "totals");
    let mut app = with_config(&first());
    send(&app, APPLIED, "a", 10);
    post(&app, "/v1/views/totals/accept", &prepared.to_string());
    let present = configured(&app, "totals");
    post(&app, "/v1/views/totals/accept", &present.to_string());
    reconfigure(&mut app, &new);
    reason(&app, "totals");
}

#[test]
fn a_change_that_was_accepted_ends_one_that_was_prepared() {
    let prepared_config = config("-total", "", COLUMNS);
    let definition = configured(&with_config(&prepared_config), "totals");
    let by_kind = first().replace(
        "max = 40 }\n        [view",
        "max = 40 }\n        fields.other = { type = \"decimal\", required = true }\n        [view",
    );
    let mut app = with_config(&by_kind);
    let event = json!({ "id": "a", "who": "ann", "total": 10, "other": 3 });
    assert_eq!(app.client().post(APPLIED, &event.to_string()).status, 200);
    post(&app, "/v1/views/totals/accept", &definition.to_string());
    reconfigure(&mut app, &by_kind.replace("+total", "+other"));
    reason(&app, "totals");
    accept(&app, "totals");
    reconfigure(&mut app, &prepared_config);
    reason(&app, "totals");
}

/// Otherwise the view would pause again, and going back would be a change, too.
#[test]
fn a_change_is_neither_accepted_nor_rebuilt_if_the_table_does_not_fit_it() {
    let mut app = with_config(&first());
    send(&app, APPLIED, "a", 1);
    reconfigure(&mut app, &config("+total", "", r#"who = "who", total = "total", kind = "kind""#));
    reason(&app, "order_rows");
    for decision in ["accept", "rebuild"] {
        let refused = app.client().post(&format!("/v1/views/order_rows/{decision}"), "");
        assert_eq!(refused.status, 409, "{}", refused.text());
        assert!(refused.text().contains("to fix it, run: ALTER TABLE"), "{}", refused.text());
    }
    reconfigure(&mut app, &first());
    send(&app, APPLIED, "b", 1);
    assert_eq!(differences(&app, "order_rows"), 0, "nothing has changed");
}

/// Otherwise neither the new nor the old configuration could continue the view.
#[test]
fn a_prepared_definition_is_not_in_force_before_the_table_fits_it() {
    let new = config("+total", "", r#"who = "who", total = "total", kind = "kind""#);
    let definition = configured(&with_config(&new), "order_rows");
    let mut app = with_config(&first());
    send(&app, APPLIED, "a", 1);
    let prepared = post(&app, "/v1/views/order_rows/accept", &definition.to_string());
    assert_eq!(prepared["effect"], "prepared");
    reconfigure(&mut app, &new);
    assert!(reason(&app, "order_rows").contains("to fix it, run: ALTER TABLE"));
    reconfigure(&mut app, &first());
    send(&app, APPLIED, "b", 1);
    assert_eq!(differences(&app, "order_rows"), 0, "the configuration can be taken back");
    app.sql("ALTER TABLE order_rows ADD COLUMN kind VARCHAR(40)");
    reconfigure(&mut app, &new);
    send(&app, APPLIED, "c", 1);
    assert_eq!(definitions(&app, "order_rows"), [0, 2]);
}

/// The same table must not hold rows of two definitions, whichever log they come from.
#[test]
fn another_log_does_not_continue_a_view_under_another_definition() {
    let mut app = with_config(&first());
    send(&app, APPLIED, "a", 10);
    app.settle();
    app.stop();
    std::fs::remove_dir_all(app.data().join("journal")).unwrap();
    configure(app.folder.path(), &config("-total", "", COLUMNS));
    app.restart_with(|start| start.arguments.push("--accept-new-log".to_owned()));
    let reason = reason(&app, "totals");
    assert!(reason.contains("rows from another log"), "{reason}");
    send(&app, EVENTS, "b", 3);
    assert_eq!(balance(&app), 10);
    accept(&app, "totals");
    app.settle();
    assert_eq!(balance(&app), 7);
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
