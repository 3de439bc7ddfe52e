//! WebSocket sources.

use serde_json::json;

use crate::harness::TestApp;
use crate::programs::{events, key, program};

const SALES: &str = r#"
    [stream.sales]
    key = "user"
    fields.user = { type = "text", required = true }
    fields.amount = { type = "integer", required = true }
    [source.sales]
    kind = "websocket"
    path = "/sales"
    stream = "sales"
    access = "open"
    origins = ["https://shop.example"]
    [view.sales]
    kind = "ledger"
    from = "sales"
    amount = "+amount"
    amount_column = "total"
    [view.sale_rows]
    kind = "table"
    from = "sales"
    columns = { amount = "amount", client = "$client", program = "$user_agent", address = "$address" }
"#;

#[test]
fn each_frame_is_answered_in_its_order_once_its_events_are_durable() {
    let mut app = TestApp::configured(SALES);
    let send = key(&app, "shop", "send", json!({}));
    let read = key(&app, "board", "read", json!({}));
    let mut program = program("frames", &app, &[("KEY", &send), ("READ_KEY", &read)]);
    program.expect("key");
    let soon = (jiff::Timestamp::now() + jiff::SignedDuration::from_secs(4)).to_string();
    program.tell(&key(&app, "guest", "send", json!({ "expires": soon })));
    program.expect("stop");
    let stored = events(&app, "sales");
    assert!(stored.iter().all(|event| event["clientId"].is_string()));
    assert_eq!(app.stop(), Some(0), "{}", app.log_text());
    program.finish();
    app.restart();
    app.settle();
    // Rows of events that were taken back are gone; each of the others has one row, with its sender.
    let rows =
        app.sql("SELECT COUNT(*), COUNT(client), COUNT(program), COUNT(DISTINCT address) FROM sale_rows");
    let rows: Vec<u64> = rows.split('\t').map(|number| number.parse().unwrap()).collect();
    assert!(rows[0] > 400 && rows[1] == rows[0], "{rows:?}");
    assert_eq!((rows[2], rows[3]), (0, 1), "this client does not name itself");
    let sums = app
        .sql("SELECT (SELECT SUM(CAST(total AS INTEGER)) FROM sales) = (SELECT SUM(amount) FROM sale_rows)");
    assert_eq!(sums, "1");
}
