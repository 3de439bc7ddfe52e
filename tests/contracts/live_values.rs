//! Live: present values of balances, statistics and notifications, as they change.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::event_stream::EventStream;
use crate::harness::{Client, TestApp};

const QUIET: Duration = Duration::from_millis(400);

fn add(client: &Client, user: &str, value: &str) {
    let body = format!(r#"{{"userId":"{user}","name":"add_revenue","value":{value}}}"#);
    let answer = client.post("/v1/streams/revenue/events?wait=applied", &body);
    assert_eq!((answer.status, &answer.json()["applied"]), (200, &json!(true)), "{}", answer.text());
}

fn visit(client: &Client, path: &str, user: &str) {
    let body = json!({ "site_id": "s1", "event_type": "page_view", "path": path, "user_id": user });
    let answer = client.post("/v1/streams/site_events/events?wait=applied", &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn a_balance_begins_with_the_present_value_and_follows_each_change_with_every_digit() {
    let app = TestApp::start();
    let client = app.client();
    let mut missing = EventStream::open(&client, "/v1/views/revenue/live?key=ann");
    assert_eq!(missing.next().unwrap().data, r#"{"view":"revenue","key":"ann","balance":null}"#);
    add(&client, "ann", "999999999999999.9999");
    assert_eq!(
        missing.next().unwrap().data,
        r#"{"view":"revenue","key":"ann","balance":999999999999999.9999}"#
    );
    let mut present = EventStream::open(&client, "/v1/views/revenue/live?key=ann");
    assert_eq!(
        present.next().unwrap().data,
        r#"{"view":"revenue","key":"ann","balance":999999999999999.9999}"#
    );
    // No message follows a change of others, or one that leaves the balance as it is.
    add(&client, "bob", "1");
    add(&client, "ann", "0");
    add(&client, "ann", "-0.9999");
    assert_eq!(present.change()["balance"], json!(999_999_999_999_999_u64));
    assert!(present.until_quiet(QUIET).is_empty());
}

#[test]
fn many_changes_are_sent_at_intervals_and_the_last_one_always() {
    let app = TestApp::start();
    let client = app.client();
    let mut stream = EventStream::open(&client, "/v1/views/revenue/live?key=ann");
    stream.change();
    let begun = Instant::now();
    for _ in 0..200 {
        add(&client, "ann", "1");
    }
    let mut values = 0;
    while stream.change()["balance"] != json!(200) {
        values += 1;
    }
    // One in 50 ms, and one at each end.
    let most = begun.elapsed().as_millis() / 50 + 2;
    assert!(u128::from(values as u64) <= most && values > 0, "{values} of {most}");
}

#[test]
fn statistics_are_followed_with_their_parameters() {
    let app = TestApp::start();
    let client = app.client();
    let mut all = EventStream::open(&client, "/v1/views/site_stats/live?key=s1");
    let mut top = EventStream::open(&client, "/v1/views/site_stats/live?group=s1&by=path&top=1");
    let today = "2025-11-01";
    let mut day =
        EventStream::open(&client, &format!("/v1/views/site_stats/live?key=s1&from={today}&to={today}"));
    assert_eq!(all.change(), json!({ "view": "site_stats", "group": "s1", "total": 0, "distinct": 0 }));
    assert_eq!(top.change()["top"], json!([]));
    assert_eq!(day.change()["total"], 0);
    visit(&client, "/a", "u1");
    assert_eq!(all.change(), json!({ "view": "site_stats", "group": "s1", "total": 1, "distinct": 1 }));
    assert_eq!(top.change()["top"][0]["value"], "/a");
    visit(&client, "/a", "u1");
    assert_eq!(all.change(), json!({ "view": "site_stats", "group": "s1", "total": 2, "distinct": 1 }));
    assert_eq!(top.change()["top"][0]["count"], 2);
    let body =
        json!({ "site_id": "s1", "event_type": "page_view", "timestamp": format!("{today}T10:00:00Z") });
    client.post("/v1/streams/site_events/events", &body.to_string());
    assert_eq!(
        day.change(),
        json!({ "view": "site_stats", "group": "s1", "from": today, "to": today, "total": 1, "distinct": 0 })
    );
    for (query, name) in [
        ("by=nothing", "by"),
        ("by=path&from=2025-11-01&to=2025-11-02", "by"),
        ("top=0", "top"),
        ("from=soon", "from"),
        ("status=SENT", "status"),
    ] {
        let answer = client.get(&format!("/v1/views/site_stats/live?key=s1&{query}"));
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.json()["detail"].as_str().unwrap().starts_with(name), "{query}: {}", answer.text());
    }
}

#[test]
fn a_notification_and_the_list_of_them_are_followed() {
    let app = TestApp::start();
    app.pause_log_destination();
    let client = app.client();
    let mut list = EventStream::open(&client, "/v1/views/notifications/live");
    let mut failed = EventStream::open(
        &client,
        &format!("/v1/views/notifications/live?status={}", concat!("FAILED_D", "LQ")),
    );
    assert_eq!(list.change(), json!({ "view": "notifications", "notifications": [] }));
    assert_eq!(failed.change()["notifications"], json!([]));
    let payload = json!({ "userId": "u1", "email": "a@b.c", "username": "Ann" });
    let body = json!({ "eventType": "user_signup", "timestamp": "2023-10-27T10:00:00Z", "payload": payload });
    let body = body.to_string();
    let sent = client.post("/v1/streams/notifications/events?wait=applied", &body);
    assert_eq!(sent.status, 200, "{}", sent.text());
    let listed = list.change();
    let notification = &listed["notifications"][0];
    assert_eq!((&notification["status"], &notification["payload"]), (&json!("QUEUED"), &Value::Null));
    let id = notification["id"].as_str().unwrap();
    let mut one = EventStream::open(&client, &format!("/v1/views/notifications/live?key={id}"));
    let seen = one.change();
    assert_eq!((&seen["id"], &seen["view"]), (&json!(id), &json!("notifications")));
    assert_eq!((&seen["status"], &seen["payload"]), (&json!("QUEUED"), &payload));
    let event = sent.json()["eventId"].clone();
    client.post("/v1/streams/notifications/events", &json!({ "takesBack": event }).to_string());
    assert_eq!(one.change(), json!({ "view": "notifications", "id": id, "status": null }));
    assert_eq!(list.change()["notifications"], json!([]));
    // Delivery changes the status outside of a batch of the view.
    assert_eq!(client.post("/v1/streams/notifications/events?wait=applied", &body).status, 200);
    assert_eq!(list.change()["notifications"][0]["status"], "QUEUED");
    assert_eq!(client.post("/v1/destinations/log/resume", "").status, 200);
    assert_eq!(list.change()["notifications"][0]["status"], "SENT");
    assert!(failed.until_quiet(QUIET).is_empty());
}

#[test]
fn a_rebuild_and_an_erasure_start_readers_of_values_afresh() {
    let app = TestApp::start();
    let client = app.client();
    add(&client, "ann", "5");
    let mut stream = EventStream::open(&client, "/v1/views/revenue/live?key=ann");
    assert_eq!(stream.change()["balance"], 5);
    let before = stream.id.clone();
    assert_eq!(client.post("/v1/views/revenue/rebuild", "").status, 200);
    assert_eq!(stream.named("reset"), json!({ "view": "revenue", "reason": "rows-replaced" }));
    assert_eq!(stream.change_after_resets()["balance"], 5);
    // A reader that was away meanwhile learns of it, too.
    let mut late = EventStream::open(&client, &format!("/v1/views/revenue/live?key=ann&after={before}"));
    assert_eq!(late.named("reset")["reason"], "rows-replaced");
    assert_eq!(late.change_after_resets()["balance"], 5);
    let mut current =
        EventStream::open(&client, &format!("/v1/views/revenue/live?key=ann&after={}", late.id));
    assert_eq!(current.change()["balance"], 5);
    assert_eq!(client.post("/v1/streams/revenue/erasures", r#"{"value":"ann"}"#).status, 200);
    let mut last = Value::Null;
    while let Ok(Some(event)) = current.read(Duration::from_secs(2)) {
        last = event.json();
    }
    assert_eq!(last, json!({ "view": "revenue", "key": "ann", "balance": null }));
}

#[test]
fn values_survive_a_restart_of_the_server_and_a_log_that_is_another_one_is_told() {
    let mut app = TestApp::start();
    let client = app.client();
    add(&client, "ann", "5");
    let mut stream = EventStream::open(&client, "/v1/views/revenue/live?key=ann");
    stream.change();
    assert_eq!(app.stop(), Some(0));
    assert_eq!(stream.named("end"), json!({ "reason": "stopping" }));
    assert_eq!(stream.next(), None);
    app.restart();
    let client = app.client();
    let path = format!("/v1/views/revenue/live?key=ann&after={}", stream.id);
    let mut again = EventStream::open(&client, &path);
    assert_eq!(again.change()["balance"], 5);
    let (generation, _) = stream.id.split_once('.').unwrap();
    let other = format!("{generation}.{}.1", "07".repeat(16));
    let mut other = EventStream::open(&client, &format!("/v1/views/revenue/live?key=ann&after={other}"));
    assert_eq!(other.named("reset")["reason"], "other-log");
    assert_eq!(other.change()["balance"], 5);
}
