//! Views with a row per event: the tables of contracts 3 and 4, queries, corrections, comparison and repair,
//! and tables that existed before the view.

use serde_json::{Value, json};

use crate::harness::{StoreKind, TestApp, wait_for};

const SITE: &str = "/v1/streams/site_events/events?wait=applied";
const ROWS: &str = "/v1/views/site_events/rows";

fn send(app: &TestApp, path: &str, body: &str) -> Value {
    let answer = app.client().post(path, body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn visit(site: &str, user: &str) -> String {
    format!(
        r#"{{"site_id":"{site}","event_type":"page_view","path":"/p","user_id":"{user}","timestamp":"2025-11-01T10:00:00Z"}}"#
    )
}

/// Returns each row as one text, in the order of the query.
fn table(app: &TestApp, sql: &str) -> Vec<String> {
    app.sql(&sql.replace("{when}", app.stored.store_kind.pick(WHEN))).lines().map(str::to_owned).collect()
}

const EVENTS: &str = "SELECT concat_ws(' ', id, site_id, event_type, coalesce(path, '-'), coalesce(user_id, '-'), {when}) FROM events ORDER BY id";

/// The SQL for an event's time in UTC, to the millisecond, independent of the session's time zone.
const WHEN: [&str; 3] = [
    "substr(timestamp || '.000', 1, 23)",
    "to_char(timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS')",
    "substr(date_format(timestamp, '%Y-%m-%d %H:%i:%s.%f'), 1, 23)",
];

#[test]
fn an_event_becomes_a_row_and_absent_fields_are_null() {
    let app = TestApp::start();
    let lines = [
        visit("site-111", "u1"),
        r#"{"site_id":7,"event_type":"é","path":"","user_id":null,"timestamp":"2025-11-01T11:00:00.250+01:00"}"#.to_owned(),
        r#"{"site_id":"site-111","event_type":"click","timestamp":1761955200000,"other":[1]}"#.to_owned(),
    ];
    let answer = app.client().post_lines(SITE, &lines.join("\n"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        table(&app, EVENTS),
        [
            "1 site-111 page_view /p u1 2025-11-01 10:00:00.000",
            "2 7 é - - 2025-11-01 10:00:00.250",
            "3 site-111 click - - 2025-11-01 00:00:00.000",
        ]
    );
    // An event without a time gets the time at which it was received.
    let id = send(&app, SITE, r#"{"site_id":"s","event_type":"t"}"#)["eventId"].clone();
    let received =
        app.client().get(&format!("/v1/events/{}", id.as_str().unwrap())).json()["receivedAt"].clone();
    let rows = app.client().get(&format!("{ROWS}?site_id=s")).json();
    let row = json!({ "id": 4, "site_id": "s", "event_type": "t", "path": null, "user_id": null, "timestamp": received });
    assert_eq!(rows, json!({ "rows": [row], "next": null }));
    let declared = app.stored.store_kind.pick([
        "SELECT name || ' ' || type || ' ' || CASE \"notnull\" OR pk WHEN 1 THEN 'NO' ELSE 'YES' END FROM pragma_table_info('events')",
        "SELECT column_name || ' ' || data_type || ' ' || is_nullable FROM information_schema.columns
         WHERE table_name = 'events' ORDER BY ordinal_position",
        "SELECT column_name || ' ' || column_type || ' ' || is_nullable FROM information_schema.columns
         WHERE table_name = 'events' AND table_schema = database() ORDER BY ordinal_position",
    ]);
    let [number, text, time] = app.stored.store_kind.pick([
        ["INTEGER", "TEXT", "TEXT"],
        ["bigint", "character varying", "timestamp with time zone"],
        ["bigint(20)", "varchar", "datetime(3)"],
    ]);
    let declared: Vec<String> = table(&app, declared).iter().map(|line| without_lengths(line)).collect();
    assert_eq!(
        declared,
        [
            format!("id {number} NO"),
            format!("site_id {text} NO"),
            format!("event_type {text} NO"),
            format!("path {text} YES"),
            format!("user_id {text} YES"),
            format!("timestamp {time} NO"),
        ]
    );
}

#[test]
fn rows_are_read_in_pages_and_by_values() {
    let app = TestApp::start();
    let lines: Vec<String> = (0..50).map(|n| visit(&format!("s{}", n % 3), &format!("u{n}"))).collect();
    assert_eq!(app.client().post_lines(SITE, &lines.join("\n")).status, 200);
    let client = app.client();
    let (mut path, mut seen) = (format!("{ROWS}?limit=20"), Vec::new());
    loop {
        let page = client.get(&path).json();
        seen.extend(page["rows"].as_array().unwrap().iter().map(|row| row["id"].as_i64().unwrap()));
        match page["next"].as_i64() {
            Some(next) => path = format!("{ROWS}?limit=20&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, Vec::from_iter(1..=50));
    let users = |query: &str| -> Vec<String> {
        let page = client.get(&format!("{ROWS}?{query}")).json();
        page["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["user_id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(users("site_id=s1&user_id=u4"), ["u4"]);
    assert_eq!(users("site_id=s1&limit=2&after=5"), ["u7", "u10"]);
    assert_eq!(users("timestamp=2025-11-01T11:00:00%2B01:00&limit=1"), ["u0"]);
    assert_eq!(users("site_id=S1"), Vec::<String>::new());
    for (query, status) in [("other=1", 400), ("limit=x", 400), ("after=1.5", 400), ("timestamp=soon", 400)] {
        assert_eq!(client.get(&format!("{ROWS}?{query}")).status, status, "{query}");
    }
    assert_eq!(app.anonymous().get(ROWS).status, 401);
    for path in
        ["/v1/views/revenue/rows", "/v1/views/site_events/balances", "/v1/views/site_events/balances/a"]
    {
        assert_eq!(client.get(path).status, 404, "{path}");
    }
    // This view has no event yet, and so no table.
    assert_eq!(client.get("/v1/views/inventory/rows").text(), r#"{"rows":[],"next":null}"#);
}

/// The source refuses a time that a database would reject, so that no client can pause the view with one.
#[test]
fn every_accepted_time_fits_the_table() {
    let app = TestApp::start();
    let at = |time: &str| format!(r#"{{"site_id":"s","event_type":"t","timestamp":{time}}}"#);
    for time in
        ["\"0000-12-31\"", "\"-000001-01-01\"", "-62135596800001", "253402300800000", "-250000000000000"]
    {
        assert_eq!(app.client().post(SITE, &at(time)).status, 400, "{time}");
    }
    for time in ["\"0001-01-01\"", "253402300799999", "\"9999-12-31\""] {
        send(&app, SITE, &at(time));
    }
    assert_eq!(
        table(&app, EVENTS),
        [
            "1 s t - - 0001-01-01 00:00:00.000",
            "2 s t - - 9999-12-31 23:59:59.999",
            "3 s t - - 9999-12-31 00:00:00.000",
        ]
    );
    let rows = app.client().get(&format!("{ROWS}?site_id=s")).json();
    assert_eq!(rows["rows"][1]["timestamp"], "9999-12-31T23:59:59.999Z");
}

#[test]
fn values_keep_their_digits_in_the_table_and_in_responses() {
    let app = TestApp::configured(
        r#"
        [stream.things]
        key = "name"
        fields.name = { type = "text", required = true }
        fields.price = { type = "decimal", required = true }
        fields.count = { type = "integer" }
        fields.sold = { type = "boolean" }
        fields.more = { type = "any" }
        fields."by.whom" = { type = "text" }
        [view.things]
        kind = "table"
        from = "things"
        id_column = "number of \"the\" row"
        "#,
    );
    let thing = r#"{"name":"a","price":999999999999999.9999,"count":-9223372036854775808,"sold":true,"more":{"x":[1e400, 0.10]},"by":{"whom":"b"}}"#;
    send(&app, "/v1/streams/things/events?wait=applied", thing);
    assert_eq!(
        app.client().get("/v1/views/things/rows?price=999999999999999.9999&sold=true").text(),
        r#"{"rows":[{"number of \"the\" row":1,"by_whom":"b","count":-9223372036854775808,"more":{"x":[1e400, 0.10]},"name":"a","price":999999999999999.9999,"sold":true}],"next":null}"#
    );
    let sql = r#"SELECT concat_ws(' ', price, CASE WHEN sold THEN 1 ELSE 0 END, more) FROM things"#;
    assert_eq!(table(&app, sql), [r#"999999999999999.9999 1 {"x":[1e400, 0.10]}"#]);
    assert_eq!(app.client().get("/v1/views/things/rows?more=1").status, 400);
}

#[test]
fn inventory_rows_follow_their_contract_and_values_that_do_not_fit_are_refused() {
    let app = TestApp::start();
    let path = "/v1/streams/inventory/events?wait=applied";
    send(
        &app,
        path,
        r#"{"productId":23,"productName":"Product 1","quantity":50,"price":10.99,"timestamp":1}"#,
    );
    let sql = "SELECT concat_ws(' ', id, product_id, product_name, quantity, CASE WHEN price = '10.99' THEN 'at its price' END,
               CASE WHEN created_at = updated_at THEN 'once' END) FROM inventory";
    assert_eq!(table(&app, sql), ["1 23 Product 1 50 at its price once"]);
    for wrong in [
        r#"{"productId":2147483648,"productName":"p","quantity":1,"price":1}"#,
        r#"{"productId":1,"productName":"p","quantity":1,"price":1.999}"#,
        r#"{"productId":1,"productName":"p","quantity":1,"price":100000000}"#,
        r#"{"productId":"x","productName":"p","quantity":1,"price":1}"#,
        r#"{"productId":1,"productName":"p","quantity":1}"#,
    ] {
        assert_eq!(app.client().post(path, wrong).status, 400, "{wrong}");
    }
}

#[test]
fn a_correction_deletes_its_row_and_no_other() {
    let app = TestApp::start();
    let first = send(&app, SITE, &format!("[{},{},{}]", visit("s", "a"), visit("s", "b"), visit("s", "c")));
    let id = first["eventIds"][1].as_str().unwrap();
    send(&app, SITE, &format!(r#"[{{"takesBack":"{id}"}},{}]"#, visit("s", "d")));
    let users = "SELECT user_id FROM events ORDER BY id";
    assert_eq!(table(&app, users), ["a", "c", "d"]);
    send(&app, SITE, &format!(r#"{{"takesBack":"{id}"}}"#));
    assert_eq!(table(&app, users), ["a", "c", "d"]);
    // A correction also works in the same batch as its event.
    app.sql("ALTER TABLE events RENAME TO elsewhere");
    send_unapplied(&app, r#"{"id":"mine","site_id":"s","event_type":"t"}"#);
    wait_for("the view to pause", || app.view("site_events")["state"] == "paused");
    send_unapplied(&app, r#"{"takesBack":"mine"}"#);
    app.sql("ALTER TABLE elsewhere RENAME TO events");
    // A sender does not wait for a paused view.
    app.settle();
    send(&app, SITE, &visit("s", "e"));
    assert_eq!(table(&app, users), ["a", "c", "d", "e"]);
    assert_eq!(ask(&app, "reconcile")["differenceCount"], 0);
    // Row numbers are not reused.
    assert_eq!(table(&app, EVENTS).last().map(|row| row.starts_with("6 ")), Some(true));
}

/// Removes the length from `varchar(255)`, but keeps the precision of a time.
fn without_lengths(line: &str) -> String {
    match line.split_once("varchar(") {
        Some((before, rest)) => format!("{before}varchar{}", rest.split_once(')').unwrap().1),
        None => line.to_owned(),
    }
}

fn ask(app: &TestApp, verb: &str) -> Value {
    app.settle();
    let answer = app.client().post(&format!("/v1/views/site_events/{verb}"), "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[test]
fn a_rebuild_repairs_rows_one_by_one_and_leaves_foreign_rows_alone() {
    let app = TestApp::start();
    let events = |from: usize, to: usize| -> String {
        let all: Vec<String> = (from..to).map(|n| visit("s", &format!("u{n}"))).collect();
        format!("[{}]", all.join(","))
    };
    send(&app, SITE, &events(0, 40));
    app.sql(
        "INSERT INTO events (site_id, event_type, timestamp) VALUES ('mine', 'x', '2020-01-01 12:00:00')",
    );
    send(&app, SITE, &events(40, 60));
    let whole = table(&app, EVENTS);
    assert_eq!(whole.len(), 61);
    assert_eq!(ask(&app, "reconcile")["differenceCount"], 0);
    app.sql(
        "DELETE FROM events WHERE id IN (3, 50);
             UPDATE events SET path = NULL, user_id = 'wrong' WHERE id = 7;
             INSERT INTO events VALUES (900, 'mine too', 'x', NULL, NULL, '2020-01-01 12:00:00')",
    );
    let report = ask(&app, "reconcile");
    assert_eq!((&report["differenceCount"], &report["keys"]), (&json!(3), &json!(60)), "{report}");
    assert_eq!(
        report["differences"],
        json!([
            { "key": "position 2, row 3", "had": null, "shouldHave": "a row" },
            { "key": "position 6, row 7", "had": "path null, user_id \"wrong\"", "shouldHave": "path \"/p\", user_id \"u6\"" },
            { "key": "position 48, row 50", "had": null, "shouldHave": "a row" },
        ])
    );
    assert_eq!(table(&app, EVENTS).len(), 60, "comparing changes nothing");
    assert_eq!(ask(&app, "rebuild")["mended"], true);
    let repaired = table(&app, EVENTS);
    assert_eq!(repaired[..61], whole);
    assert!(repaired[61].starts_with("900 mine too x - - 2020-01-01 "), "{}", repaired[61]);
    // A dropped table is recreated with the same row numbers. Rows that other programs inserted are lost.
    app.sql("DROP TABLE events");
    send_unapplied(&app, &visit("s", "late"));
    wait_for("the view to pause", || app.view("site_events")["state"] == "paused");
    let answer = app.client().post("/v1/views/site_events/rebuild", "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    app.settle();
    let again = table(&app, EVENTS);
    assert_eq!(again.len(), 61);
    assert_eq!(again[..40], whole[..40]);
    assert_eq!(again[40..60], whole[41..]);
    assert!(again[60].contains(" late "), "{}", again[60]);
    // Without the record of row numbers, all rows are inserted again.
    app.sql("DELETE FROM millrace_rows; DELETE FROM events");
    assert_eq!(ask(&app, "rebuild")["differenceCount"], 61);
    assert_eq!(table(&app, EVENTS).len(), 61);
    assert_eq!(ask(&app, "reconcile")["differenceCount"], 0);
}

fn send_unapplied(app: &TestApp, body: &str) {
    let answer = app.client().post("/v1/streams/site_events/events", body);
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Starts a server on a store in which `sql` was executed while no server was running.
fn prepared(sql: &str) -> TestApp {
    let mut app = TestApp::start();
    app.stop();
    app.sql(sql);
    app.restart();
    app
}

#[test]
fn an_existing_table_is_used_with_its_rows_and_columns() {
    let app = prepared(
        "CREATE TABLE events (id {id}, timestamp {time}, site_id {text} NOT NULL, event_type {text} NOT NULL, path {text},
             user_id {text}, note {text} NOT NULL DEFAULT 'n');
         INSERT INTO events (id, timestamp, site_id, event_type, note) VALUES (41, '2020-01-01', 'old', 't', 'kept')",
    );
    send(&app, SITE, &visit("s", "u"));
    let notes = "SELECT id || ' ' || site_id || ' ' || note FROM events ORDER BY id";
    let notes = table(&app, notes);
    // PostgreSQL's sequence does not take rows into account that were inserted with explicit numbers.
    let expected = app.stored.store_kind.pick([
        ["41 old kept", "42 s n"],
        ["1 s n", "41 old kept"],
        ["41 old kept", "42 s n"],
    ]);
    assert_eq!(notes, expected);
    assert_eq!(ask(&app, "rebuild")["differenceCount"], 0);
    assert_eq!(app.client().get(&format!("{ROWS}?site_id=old")).json()["rows"][0]["id"], 41);
}

#[test]
fn an_unsuitable_table_pauses_the_view_until_the_suggested_sql_is_run() {
    if StoreKind::from_env().skip_unless_sqlite("other databases' tables fail in other ways: `tests/store`") {
        return;
    }
    let columns = "site_id TEXT NOT NULL, event_type TEXT NOT NULL, user_id TEXT, timestamp TEXT";
    for (sql, reason) in [
        (
            format!("CREATE TABLE events (id INTEGER PRIMARY KEY, path INTEGER, {columns})"),
            "column `path` of type INTEGER",
        ),
        (
            format!("CREATE TABLE events (id INTEGER PRIMARY KEY, path TEXT NOT NULL, {columns})"),
            "column `path` that is NOT NULL",
        ),
        (format!("CREATE TABLE events (id INTEGER PRIMARY KEY, {columns})"), "has no column `path`"),
        (
            format!("CREATE TABLE events (id TEXT PRIMARY KEY, path TEXT, {columns})"),
            "needs a column `id` that is its INTEGER PRIMARY KEY",
        ),
    ] {
        let app = prepared(&sql);
        send_unapplied(&app, &visit("s", "u").replace("\"/p\"", "null"));
        wait_for("the view to pause", || app.view("site_events")["state"] == "paused");
        let paused = app.view("site_events")["reason"].as_str().unwrap().to_owned();
        assert!(paused.contains(reason), "{paused}");
        // Other views of the stream continue.
        wait_for("the other view", || app.view("site_stats")["lag"] == 0);
        app.sql(paused.split_once("to fix it, run: ").unwrap().1);
        app.settle();
        assert_eq!(table(&app, EVENTS), ["1 s page_view - u 2025-11-01 10:00:00.000"], "{sql}");
    }
}

#[test]
fn a_value_refused_by_a_column_becomes_a_dead_letter_and_blocks_no_other_row() {
    let app = prepared(
        "CREATE TABLE events (id {id}, site_id {text} NOT NULL CHECK (length(site_id) < 5), event_type {text} NOT NULL,
             path {text}, user_id {text}, timestamp {time})",
    );
    let body = format!("[{},{},{}]", visit("a", "u"), visit("too long", "u"), visit("b", "u"));
    send(&app, SITE, &body);
    assert_eq!(table(&app, "SELECT site_id FROM events ORDER BY id"), ["a", "b"]);
    let dead_letters = app.client().get("/v1/dead-letters?status=open").json();
    assert_eq!(dead_letters["deadLetters"][0]["view"], "site_events", "{dead_letters}");
    assert_eq!(ask(&app, "reconcile")["differenceCount"], 0);
}

#[test]
fn after_repeated_kills_each_event_is_one_row() {
    let mut app = TestApp::start();
    let mut sent = 0;
    for round in 0..4 {
        for _ in 0..200 {
            send_unapplied(&app, &visit(&format!("s{round}"), &format!("u{sent}")));
            sent += 1;
        }
        app.kill();
        app.restart();
    }
    app.settle();
    let users = table(&app, "SELECT user_id FROM events ORDER BY id");
    assert_eq!(users, (0..sent).map(|n| format!("u{n}")).collect::<Vec<_>>());
    assert_eq!(ask(&app, "reconcile")["differenceCount"], 0);
}

#[test]
fn an_erasure_deletes_the_rows_of_one_person_only() {
    let app = TestApp::start();
    let users = ["ann", "bob", "ann", "eve"].map(|user| visit("s", user));
    send(&app, SITE, &format!("[{}]", users.join(",")));
    let erased =
        app.client().post("/v1/streams/site_events/erasures", r#"{"field":"user_id","value":"ann"}"#);
    assert_eq!(erased.status, 200, "{}", erased.text());
    wait_for("the person to be gone", || {
        table(&app, "SELECT user_id FROM events ORDER BY id") == ["bob", "eve"]
    });
    assert_eq!(ask(&app, "reconcile")["differenceCount"], 0);
}

#[test]
fn a_retried_dead_letter_keeps_the_id_of_its_event() {
    let app = TestApp::configured(
        r#"
        [stream.parts]
        key = "who"
        fields.who = { type = "text", required = true }
        fields.n = { type = "integer", required = true }
        [view.parts]
        kind = "table"
        from = "parts"
        columns = { event = "$id", who = "who", n = "n" }
        "#,
    );
    let table = "CREATE TABLE parts (id {id}, event {text} NOT NULL, who {text} NOT NULL, n {integer} NOT NULL CHECK (n < 10))";
    app.sql(table);
    let client = app.client();
    let sent =
        client.post("/v1/streams/parts/events?wait=applied", r#"{"id":"mine","who":"a","n":50}"#).json();
    let id = sent["eventId"].as_str().unwrap();
    let receipt = client.get(&format!("/v1/events/{id}")).json();
    let dead_letter = receipt["views"]["parts"]["letter"].as_str().unwrap();
    let retried = client.post(&format!("/v1/dead-letters/{dead_letter}/retry"), r#"{"who":"a","n":5}"#);
    assert_eq!(retried.status, 200, "{}", retried.text());
    app.settle();
    assert_eq!(app.sql("SELECT event, n FROM parts"), format!("{id}\t5"));
}
