//! The source of contract 3: site analytics, one event per request.

use serde_json::{Value, json};

use crate::harness::{Answer, Start, TestApp};

const EVENT: &str = "/event";
const VIEW: &str = r#"{"site_id":"site-111","event_type":"page_view","path":"/pricing","user_id":"u1","timestamp":"2025-11-01T10:00:00Z"}"#;

fn refused(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    body["message"].as_str().unwrap().to_owned()
}

fn received(answer: &Answer) {
    assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"message":"Event recieved."}"#));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

fn tail(app: &TestApp) -> Vec<Value> {
    let page = app.client().get("/v1/streams/site_events/events?from=0&limit=1000").json();
    page["events"].as_array().unwrap().clone()
}

#[test]
fn events_that_the_replaced_service_accepted_are_accepted() {
    let app = TestApp::start();
    let bodies = [
        VIEW.to_owned(),
        r#"{"site_id":"s","event_type":"e"}"#.to_owned(),
        r#"{"site_id":"s","event_type":"e","path":null,"user_id":"","timestamp":null}"#.to_owned(),
        r#"{"site_id":111,"event_type":"e","user_id":7,"timestamp":1761991200000}"#.to_owned(),
        r#"{"site_id":"s","event_type":"e","timestamp":"2025-11-01"}"#.to_owned(),
        // In this contract the `id` of a body is data, of any type.
        r#"{"site_id":"s","event_type":"e","id":{"x":1},"referrer":["a"]}"#.to_owned(),
        format!(r#"{{"site_id":"{}","event_type":"{}"}}"#, "s".repeat(255), "e".repeat(100)),
    ];
    for body in &bodies {
        received(&app.client().post(EVENT, body));
    }
    let kept: Vec<Value> = tail(&app).into_iter().map(|shown| shown["event"].clone()).collect();
    let sent: Vec<Value> = bodies.iter().map(|body| serde_json::from_str(body).unwrap()).collect();
    assert_eq!(kept, sent);
}

#[test]
fn a_missing_field_is_reported_in_the_words_of_the_replaced_service() {
    let app = TestApp::start();
    for body in [
        "{}",
        r#"{"site_id":"s"}"#,
        r#"{"event_type":"e"}"#,
        r#"{"site_id":"","event_type":"e"}"#,
        r#"{"site_id":"s","event_type":""}"#,
        r#"{"site_id":null,"event_type":"e"}"#,
        r#"{"site_id":"s","event_type":null}"#,
    ] {
        assert_eq!(
            refused(&app.client().post(EVENT, body), 400),
            "site_id or event_type not found",
            "{body}"
        );
    }
    assert_eq!(app.log_end(), 0);
}

/// In the replaced service, an invalid date ended the process and lost its queue.
#[test]
fn an_invalid_event_is_refused_with_its_field() {
    let app = TestApp::start();
    let long = "x".repeat(256);
    let cases = [
        ("2025-11-01T10:00:00Z", "2025-02-30", "timestamp: expected a time"),
        ("2025-11-01T10:00:00Z", "yesterday", "timestamp: expected a time"),
        (r#""u1""#, "[1]", "user_id: expected text, got an array"),
        (r#""u1""#, "1.5", "user_id: expected text, got a number"),
        ("/pricing", long.as_str(), "path: is longer than 255 characters"),
        ("site-111", long.as_str(), "site_id: is longer than 255 characters"),
        ("page_view", &long[..101], "event_type: is longer than 100 characters"),
    ];
    for (part, other, reason) in cases {
        let message = refused(&app.client().post(EVENT, &VIEW.replace(part, other)), 400);
        assert!(message.starts_with(reason), "{message}");
    }
    for body in ["", "{", "[]", r#""text""#] {
        refused(&app.client().post(EVENT, body), 400);
    }
    assert_eq!(refused(&app.client().get(EVENT), 405), "this path does not support this method");
    assert_eq!(app.log_end(), 0);
    received(&app.client().post(EVENT, VIEW));
}

/// The replaced service kept events in memory, wrote 50 per second, and lost the rest when it ended.
#[test]
fn received_events_survive_a_kill() {
    let mut app = TestApp::start();
    let sent: Vec<String> = (0..200).map(|n| VIEW.replace("u1", &format!("u{n}"))).collect();
    std::thread::scope(|scope| {
        for part in sent.chunks(50) {
            let client = app.client();
            scope.spawn(move || part.iter().for_each(|body| received(&client.post(EVENT, body))));
        }
    });
    app.restart();
    let mut kept: Vec<String> =
        tail(&app).iter().map(|shown| shown["event"]["user_id"].as_str().unwrap().to_owned()).collect();
    let mut expected: Vec<String> = (0..200).map(|n| format!("u{n}")).collect();
    kept.sort();
    expected.sort();
    assert_eq!(kept, expected);
}

#[test]
fn one_line_opens_the_source_and_a_wrong_key_is_still_refused() {
    let app = TestApp::start();
    assert_eq!(refused(&app.anonymous().post(EVENT, VIEW), 401), "Unauthorized");
    drop(app);
    let app = TestApp::configured("[source.site_event]\naccess = \"open\"\n");
    received(&app.anonymous().post(EVENT, VIEW));
    let wrong = app.anonymous().with_header("Authorization", "wrong");
    assert_eq!(refused(&wrong.post(EVENT, VIEW), 401), "Unauthorized");
    // Other sources are still closed.
    assert_eq!(app.anonymous().post("/events/ingest", "{}").status, 401);
    let everywhere = format!("0.0.0.0:{}", crate::harness::free_port());
    let start = Start {
        config: Some("[source.site_event]\naccess = \"open\"\n".to_owned()),
        arguments: ["--listen", &everywhere, "--behind-proxy"].map(str::to_owned).to_vec(),
        ..Start::default()
    };
    let folder = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let Err(log) = TestApp::try_with(start, folder) else { panic!("the server started") };
    assert!(log.contains("source `site_event` is open"), "{log}");
}

/// Declares a source with a path, status and texts that no preset has.
#[test]
fn a_configured_source_uses_its_own_responses() {
    let app = TestApp::configured(
        r#"
        [source.sensors]
        kind = "http"
        path = "/api/v2/readings"
        stream = "readings"
        status = 201
        answer = '["taken", {"as": "{eventId}"}]'
        error_key = "problem"
        errors = { unauthorized = "who are you?", missing = "lacks something", invalid = "no good ({reason})", conflict = "again?" }
        ids = true
        [stream.readings]
        key = "sensor"
        fields.sensor = { type = "integer", required = true, min = 1 }
        fields.value = { type = "decimal", required = true, digits = 3, places = 1 }
        "#,
    );
    let client = app.client();
    let path = "/api/v2/readings";
    let answer = client.post(path, r#"{"sensor":3,"value":20.5,"id":"a"}"#);
    assert_eq!(answer.status, 201, "{}", answer.text());
    let id = answer.json()[1]["as"].as_str().unwrap().to_owned();
    assert_eq!(answer.json(), json!(["taken", { "as": id }]));
    assert_eq!(app.client().get(&format!("/v1/events/{id}")).json()["stream"], "readings");
    let cases = [
        (r#"{"sensor":3,"value":20.5,"id":"b","x":"#, 400, "no good ("),
        (r#"{"value":20.5}"#, 400, "lacks something"),
        (r#"{"sensor":0,"value":20.5}"#, 400, "no good (sensor: must be between 1 and"),
        (r#"{"sensor":3,"value":20.55}"#, 400, "no good (value: has more than 1 decimal place)"),
        (r#"{"sensor":3,"value":1000}"#, 400, "no good (value: has more than 3 digits before the point)"),
        (r#"{"sensor":3,"value":20.6,"id":"a"}"#, 409, "again?"),
    ];
    for (body, status, message) in cases {
        let answer = client.post(path, body);
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.json()["problem"].as_str().unwrap().starts_with(message), "{}", answer.text());
    }
    assert_eq!(app.anonymous().post(path, "{}").json(), json!({ "problem": "who are you?" }));
    assert_eq!(client.get(path).json()["problem"], "this path does not support this method");
}
