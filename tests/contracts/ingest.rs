//! The source of contract 2: notifications. A client that retries gives its event an id.

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Start, TestApp};

const INGEST: &str = "/events/ingest";
const SIGN_UP: &str = r#"{"eventType":"user_signup","timestamp":"2023-10-27T10:00:00Z","payload":{"userId":"uuid-123","email":"user@example.com","username":"testuser"}}"#;

fn client(app: &TestApp) -> Client {
    app.anonymous().with_header("X-API-Key", &app.key())
}

/// Expects an acknowledgement, and returns the event's id.
fn accepted(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json()["eventId"].as_str().unwrap().to_owned()
}

fn error(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    body["error"].as_str().unwrap().to_owned()
}

/// Returns the stream's events in the log, repeats included.
fn tail(app: &TestApp) -> Vec<Value> {
    let page = app.client().get("/v1/streams/notifications/events?from=0&limit=1000").json();
    page["events"].as_array().unwrap().clone()
}

/// Starts a server whose view counts the events of each user, so that a test sees which events counted.
fn counted() -> TestApp {
    TestApp::configured(
        r#"
        [stream.notifications]
        key = "payload.userId"
        fields.eventType = { type = "text", required = true, max = 50 }
        fields."payload.userId" = { type = "text", required = true }
        fields."payload.count" = { type = "integer", required = true, min = 1, max = 1 }
        [view.notifications]
        kind = "ledger"
        from = "notifications"
        amount = "+payload.count"
        "#,
    )
}

#[test]
fn a_durable_event_is_acknowledged_in_the_words_of_the_replaced_service() {
    let mut app = TestApp::start();
    let answer = client(&app).post(INGEST, SIGN_UP);
    let id = accepted(&answer);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        answer.text(),
        format!(r#"{{"message":"Event accepted","eventId":"{id}","status":"QUEUED"}}"#)
    );
    assert_eq!(id.len(), 36);
    app.restart();
    let receipt = app.client().get(&format!("/v1/events/{id}")).json();
    assert_eq!((&receipt["stream"], &receipt["id"]), (&json!("notifications"), &json!(id)));
    assert_eq!(receipt["event"], serde_json::from_str::<Value>(SIGN_UP).unwrap());
    assert!(receipt["receivedAt"].is_string() && receipt["address"] == "127.0.0.1", "{receipt}");
    assert_eq!(tail(&app).len(), 1);
}

