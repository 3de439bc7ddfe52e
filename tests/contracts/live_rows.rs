//! Live: the rows of a table, as a view writes them and as corrections remove them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::event_stream::EventStream;
use crate::harness::{Client, TestApp, wait_for};

const LIVE: &str = "/v1/views/sales/live";
const QUIET: Duration = Duration::from_millis(700);

fn start() -> TestApp {
    TestApp::configured(
        r#"
presets = []
[stream.sales]
key = "who"
fields.who = { type = "text", required = true }
fields.price = { type = "decimal" }
[stream.noise]
key = "who"
fields.who = { type = "text", required = true }
[view.sales]
kind = "table"
from = "sales"
"#,
    )
}

fn sell(client: &Client, who: &str, price: &str) -> Value {
    let body = format!(r#"{{"who":"{who}","price":{price}}}"#);
    let answer = client.post("/v1/streams/sales/events?wait=applied", &body);
    assert_eq!((answer.status, &answer.json()["applied"]), (200, &json!(true)), "{}", answer.text());
    answer.json()
}

#[test]
fn rows_are_sent_in_order_and_removed_by_corrections_also_for_readers_that_come_again() {
    let mut app = start();
    let client = app.client();
    let mut stream = EventStream::open(&client, LIVE);
    let begin = stream.wait_for_place();
    let first = sell(&client, "ann", "10.50");
    let row = stream.next().unwrap();
    assert!(row.data.contains(r#""price":10.5"#), "{}", row.data);
    let shown = client.get("/v1/views/sales/rows").json()["rows"][0].clone();
    assert_eq!(row.json(), json!({ "view": "sales", "position": 0, "row": shown }));
    // Other streams, and their corrections, are not this table's.
    let noise = client.post("/v1/streams/noise/events", r#"{"who":"x"}"#).json();
    client.post("/v1/streams/noise/events", &json!({ "takesBack": noise["eventId"] }).to_string());
    sell(&client, "bob", "1");
    assert_eq!(stream.change()["row"]["who"], "bob");
    let after_bob = stream.id.clone();
    let undo = json!({ "takesBack": first["eventId"] }).to_string();
    assert_eq!(client.post("/v1/streams/sales/events?wait=applied", &undo).status, 200);
    assert_eq!(stream.change(), json!({ "view": "sales", "position": 4, "removes": 0 }));
    app.restart();
    let client = app.client();
    let mut again = EventStream::open(&client, &format!("{LIVE}?after={after_bob}"));
    assert_eq!(again.change()["removes"], 0);
    sell(&client, "carl", "2");
    assert_eq!(again.change()["row"]["who"], "carl");
    // A row that is not there any more is not sent, but its removal is.
    let mut all = EventStream::open(&client, &format!("{LIVE}?after={begin}"));
    let rest: Vec<Value> = (0..3).map(|_| all.change()).collect();
    assert_eq!(
        (&rest[0]["row"]["who"], &rest[1]["removes"], &rest[2]["row"]["who"]),
        (&json!("bob"), &json!(0), &json!("carl"))
    );
}

#[test]
fn many_rows_are_sent_without_a_gap_to_readers_that_begin_at_any_time() {
    const ROWS: usize = 5_000;
    let app = start();
    let client = app.client();
    let mut live = EventStream::open(&client, LIVE);
    let begin = live.wait_for_place();
    let lines: String = (0..ROWS).map(|price| format!("{{\"who\":\"u\",\"price\":{price}}}\n")).collect();
    assert_eq!(client.post_lines("/v1/streams/sales/events", &lines).status, 200);
    for price in 0..ROWS {
        assert_eq!(live.change()["row"]["price"], price);
    }
    let mut late = EventStream::open(&client, &format!("{LIVE}?after={begin}"));
    for price in 0..ROWS {
        assert_eq!(late.change()["row"]["price"], price);
    }
}

#[test]
fn a_rebuild_and_an_erasure_start_readers_of_rows_afresh() {
    let app = start();
    let client = app.client();
    sell(&client, "ann", "1");
    let mut stream = EventStream::open(&client, LIVE);
    let before = stream.wait_for_place();
    assert_eq!(client.post("/v1/views/sales/rebuild", "").status, 200);
    // A rebuild tells its readers when it begins and when it ends. Rows before the message are in the table.
    let resets = stream.until_quiet(QUIET);
    let told = json!({ "view": "sales", "reason": "rows-replaced" });
    assert!(!resets.is_empty() && resets.iter().all(|event| event.name == "reset" && event.json() == told));
    sell(&client, "bob", "2");
    assert_eq!(stream.change()["row"]["who"], "bob");
    let mut late = EventStream::open(&client, &format!("{LIVE}?after={before}"));
    assert_eq!(late.named("reset")["reason"], "rows-replaced");
    sell(&client, "carl", "3");
    assert_eq!(late.change()["row"]["who"], "carl");
    assert_eq!(client.post("/v1/streams/sales/erasures", r#"{"value":"ann"}"#).status, 200);
    loop {
        let event = late.next().unwrap();
        if event.name == "reset" {
            break assert_eq!(event.json()["reason"], "rows-replaced");
        }
        assert_eq!(event.json()["removes"], 0, "{event:?}");
    }
}

/// The store of an earlier millrace has no generations. The column is added at the start.
#[test]
fn a_rebuild_of_a_view_of_an_earlier_millrace_starts_its_readers_afresh() {
    let mut app = start();
    sell(&app.client(), "ann", "1");
    app.kill();
    let version = app.stored.store_kind.pick(["4", "'4'", "'4'"]);
    app.sql("ALTER TABLE millrace_positions DROP COLUMN generation");
    app.sql(&format!("UPDATE millrace_meta SET value = {version} WHERE name = 'schema'"));
    app.restart();
    let client = app.client();
    app.settle();
    let mut stream = EventStream::open(&client, LIVE);
    stream.wait_for_place();
    assert_eq!(client.post("/v1/views/sales/rebuild", "").status, 200);
    assert_eq!(stream.named("reset")["reason"], "rows-replaced");
}

#[test]
fn a_rebuild_that_was_killed_starts_readers_afresh() {
    let mut app = start();
    sell(&app.client(), "ann", "1");
    let place = EventStream::open(&app.client(), LIVE).wait_for_place();
    app.restart_with(|start| {
        start.environment = vec![("MILLRACE_FAILPOINTS".to_owned(), "rebuild.mended=abort".to_owned())];
    });
    drop(app.client().try_request("POST", "/v1/views/sales/rebuild", Some(("application/json", b""))));
    wait_for("the kill", || app.is_gone());
    app.restart_with(|start| start.environment.clear());
    let mut again = EventStream::open(&app.client(), &format!("{LIVE}?after={place}"));
    assert_eq!(again.named("reset")["reason"], "rows-replaced");
}

#[test]
fn a_reader_whose_rows_were_deleted_continues_with_what_is_left() {
    let app = start();
    let client = app.client();
    let begin = EventStream::open(&client, LIVE).wait_for_place();
    for price in ["1", "2", "3"] {
        sell(&client, "ann", price);
    }
    // Retention notes what it deletes before it does so.
    app.sql(
        "INSERT INTO millrace_retained (stream, log_id, part, position, blanked) \
         SELECT 'rows:sales', log_id, 0, 2, 0 FROM millrace_positions WHERE view = 'sales'",
    );
    let mut late = EventStream::open(&client, &format!("{LIVE}?after={begin}"));
    assert_eq!(late.named("reset"), json!({ "view": "sales", "reason": "deleted" }));
    assert_eq!(late.change()["row"]["price"], 3);
}
