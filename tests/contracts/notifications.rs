//! The notifications of contract 2: one per event, however often the event is sent. They can be corrected,
//! read, compared and erased.

use serde_json::{Value, json};

use crate::harness::{StoreKind, TestApp, wait_for};

const EVENTS: &str = "/v1/streams/notifications/events?wait=applied";
const NOTIFICATIONS: &str = "/v1/notifications";

fn sign_up(user: &str) -> String {
    format!(
        r#"{{"eventType":"user_signup","timestamp":"2023-10-27T10:00:00Z","payload":{{"userId":"{user}","email":"{user}@example.com","username":"test {user}","sum":10.50}}}}"#
    )
}

/// Starts a server that sends no notification, so that all of them stay as they were queued.
fn paused() -> TestApp {
    let app = TestApp::start();
    app.pause_log_destination();
    app
}

fn send(app: &TestApp, body: &str) -> String {
    let answer = app.client().post(EVENTS, body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["eventId"].as_str().unwrap().to_owned()
}

fn ids(app: &TestApp, query: &str) -> Vec<String> {
    let answer = app.client().get(&format!("{NOTIFICATIONS}{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let listed = answer.json()["notifications"].as_array().unwrap().clone();
    listed.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_event_queues_the_notification_of_its_contract() {
    let app = paused();
    assert_eq!(app.client().get(NOTIFICATIONS).text(), r#"{"notifications":[],"more":false}"#);
    let id = send(&app, &sign_up("u1"));
    let sql = "SELECT concat_ws('|', id, event_id, event_type, payload, status, attempt_count,
               CASE WHEN last_attempt_timestamp IS NULL THEN '-' ELSE 'some' END, recipient, message, channel,
               CASE WHEN created_at = updated_at AND created_at = next_attempt_at THEN 1 ELSE 0 END) FROM notifications";
    let payload = r#"{"userId":"u1","email":"u1@example.com","username":"test u1","sum":10.50}"#;
    let message = "Hello test u1, welcome! (Type: user_signup)";
    assert_eq!(
        app.sql(sql),
        format!("notif-{id}|{id}|user_signup|{payload}|QUEUED|0|-|u1@example.com|{message}|log|1")
    );
    let shown = app.client().get(&format!("{NOTIFICATIONS}/notif-{id}"));
    assert!(shown.text().contains(payload), "digit for digit: {}", shown.text());
    let received = app.client().get(&format!("/v1/events/{id}")).json()["receivedAt"].clone();
    let mut shown = shown.json();
    shown.as_object_mut().unwrap().remove("payload");
    let delivery = &shown["deliveries"][0];
    assert_eq!((&delivery["destination"], &delivery["state"]), (&json!("log"), &json!("waiting")));
    shown.as_object_mut().unwrap().remove("deliveries");
    assert_eq!(
        shown,
        json!({
            "id": format!("notif-{id}"), "eventId": id, "eventType": "user_signup", "status": "QUEUED", "channel": "log",
            "recipient": "u1@example.com", "message": message, "attempts": 0, "lastAttemptAt": null,
            "nextAttemptAt": received, "createdAt": received, "updatedAt": received,
        })
    );
    let unique = "INSERT INTO notifications SELECT 'other', event_id, event_type, payload, status, 0, NULL, created_at, updated_at, recipient, message, channel, NULL FROM notifications";
    assert!(app.stored.try_sql(unique).unwrap_err().contains("event_id"));
}

#[test]
fn a_notification_is_written_to_the_log_and_then_sent() {
    let app = TestApp::start();
    let event = sign_up("u1");
    let client = app.client();
    let ingest = |body: &str| client.post("/events/ingest", body);
    let accepted = ingest(&event).json();
    assert_eq!(accepted["status"], "QUEUED");
    let id = format!("notif-{}", accepted["eventId"].as_str().unwrap());
    wait_for("the notification to be sent", || !ids(&app, "?status=SENT").is_empty());
    let line = app.log_line("notification").unwrap();
    assert_eq!(
        (&line["id"], &line["text"]),
        (&json!(id), &json!("Hello test u1, welcome! (Type: user_signup)"))
    );
    let shown = client.get(&format!("{NOTIFICATIONS}/{id}")).json();
    assert_eq!((&shown["status"], &shown["attempts"]), (&json!("SENT"), &json!(1)));
    assert!(shown["lastAttemptAt"].is_string() && shown["nextAttemptAt"].is_null(), "{shown}");
    assert_eq!(shown["deliveries"][0]["made"][0]["outcome"], "sent");
}

#[test]
fn a_repeat_notifies_once_and_an_existing_row_is_unchanged() {
    let app = paused();
    let event = sign_up("u1").replacen('{', r#"{"id":"mine","#, 1);
    let id = send(&app, &event);
    app.sql("UPDATE notifications SET status = 'SENT', attempt_count = 1");
    assert_eq!(send(&app, &event), id);
    // The repeat has not changed the row.
    app.settle();
    let one = app.client().get(&format!("{NOTIFICATIONS}/notif-{id}")).json();
    assert_eq!((&one["status"], &one["attempts"]), (&json!("SENT"), &json!(1)));
    assert_eq!(ids(&app, "").len(), 1);
}

#[test]
fn a_store_set_back_does_not_queue_existing_notifications_again() {
    let mut app = paused();
    let id = send(&app, &sign_up("u1"));
    app.stop();
    let back = "UPDATE notifications SET status = 'SENT'; UPDATE millrace_positions SET position = 0 WHERE view = 'notifications'";
    app.sql(back);
    app.restart();
    app.settle();
    assert_eq!(ids(&app, "?status=SENT"), [format!("notif-{id}")]);
    assert!(ids(&app, "?status=QUEUED").is_empty());
}

#[test]
fn a_correction_removes_a_notification_unless_it_was_attempted() {
    let app = paused();
    let [queued, sent, kept] = ["a", "b", "c"].map(|user| send(&app, &sign_up(user)));
    app.sql(&format!("UPDATE notifications SET status = 'SENT' WHERE event_id = '{sent}'"));
    for id in [&queued, &sent] {
        send(&app, &format!(r#"{{"takesBack":"{id}"}}"#));
    }
    assert_eq!(ids(&app, ""), [format!("notif-{sent}"), format!("notif-{kept}")]);
    assert_eq!(app.client().get(&format!("{NOTIFICATIONS}/notif-{queued}")).status, 404);
    assert_eq!(reconcile(&app)["differenceCount"], 0);
}

fn reconcile(app: &TestApp) -> Value {
    app.settle();
    let answer = app.client().post("/v1/views/notifications/reconcile", "");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[test]
fn notifications_can_be_compared_but_not_rebuilt() {
    let app = paused();
    let sent: Vec<String> = (0..5).map(|user| send(&app, &sign_up(&format!("u{user}")))).collect();
    assert_eq!((&reconcile(&app)["differenceCount"], &reconcile(&app)["keys"]), (&json!(0), &json!(5)));
    app.sql(&format!("DELETE FROM notifications WHERE event_id = '{}'", sent[3]));
    let report = reconcile(&app);
    let missing = json!({ "key": format!("notif-{}", sent[3]), "had": null, "shouldHave": "a notification" });
    assert_eq!((&report["differenceCount"], &report["differences"]), (&json!(1), &json!([missing])));
    let refused = app.client().post("/v1/views/notifications/rebuild", "");
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(refused.text().contains("sent again"), "{}", refused.text());
    assert_eq!(ids(&app, "").len(), 4);
}

#[test]
fn notifications_are_read_in_pages_by_permitted_keys() {
    let app = paused();
    let lines: Vec<String> = (0..50).map(|user| sign_up(&format!("u{user}"))).collect();
    assert_eq!(app.client().post_lines(EVENTS, &lines.join("\n")).status, 200);
    let (mut seen, mut query) = (Vec::new(), "?limit=20".to_owned());
    loop {
        let page = app.client().get(&format!("{NOTIFICATIONS}{query}")).json();
        let page_ids = page["notifications"].as_array().unwrap().clone();
        seen.extend(page_ids.iter().map(|one| one["recipient"].as_str().unwrap().to_owned()));
        if page["more"] == false {
            break;
        }
        query = format!("?limit=20&after={}", page_ids.last().unwrap()["id"].as_str().unwrap());
    }
    assert_eq!(seen, (0..50).map(|user| format!("u{user}@example.com")).collect::<Vec<_>>());
    for (query, status) in
        [("?status=queued", 400), ("?other=1", 400), ("?view=revenue", 404), ("?view=x", 404)]
    {
        assert_eq!(app.client().get(&format!("{NOTIFICATIONS}{query}")).status, status, "{query}");
    }
    assert_eq!(app.anonymous().get(NOTIFICATIONS).status, 401);
    assert_eq!(app.anonymous().get(&format!("{NOTIFICATIONS}/notif-x")).status, 401);
    let other = r#"{"name":"other","scopes":["read"],"streams":["revenue"]}"#;
    let other = app.client().post("/v1/keys", other).json();
    let other = app.anonymous().with_header("Authorization", other["key"].as_str().unwrap());
    assert_eq!(other.get(NOTIFICATIONS).status, 403);
}

#[test]
fn a_configured_notifications_view_uses_its_template_and_an_existing_table() {
    let mut app = TestApp::configured(
        r#"
        [stream.orders]
        key = "mail"
        fields.mail = { type = "text", required = true, format = "email" }
        fields.sort = { type = "text", required = true }
        fields.sum = { type = "decimal", required = true }
        fields.at = { type = "time" }
        [view.thanks]
        kind = "notifications"
        from = "orders"
        to = "mail"
        type = "sort"
        message = "{{{sum}}} at {at}"
        "#,
    );
    app.stop();
    let payload = app.stored.store_kind.pick(["JSON", "JSON", "LONGTEXT CHARACTER SET utf8mb4"]);
    let word = app.stored.store_kind.pick(["TEXT", "VARCHAR(50)", "VARCHAR(50) CHARACTER SET utf8mb4"]);
    let message = app.stored.store_kind.pick(["TEXT", "TEXT", "LONGTEXT CHARACTER SET utf8mb4"]);
    app.sql(&format!(
        "CREATE TABLE thanks (id {{key}} PRIMARY KEY, event_id {{key}} UNIQUE, event_type {word}, payload {payload},
         status {word}, attempt_count INT, last_attempt_timestamp {{time}}, created_at {{time}}, updated_at {{time}},
         recipient {{text}}, message {message}, channel {{text}}, next_attempt_at {{time}}, note {{text}})"
    ));
    app.restart();
    let order = r#"{"mail":"a@b.example","sort":"order","sum":10.990}"#;
    let answer = app.client().post("/v1/streams/orders/events", order);
    assert_eq!(answer.status, 200, "{}", answer.text());
    if app.stored.store_kind == StoreKind::Sqlite {
        wait_for("the view to pause", || app.view("thanks")["state"] == "paused");
        // A column of type JSON has numeric affinity in SQLite: a text that looks like a number becomes one.
        let reason = app.view("thanks")["reason"].as_str().unwrap().to_owned();
        assert!(reason.contains("column `payload` of type JSON"), "{reason}");
        app.sql(reason.split_once("to fix it, run: ").unwrap().1);
    }
    app.settle();
    let page = app.client().get(&format!("{NOTIFICATIONS}?view=thanks"));
    assert_eq!(page.json()["notifications"][0]["message"], "{10.99} at ");
    assert!(page.text().contains(order), "the whole event is the payload: {}", page.text());
}

/// The table as the replaced service has it in each database. Its rows stay, and its column `status` keeps its type.
#[test]
fn the_table_of_the_replaced_service_is_used_once_the_suggested_sql_was_run() {
    let mut app = TestApp::start();
    app.stop();
    let statuses = "'QUEUED', 'SENT', 'FAILED_RETRYING', 'FAILED_DLQ'";
    let status = app.stored.store_kind.pick([
        format!("TEXT NOT NULL CHECK (status IN ({statuses}))"),
        format!("VARCHAR(20) NOT NULL CHECK (status IN ({statuses}))"),
        format!("ENUM({statuses}) NOT NULL DEFAULT 'QUEUED'"),
    ]);
    let json = app.stored.store_kind.pick(["TEXT", "JSON", "JSON"]);
    let time = app.stored.store_kind.pick(["TEXT", "TIMESTAMP", "TIMESTAMP NULL"]);
    app.sql(&format!(
        "CREATE TABLE notifications (id VARCHAR(255) PRIMARY KEY, event_id VARCHAR(255) NOT NULL UNIQUE,
         event_type VARCHAR(50) NOT NULL, payload {json} NOT NULL, status {status}, attempt_count INT NOT NULL DEFAULT 0,
         last_attempt_timestamp {time}, created_at {time} DEFAULT CURRENT_TIMESTAMP, updated_at {time} DEFAULT CURRENT_TIMESTAMP);
         INSERT INTO notifications (id, event_id, event_type, payload, status, attempt_count)
         VALUES ('notif-old', 'old', 'user_signup', '{{}}', 'SENT', 1)"
    ));
    app.restart();
    wait_for("the view to pause", || app.view("notifications")["state"] == "paused");
    let reason = app.view("notifications")["reason"].as_str().unwrap().to_owned();
    app.sql(reason.split_once("to fix it, run: ").unwrap().1);
    let id = send(&app, &sign_up("u1"));
    let stored = |id: &str| {
        app.sql(&format!("SELECT status, attempt_count FROM notifications WHERE id = 'notif-{id}'"))
    };
    wait_for("the notification to be sent", || stored(&id) == "SENT\t1");
    assert_eq!(stored("old"), "SENT\t1");
    assert_eq!(ids(&app, ""), [format!("notif-{id}"), "notif-old".to_owned()]);
}

#[test]
fn the_command_lists_and_shows_notifications_and_escapes_control_characters() {
    let app = paused();
    let id = send(&app, &sign_up("u1").replace("user_signup", r"sign\u001b[2Jup"));
    let run = |arguments: &[&str]| {
        let output = app.command(&[&["notification"], arguments].concat());
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, listed) = run(&["list"]);
    assert_eq!(code, Some(0));
    let line = listed.lines().nth(1).unwrap();
    assert!(
        line.starts_with(&format!("notif-{id}  QUEUED      0  u1@example.com  sign\\u{{1b}}[2Jup")),
        "{listed}"
    );
    assert_eq!(run(&["list", "--status", "sent"]), (Some(0), String::new()));
    let (_, json) = run(&["list", "--status", "queued", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["eventId"], id.as_str());
    let (_, shown) = run(&["show", &format!("notif-{id}")]);
    assert!(shown.contains("message   Hello test u1, welcome!") && !shown.contains('\u{1b}'), "{shown}");
    assert_eq!(run(&["show", "notif-x"]).0, Some(5));
}

#[test]
fn an_erasure_removes_notifications_in_every_state() {
    let app = paused();
    let [queued, sent, other] = ["ann", "ann", "bob"].map(|user| send(&app, &sign_up(user)));
    app.sql(&format!("UPDATE notifications SET status = 'SENT' WHERE event_id = '{sent}'"));
    let mine = sign_up("ann").replacen('{', r#"{"id":"mine","#, 1);
    send(&app, &mine);
    app.sql(&format!("UPDATE notifications SET status = 'SENT' WHERE event_id <> '{queued}'"));
    let erased = app.client().post("/v1/streams/notifications/erasures", r#"{"value":"ann"}"#);
    assert_eq!(erased.status, 200, "{}", erased.text());
    wait_for("the person to be gone", || ids(&app, "") == [format!("notif-{other}")]);
    assert_eq!(reconcile(&app)["differenceCount"], 0);
}