#[test]
fn the_key_is_checked_before_the_body() {
    let environment = vec![("API_KEY".to_owned(), "secret".to_owned())];
    let app = TestApp::with(Start { environment, ..Start::default() });
    let without = app.anonymous();
    let wrong = app.anonymous().with_header("X-API-Key", "wrong");
    for client in [&without, &wrong] {
        for body in [SIGN_UP, "{}", "not JSON"] {
            assert_eq!(error(&client.post(INGEST, body), 401), "Unauthorized: Invalid or missing API Key");
        }
    }
    let reader = app.client().post("/v1/keys", r#"{"name":"reader","scopes":["read"]}"#).json();
    let reader = app.anonymous().with_header("X-API-Key", reader["key"].as_str().unwrap());
    assert_eq!(error(&reader.post(INGEST, SIGN_UP), 403), "Forbidden");
    assert_eq!(app.log_end(), 0);
    accepted(&app.anonymous().with_header("X-API-Key", "secret").post(INGEST, SIGN_UP));
    assert_eq!(app.anonymous().get("/health").json(), json!({ "status": "OK" }));
}

#[test]
fn an_invalid_event_is_refused_with_its_field_path_and_not_stored() {
    let app = TestApp::start();
    let client = client(&app);
    let long = "x".repeat(51);
    let cases = [
        ("user_signup", long.as_str(), "eventType: is longer than 50 characters"),
        (r#""user_signup""#, "7.5", "eventType: expected text, got a number"),
        ("user_signup", "", "eventType: is missing"),
        ("2023-10-27T10:00:00Z", "27.10.2023", "timestamp: expected a time"),
        (r#""2023-10-27T10:00:00Z""#, "null", "timestamp: is missing"),
        ("uuid-123", "", "payload.userId: is missing"),
        ("user@example.com", "user@example", "payload.email: expected an e-mail address"),
        (
            "user@example.com",
            r"user@example.com\r\nBcc: other@example.com",
            "payload.email: expected an e-mail address",
        ),
        ("testuser", "me", "payload.username: is shorter than 3 characters"),
        ("testuser", "0123456789012345678901234567890", "payload.username: is longer than 30 characters"),
        (r#""userId":"uuid-123","#, "", "payload.userId: is missing"),
        (
            r#""username":"testuser""#,
            r#""username":"testuser","username":"other""#,
            "payload.username: is given twice",
        ),
        ("testuser", r"test\u0000", "payload.username: contains a NUL character"),
    ];
    for (part, other, reason) in cases {
        let message = error(&client.post(INGEST, &SIGN_UP.replace(part, other)), 400);
        assert!(message.starts_with(&format!("Invalid Request: {reason}")), "{message}");
    }
    const MISSING: &str =
        "payload.email: is missing; payload.userId: is missing; payload.username: is missing";
    for (payload, reason) in [
        ("null", MISSING),
        ("{}", MISSING),
        (r#""text""#, "payload: expected an object, got text"),
        ("[{}]", "payload: expected an object, got an array"),
    ] {
        let body = format!(r#"{{"eventType":"a","timestamp":"2023-10-27","payload":{payload}}}"#);
        assert_eq!(error(&client.post(INGEST, &body), 400), format!("Invalid Request: {reason}"));
    }
    for body in ["", "not JSON", "[1]", r#"{"eventType":"#] {
        assert!(error(&client.post(INGEST, body), 400).starts_with("Invalid Request: "), "{body}");
    }
    assert_eq!(app.log_end(), 0);
}

#[test]
fn every_refusal_has_the_contracts_shape() {
    let app = TestApp::start();
    let client = client(&app);
    assert_eq!(error(&client.get(INGEST), 405), "this path does not support this method");
    let form = client.request("POST", INGEST, Some(("text/plain", SIGN_UP.as_bytes())));
    assert!(error(&form, 415).contains("application/json"));
    let large = SIGN_UP.replace("testuser", &"x".repeat(2 * 1024 * 1024));
    assert!(error(&client.post(INGEST, &large), 413).contains("larger"));
    let request = format!("POST {INGEST} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    assert!(error(&client.raw(request.as_bytes()).unwrap(), 421).contains("evil.example"));
    let page = client.with_header("Origin", "https://evil.example");
    assert!(error(&page.post(INGEST, SIGN_UP), 403).contains("a page of another site"));
}

#[test]
fn extra_keys_and_other_forms_of_values_are_accepted() {
    let app = TestApp::start();
    for (part, other) in [
        (r#""userId":"uuid-123""#, r#""userId":123"#),
        (r#""username":"testuser""#, r#""username":"testuser","plan":{"name":"free","since":[1,2]}"#),
        (r#""eventType""#, r#""source":"web","eventType""#),
        (r#""2023-10-27T10:00:00Z""#, "1698400800000"),
        ("2023-10-27T10:00:00Z", "2023-10-27T12:00:00+02:00"),
        ("testuser", "日本語"),
    ] {
        let body = SIGN_UP.replace(part, other);
        assert_ne!(body, SIGN_UP);
        let id = accepted(&client(&app).post(INGEST, &body));
        let kept = app.client().get(&format!("/v1/events/{id}")).json();
        assert_eq!(kept["event"], serde_json::from_str::<Value>(&body).unwrap());
    }
}

/// The replaced service created the id itself, so that a client's retry notified twice.
#[test]
fn a_retry_is_the_same_event_and_gets_the_same_response() {
    let mut app = counted();
    let event = |id: &str, user: &str| {
        format!(r#"{{{id}"eventType":"a","payload":{{"userId":"{user}","count":1}}}}"#)
    };
    let by_key = |app: &TestApp, user: &str| {
        client(app).with_header("Idempotency-Key", "order-7").post(INGEST, &event("", user))
    };
    let by_id = |app: &TestApp, user: &str| client(app).post(INGEST, &event(r#""id":"order-7","#, user));
    let (key, id) = (accepted(&by_key(&app, "by-key")), accepted(&by_id(&app, "by-id")));
    assert_ne!(key, id);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                assert_eq!(accepted(&by_key(&app, "by-key")), key);
                assert_eq!(accepted(&by_id(&app, "by-id")), id);
            });
        }
    });
    app.settle();
    for answer in [by_key(&app, "by-key"), by_id(&app, "by-id")] {
        assert_eq!(answer.header("idempotent-replayed"), Some("true"), "{}", answer.text());
    }
    let both = client(&app).with_header("Idempotency-Key", "order-8");
    assert_eq!(
        error(&both.post(INGEST, &event(r#""id":"order-7","#, "by-id")), 400),
        "Invalid Request: id: differs from the `Idempotency-Key` of the request; both name the event, so send only one of them"
    );
    for answer in [by_key(&app, "other"), by_id(&app, "other")] {
        assert_eq!(error(&answer, 409), "this id was used for another event");
    }
    app.settle();
    app.restart();
    assert_eq!((accepted(&by_key(&app, "by-key")), accepted(&by_id(&app, "by-id"))), (key.clone(), id));
    // The native API accepts the same ids, so that a client can switch to it between two attempts.
    let native = client(&app).with_header("Idempotency-Key", "order-7");
    let answer = native.post("/v1/streams/notifications/events", &event("", "by-key"));
    assert_eq!(answer.json()["eventId"], json!(key));
    app.settle();
    for user in ["by-key", "by-id"] {
        let counted = app.client().get(&format!("/v1/views/notifications/balances/{user}")).json();
        assert_eq!(counted["balance"], 1, "{user}");
    }
    let dead_letters = app.client().get("/v1/dead-letters").json();
    assert_eq!(dead_letters["deadLetters"], json!([]), "equal repeats are not dead letters");
}

#[test]
fn without_a_client_id_a_repeat_is_a_new_event() {
    let app = counted();
    let event = r#"{"eventType":"a","payload":{"userId":"u","count":1}}"#;
    let ids: Vec<String> = (0..3).map(|_| accepted(&client(&app).post(INGEST, event))).collect();
    assert!(ids[0] != ids[1] && ids[1] != ids[2]);
    let named = |name: &str| client(&app).with_header("Idempotency-Key", name).post(INGEST, event);
    assert_eq!(error(&named(""), 400), "Invalid Request: Idempotency-Key: is empty");
    assert!(error(&named(&"x".repeat(201)), 400).contains("Idempotency-Key: is longer"));
    let bad = event.replace("{\"eventType", "{\"id\":{},\"eventType");
    assert_eq!(
        error(&client(&app).post(INGEST, &bad), 400),
        "Invalid Request: id: expected text, got an object"
    );
    app.settle();
    assert_eq!(app.client().get("/v1/views/notifications/balances/u").json()["balance"], 3);
    assert_eq!(tail(&app).len(), 3);
}
