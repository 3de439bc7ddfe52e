//! The native API: objects, arrays and lines, and the ids that identify a repeat.

use std::collections::BTreeSet;
use std::io::Write;

use serde_json::{Value, json};

use crate::harness::http::read_answer;
use crate::harness::{Answer, Client, TestApp, wait_for};

const EVENTS: &str = "/v1/streams/revenue/events";
const APPLIED: &str = "/v1/streams/revenue/events?wait=applied";

fn event(user: &str, value: u32) -> String {
    format!(r#"{{"userId":"{user}","name":"add_revenue","value":{value}}}"#)
}

fn identified(id: &str, user: &str, value: u32) -> String {
    format!(r#"{{"id":"{id}","userId":"{user}","name":"add_revenue","value":{value}}}"#)
}

fn lines(user: &str, count: usize) -> String {
    (0..count).map(|_| event(user, 1) + "\n").collect()
}

fn accepted(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// Expects a refusal in problem details with this status and code, and returns its body.
fn problem(answer: &Answer, status: u16, code: &str) -> Value {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let body = answer.json();
    assert_eq!(body["type"], format!("urn:millrace:problem:{code}"), "{body}");
    assert_eq!(body["status"], status);
    assert!(body["title"].is_string() && body["detail"].is_string(), "{body}");
    body
}

#[test]
fn an_object_an_array_and_lines_are_accepted() {
    let app = TestApp::start();
    let client = app.client();
    let one = accepted(&client.post(APPLIED, &event("u", 1)));
    assert_eq!((&one["accepted"], &one["applied"]), (&json!(1), &json!(true)));
    // An applied event is visible at once.
    assert_eq!(client.get("/userEvents/u").text(), r#"[{"user_id":"u","revenue":1}]"#);
    let many = accepted(&client.post(APPLIED, &format!(" [{}, {}]", event("u", 2), event("u", 3))));
    assert_eq!(many["accepted"], 2);
    assert_eq!(many["eventIds"].as_array().unwrap().len(), 2);
    assert_eq!(client.get("/userEvents/u").text(), r#"[{"user_id":"u","revenue":6}]"#);
    let some = accepted(&client.post_lines(APPLIED, &lines("u", 4)));
    assert_eq!(
        some,
        json!({ "accepted": 4, "refused": 0, "lines": 4, "applied": true }),
        "without refused lines there is no `errors`"
    );
    assert_eq!(client.get("/v1/views/revenue/balances/u").json(), json!({ "key": "u", "balance": 10 }));
    let none = accepted(&client.post(EVENTS, "[]"));
    assert_eq!(none, json!({ "accepted": 0, "eventIds": [] }));
}

#[test]
fn an_array_is_all_or_nothing_and_refusals_are_listed_by_index() {
    let app = TestApp::start();
    let bad = format!("[{},{{}},{},7]", event("u", 1), r#"{"userId":"u","name":"add_revenue","value":"x"}"#);
    let body = problem(&app.client().post(EVENTS, &bad), 400, "invalid-event");
    assert_eq!(body["errorCount"], 3);
    assert_eq!(
        body["errors"],
        json!([
            { "index": 1, "field": "name", "reason": "is missing" },
            { "index": 1, "field": "userId", "reason": "is missing" },
            { "index": 1, "field": "value", "reason": "is missing" },
            { "index": 2, "field": "value", "reason": "expected a number, got text" },
            { "index": 3, "field": "", "reason": "expected a JSON object, got a number" },
        ])
    );
    let all_bad = format!("[{}]", vec!["{}"; 1_500].join(","));
    let body = problem(&app.client().post(EVENTS, &all_bad), 400, "invalid-event");
    assert_eq!((body["errors"].as_array().unwrap().len(), &body["errorCount"]), (3_000, &json!(1_500)));
    // After 4,000 faults, only the first one of each event is listed: here 250 events with 16, then 750 with one.
    let bad_keys: String = (0..16).map(|n| format!(r#","k{n}":"\u0000""#)).collect();
    let worst = format!(r#"{{"userId":"u","name":"add_revenue","value":1{bad_keys}}}"#);
    let array = format!("[{}]", vec![worst.as_str(); 1_000].join(","));
    let body = problem(&app.client().post(EVENTS, &array), 400, "invalid-event");
    assert_eq!((body["errors"].as_array().unwrap().len(), &body["errorCount"]), (4_750, &json!(1_000)));
    let half = format!("{worst}\n").repeat(500);
    let chunks = format!("{half}{}{half}", lines("u", 500));
    let body = accepted(&app.client().post_lines(&format!("{EVENTS}?partial=true&check=only"), &chunks));
    assert_eq!((body["errors"].as_array().unwrap().len(), &body["refused"]), (4_750, &json!(1_000)));
    let one = problem(&app.client().post(EVENTS, "{}"), 400, "invalid-event");
    let fault = |field: &str| json!({ "index": 0, "field": field, "reason": "is missing" });
    assert_eq!(one["errors"], json!([fault("name"), fault("userId"), fault("value")]));
    assert_eq!(one["detail"], "name: is missing; userId: is missing; value: is missing");
    assert_eq!(app.log_end(), 0);
}

#[test]
fn an_array_or_query_that_cannot_be_read_is_refused_in_plain_words() {
    let app = TestApp::start();
    for (array, reason) in [
        ("[{},", "the array: line 1, column 4: the JSON ends where a value is expected"),
        ("[\n{}", "the array: line 2, column 2: the JSON ends inside an array"),
        ("[{} {}]", "the array: line 1, column 5: expected `,` or `]` after an item of an array"),
        ("[{}] {}", "the array: line 1, column 6: there is more text after the end of the JSON"),
    ] {
        let refused = problem(&app.client().post(EVENTS, array), 400, "invalid-event");
        assert_eq!(refused["errors"][0]["reason"], reason, "{array}");
    }
    for (path, detail) in [
        ("/v1/dead-letters?limit=x", "query: `limit` must be a whole number"),
        (
            "/v1/views/revenue/balances?limt=1",
            "query: `limt` does not exist; did you mean `limit`? (names: `after`, `limit`)",
        ),
    ] {
        assert_eq!(problem(&app.client().get(path), 400, "invalid-parameter")["detail"], detail);
    }
}

#[test]
fn an_array_is_limited_in_events_and_bytes() {
    let app = TestApp::start();
    let array = |count: usize| format!("[{}]", vec![event("u", 1); count].join(","));
    let full = accepted(&app.client().post(EVENTS, &array(10_000)));
    assert_eq!(full["accepted"], 10_000);
    problem(&app.client().post(EVENTS, &array(10_001)), 413, "too-large");
    let large = format!("[{}{}]", event("u", 1), " ".repeat(16 * 1024 * 1024));
    problem(&app.client().post(EVENTS, &large), 413, "too-large");
    let event_too_large =
        format!(r#"{{"userId":"u","name":"add_revenue","value":1,"note":"{}"}}"#, "x".repeat(1024 * 1024));
    problem(&app.client().post(EVENTS, &event_too_large), 413, "too-large");
    let body = problem(&app.client().post(EVENTS, &format!("[{event_too_large}]")), 400, "invalid-event");
    assert_eq!(body["errors"][0]["reason"], "is larger than 1048576 bytes");
    assert_eq!(app.log_end(), 10_000);
    assert_eq!(app.balance("u").as_deref(), Some("10000"));
}

#[test]
fn any_number_of_lines_with_any_line_ending_is_accepted() {
    let app = TestApp::start();
    for (index, count) in [1, 999, 1_000, 1_001, 2_000, 3_500].into_iter().enumerate() {
        let user = format!("u{index}");
        let body = lines(&user, count);
        let answer = accepted(&app.client().post_lines(EVENTS, &body));
        assert_eq!((&answer["accepted"], &answer["lines"]), (&json!(count), &json!(count)));
        let answer = accepted(&app.client().post_lines(EVENTS, body.trim_end()));
        assert_eq!((&answer["accepted"], &answer["lines"]), (&json!(count), &json!(count)));
        assert_eq!(app.balance(&user), Some((count * 2).to_string()));
    }
    let odd = format!("\n\r\n{}\r\n  \n{}\n\n{}", event("odd", 1), event("odd", 2), event("odd", 4));
    let answer = accepted(&app.client().post_lines(EVENTS, &odd));
    assert_eq!((&answer["accepted"], &answer["lines"]), (&json!(3), &json!(7)));
    assert_eq!(app.balance("odd").as_deref(), Some("7"));
    for nothing in ["", "\n", "\r\n\n"] {
        let answer = accepted(&app.client().post_lines(EVENTS, nothing));
        assert_eq!((&answer["accepted"], &answer["refused"]), (&json!(0), &json!(0)));
    }
}

#[test]
fn lines_stop_at_the_first_bad_chunk_and_say_how_many_are_durable() {
    let app = TestApp::start();
    let cases = [
        (0, "{}", 400, "invalid-event"),
        (999, "nonsense", 400, "invalid-event"),
        (1_000, "{\"userId\":\"u\"}", 400, "invalid-event"),
        (2_345, "[]", 400, "invalid-event"),
    ];
    let mut durable = 0;
    for (before, bad, status, code) in cases {
        let body = format!("{}{bad}\n{}", lines("u", before), lines("u", 10));
        let body = problem(&app.client().post_lines(EVENTS, &body), status, code);
        let whole_chunks = before / 1_000 * 1_000;
        assert_eq!(body["durableLines"], whole_chunks, "{body}");
        assert_eq!(body["errors"][0]["line"], before + 1, "{body}");
        durable += whole_chunks as u64;
        assert_eq!(app.log_end(), durable);
    }
    // For any reason, the client has to know from which line to continue.
    let long = format!("{}{}\n", lines("u", 1_500), "x".repeat(1024 * 1024 + 10));
    let body = problem(&app.client().post_lines(EVENTS, &long), 413, "too-large");
    assert_eq!(body["durableLines"], 1_000, "{body}");
    assert_eq!(app.log_end(), durable + 1_000);
}

#[test]
fn partial_keeps_the_good_lines_and_lists_the_bad_ones() {
    let app = TestApp::start();
    let mut all: Vec<String> = vec![event("u", 1); 2_500];
    for bad in [0, 999, 1_000, 2_499] {
        all[bad] = "{}".to_owned();
    }
    all[5] = "{\"userId\":\"\u{0}\"}".to_owned();
    let path = format!("{EVENTS}?partial=true&wait=applied");
    let answer = accepted(&app.client().post_lines(&path, &all.join("\n")));
    assert_eq!(
        (&answer["accepted"], &answer["refused"], &answer["lines"]),
        (&json!(2_495), &json!(5), &json!(2_500))
    );
    let mut bad: Vec<u64> =
        answer["errors"].as_array().unwrap().iter().map(|error| error["line"].as_u64().unwrap()).collect();
    bad.dedup();
    assert_eq!(bad, [1, 6, 1_000, 1_001, 2_500]);
    assert_eq!(app.balance("u").as_deref(), Some("2495"));
}

#[test]
fn a_chunked_body_may_have_chunks_of_any_size() {
    let app = TestApp::start();
    let body = lines("é", 1_200);
    for size in [1, 7, 4_099] {
        let mut stream = app.client().connect().unwrap();
        let head = app.client().head("POST", APPLIED, "application/x-ndjson", 0);
        stream.write_all(head.replace("Content-Length: 0", "Transfer-Encoding: chunked").as_bytes()).unwrap();
        let mut wire = Vec::new();
        for piece in body.as_bytes().chunks(size) {
            wire.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            wire.extend_from_slice(piece);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"0\r\n\r\n");
        wire.chunks(997).for_each(|bytes| stream.write_all(bytes).unwrap());
        assert_eq!(accepted(&read_answer(&mut stream).unwrap())["accepted"], 1_200, "pieces of {size}");
    }
    assert_eq!(app.balance("%C3%A9").as_deref(), Some("3600"));
}

#[test]
fn one_id_is_one_event_with_one_event_id() {
    let mut app = TestApp::start();
    let body = identified("sale-1", "u", 5);
    let first = accepted(&app.client().post(EVENTS, &body))["eventId"].clone();
    assert_eq!(accepted(&app.client().post(EVENTS, &body))["eventId"], first);
    let array = format!("[{body},{}]", identified("sale-2", "u", 5));
    assert_eq!(accepted(&app.client().post(EVENTS, &array))["eventIds"][0], first);
    accepted(&app.client().post_lines(EVENTS, &format!("{body}\n{body}\n")));
    assert_eq!(app.balance("u").as_deref(), Some("10"));
    app.kill();
    app.restart();
    assert_eq!(accepted(&app.client().post(EVENTS, &body))["eventId"], first);
    app.stop();
    app.restart();
    assert_eq!(accepted(&app.client().post(EVENTS, &body))["eventId"], first);
    assert_eq!(app.balance("u").as_deref(), Some("10"));

    let receipt = app.client().get(&format!("/v1/events/{}", first.as_str().unwrap())).json();
    assert_eq!((&receipt["id"], &receipt["position"]), (&first, &json!(0)));
    assert_eq!(receipt["views"], json!({ "revenue": { "state": "applied" } }));
}

#[test]
fn an_idempotency_key_covers_the_whole_request() {
    let app = TestApp::start();
    let keyed = app.client().with_header("Idempotency-Key", "request-1");
    let one = accepted(&keyed.post(EVENTS, &event("one", 1)))["eventId"].clone();
    assert_eq!(accepted(&keyed.post(EVENTS, &event("one", 1)))["eventId"], one);

    let keyed = app.client().with_header("Idempotency-Key", "request-2");
    // Two equal events in one request are two events.
    let array = format!("[{},{}]", event("many", 1), event("many", 1));
    let many = accepted(&keyed.post(EVENTS, &array))["eventIds"].clone();
    assert!(many[0] != many[1]);
    assert_eq!(accepted(&keyed.post(EVENTS, &array))["eventIds"], many);

    let keyed = app.client().with_header("Idempotency-Key", "request-3");
    for _ in 0..3 {
        accepted(&keyed.post_lines(EVENTS, &lines("lines", 1_500)));
    }
    // An idempotency key and a client's id with the same text do not collide.
    accepted(&app.client().post(EVENTS, &identified("request-1#0", "other", 1)));
    accepted(&app.client().post(EVENTS, &identified("request-1", "other", 1)));
    for (user, balance) in [("one", "1"), ("many", "2"), ("lines", "1500"), ("other", "2")] {
        assert_eq!(app.balance(user).as_deref(), Some(balance), "{user}");
    }
    for key in ["", &"k".repeat(201)] {
        let answer = app.client().with_header("Idempotency-Key", key).post(EVENTS, &event("u", 1));
        problem(&answer, 400, "invalid-parameter");
    }
}

/// One of the two names would be ignored, so that events with the same key would count twice without a conflict.
#[test]
fn an_idempotency_key_and_another_id_of_the_event_are_refused() {
    let app = TestApp::start();
    let keyed = app.client().with_header("Idempotency-Key", "k1");
    let reason =
        "differs from the `Idempotency-Key` of the request; both name the event, so send only one of them";
    let refused = problem(&keyed.post(EVENTS, &identified("a", "u", 1)), 400, "invalid-event");
    assert_eq!(refused["errors"], json!([{ "index": 0, "field": "id", "reason": reason }]));
    let array = format!("[{},{}]", event("u", 1), identified("b", "u", 1));
    let refused = problem(&keyed.post(EVENTS, &array), 400, "invalid-event");
    assert_eq!(refused["errors"], json!([{ "index": 1, "field": "id", "reason": reason }]));
    assert_eq!(app.log_end(), 0);
    let id = accepted(&keyed.post(EVENTS, &identified("k1", "u", 1)))["eventId"].clone();
    assert_eq!(accepted(&app.client().post(EVENTS, &identified("k1", "u", 1)))["eventId"], id);
    problem(&keyed.post(EVENTS, &identified("k1", "u", 2)), 409, "conflict");
    let correction = format!(r#"{{"takesBack":{id},"id":"c1"}}"#);
    problem(&keyed.post(EVENTS, &correction), 400, "invalid-event");
    // A key names the lines of a body by their numbers. A line may have an id as well: both are checked.
    let lines = |value| format!("{}\n", identified("of a line", "u", value));
    for _ in 0..2 {
        accepted(&keyed.post_lines(EVENTS, &lines(5)));
    }
    accepted(&keyed.post_lines(EVENTS, &lines(6)));
    assert_eq!(app.balance("u").as_deref(), Some("6"));
}

#[test]
fn the_answer_to_a_repeat_says_that_it_is_one() {
    let mut app = TestApp::start();
    let replayed = |answer: &Answer| {
        accepted(answer);
        let value = answer.header("idempotent-replayed").map(str::to_owned);
        assert!(value.is_none() || value.as_deref() == Some("true"), "{value:?}");
        value.is_some()
    };
    let one = |app: &TestApp| app.client().post(EVENTS, &identified("a", "u", 1));
    let keyed = |app: &TestApp| {
        app.client()
            .with_header("Idempotency-Key", "k")
            .post(EVENTS, &format!("[{},{}]", event("u", 1), event("u", 1)))
    };
    assert!(!replayed(&one(&app)) && !replayed(&keyed(&app)));
    assert!(one(&app).json()["eventId"].is_string());
    app.settle();
    let answer = one(&app);
    assert!(replayed(&answer) && answer.json()["repeat"] == true, "{}", answer.text());
    let answer = keyed(&app);
    assert!(replayed(&answer) && answer.json()["repeats"] == json!([0, 1]), "{}", answer.text());
    // Some events of the request are new.
    let array = format!("[{},{}]", identified("b", "u", 1), identified("a", "u", 1));
    let answer = app.client().post(EVENTS, &array);
    assert!(!replayed(&answer) && answer.json()["repeats"] == json!([1]), "{}", answer.text());
    let new = app.client().post(EVENTS, &event("u", 1));
    assert!(!replayed(&new) && new.json()["repeat"].is_null(), "{}", new.text());
    // After a restart, dedup still knows the ids, and the answer waits for it only with `wait`.
    app.restart();
    let answer = app.client().post(APPLIED, &identified("a", "u", 1));
    assert!(replayed(&answer) && answer.json()["repeat"] == true, "{}", answer.text());
    assert_eq!(app.balance("u").as_deref(), Some("5"), "a, b, two under a key, and one without a name");
}

/// Under a reused key, events of another body are not applied, but they are not dropped silently either.
#[test]
fn lines_that_reuse_an_idempotency_key_for_another_body_become_dead_letters() {
    let app = TestApp::start();
    let keyed = app.client().with_header("Idempotency-Key", "reused");
    for count in [3, 5, 2] {
        accepted(&keyed.post_lines(EVENTS, &lines("u", count)));
    }
    assert_eq!(app.balance("u").as_deref(), Some("3"));
    let dead_letters = app.client().get("/v1/dead-letters?status=open").json();
    assert_eq!(dead_letters["deadLetters"].as_array().unwrap().len(), 5 + 2, "{dead_letters}");
    // No view has seen these events. A retried one counts once in every view of the stream.
    let path = format!("/v1/dead-letters/{}/retry", dead_letters["deadLetters"][0]["id"].as_str().unwrap());
    assert_eq!(app.client().post(&path, "").status, 200);
    assert_eq!(app.balance("u").as_deref(), Some("4"));
    assert_eq!(app.client().post("/v1/views/revenue/reconcile", "").json()["differenceCount"], 0);
}

#[test]
fn one_id_from_many_clients_at_once_counts_once() {
    let app = TestApp::start();
    let send = |client: Client| {
        move || {
            let ids = (0..40).map(|index| {
                let body = identified(&format!("id-{}", index % 10), "u", 1);
                accepted(&client.post(EVENTS, &body))["eventId"].as_str().unwrap().to_owned()
            });
            ids.collect::<BTreeSet<String>>()
        }
    };
    let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(send(app.client()))).collect();
    let ids: BTreeSet<String> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert_eq!(ids.len(), 10);
    assert_eq!(app.balance("u").as_deref(), Some("10"));
}

#[test]
fn events_resent_until_acknowledged_count_once_although_the_server_is_killed() {
    let mut app = TestApp::start();
    for round in 0..4 {
        let client = app.client();
        let sender = std::thread::spawn(move || {
            for index in 0..500 {
                let body = identified(&format!("{round}-{index}"), "u", 1);
                if client.try_request("POST", EVENTS, Some(("application/json", body.as_bytes()))).is_err() {
                    return;
                }
            }
        });
        let begun = app.log_end();
        wait_for("some events", || app.log_end() > begun + 20);
        app.kill();
        sender.join().unwrap();
        app.restart();
        let all: String =
            (0..500).map(|index| identified(&format!("{round}-{index}"), "u", 1) + "\n").collect();
        accepted(&app.client().post_lines(EVENTS, &all));
    }
    assert_eq!(app.balance("u").as_deref(), Some("2000"));
}

#[test]
fn an_id_used_for_another_event_is_a_conflict_or_a_dead_letter_and_never_applied() {
    let mut app = TestApp::start();
    accepted(&app.client().post(EVENTS, &identified("x", "u", 1)));
    problem(&app.client().post(EVENTS, &identified("x", "u", 1_000)), 409, "conflict");
    app.restart();
    // After the restart, admission no longer remembers the id, but the dedup stage does.
    let other = accepted(&app.client().post(EVENTS, &identified("x", "u", 1_000)));
    assert_eq!(app.balance("u").as_deref(), Some("1"));
    let dead_letters = app.client().get("/v1/dead-letters?status=open").json();
    let dead_letters = dead_letters["deadLetters"].as_array().unwrap();
    assert_eq!(dead_letters.len(), 1);
    assert_eq!(dead_letters[0]["view"], "dedup");
    assert_eq!(dead_letters[0]["reason"], "the same id was used before for another event");
    assert_eq!(dead_letters[0]["event"]["value"], 1_000);
    assert_eq!(dead_letters[0]["eventId"].as_str().unwrap().len(), 36);
    assert_eq!(other["accepted"], 1);
    // The first event keeps the id, although admission has seen the conflicting event last.
    let again = accepted(&app.client().post(EVENTS, &identified("x", "u", 1)));
    assert_eq!(again["eventId"], other["eventId"]);
    problem(&app.client().post(EVENTS, &identified("x", "u", 1_000)), 409, "conflict");
    assert_eq!(app.balance("u").as_deref(), Some("1"));
    // The same holds within one request.
    let both = format!("[{},{}]", identified("y", "v", 1), identified("y", "v", 1_000));
    problem(&app.client().post(EVENTS, &both), 409, "conflict");
    assert_eq!(app.balance("v"), None);
}

#[test]
fn ids_are_separate_for_each_stream_and_key_name() {
    let config = r#"
        [stream.refunds]
        key = "userId"
        fields.userId = { type = "text", required = true }
        fields.value = { type = "decimal", required = true }
        [view.refunds]
        kind = "ledger"
        from = "refunds"
        amount = "-value"
    "#;
    let app = TestApp::configured(config);
    // A new key of the same name shares the ids of the old one, which is revoked first.
    let shop = || {
        app.client().request("DELETE", "/v1/keys/shop", None);
        let made = app.client().post("/v1/keys", r#"{"name":"shop","scopes":["send"]}"#).json();
        app.anonymous().with_header("Authorization", made["key"].as_str().unwrap())
    };
    let body = identified("1", "u", 1);
    let mut ids = BTreeSet::new();
    let mut send = |client: Client, path: &str| {
        ids.insert(accepted(&client.post(path, &body))["eventId"].as_str().unwrap().to_owned());
    };
    send(app.client(), EVENTS);
    send(shop(), EVENTS);
    send(shop(), EVENTS);
    send(shop(), "/v1/streams/refunds/events");
    assert_eq!(ids.len(), 3);
    assert_eq!(app.balance("u").as_deref(), Some("2"));
    assert_eq!(app.client().get("/v1/views/refunds/balances/u").json()["balance"], -1);
}

#[test]
fn a_receipt_says_where_an_event_is() {
    let app = TestApp::start();
    let ids = accepted(&app.client().post(APPLIED, &format!("[{},{}]", event("u", 1), event("u", 2))));
    for (index, id) in ids["eventIds"].as_array().unwrap().iter().enumerate() {
        let receipt = app.client().get(&format!("/v1/events/{}", id.as_str().unwrap())).json();
        assert_eq!((&receipt["id"], &receipt["stream"]), (id, &json!("revenue")));
        assert_eq!(receipt["event"]["value"], index + 1);
        assert_eq!(receipt["views"]["revenue"]["state"], "applied");
    }
    for unknown in ["00000000-0000-5000-8000-000000000000", "00000000-0000-8000-8000-000000000000"] {
        problem(&app.client().get(&format!("/v1/events/{unknown}")), 404, "not-found");
    }
    problem(&app.client().get("/v1/events/what"), 400, "invalid-parameter");
    problem(&app.anonymous().get("/v1/events/what"), 401, "unauthorized");
}

#[test]
fn every_refusal_is_problem_details_with_a_stable_type() {
    let app = TestApp::start();
    let client = app.client();
    let good = event("u", 1);
    problem(&client.post("/v1/streams/none/events", &good), 404, "not-found");
    problem(&client.get("/v1/streams/none/events"), 404, "not-found");
    problem(&client.get("/v1/views/none/balances"), 404, "not-found");
    problem(&client.get("/v1/nowhere"), 404, "no-route");
    problem(&client.request("PUT", EVENTS, None), 405, "method-not-allowed");
    problem(&client.request("DELETE", "/v1/keys", None), 405, "method-not-allowed");
    problem(&app.anonymous().post(EVENTS, &good), 401, "unauthorized");
    problem(&client.clone().with_header("Content-Type", "text/csv").post(EVENTS, &good), 415, "content-type");
    problem(
        &client.clone().with_header("Content-Encoding", "br").post(EVENTS, &good),
        415,
        "content-encoding",
    );
    for query in ["wait=soon", "partial=perhaps", "check=twice", "unknown=1"] {
        let answer = client.post(&format!("{EVENTS}?{query}"), &good);
        problem(&answer, 400, "invalid-parameter");
        let named = format!("query: `{}`", query.split('=').next().unwrap());
        assert!(answer.json()["detail"].as_str().unwrap().starts_with(&named), "{}", answer.text());
    }
    problem(&client.get("/v1/streams/%FF/events"), 400, "invalid-parameter");
    assert_eq!(app.log_end(), 0);
}

#[test]
fn check_only_stores_nothing() {
    let app = TestApp::start();
    let path = format!("{EVENTS}?check=only");
    assert_eq!(accepted(&app.client().post(&path, &event("u", 1)))["checked"], 1);
    let array = format!("[{},{}]", identified("1", "u", 1), identified("2", "u", 1));
    assert_eq!(accepted(&app.client().post(&path, &array)), json!({ "accepted": 0, "checked": 2 }));
    let checked = accepted(&app.client().post_lines(&path, &lines("u", 1_500)));
    assert_eq!((&checked["accepted"], &checked["lines"]), (&json!(0), &json!(1_500)));
    problem(&app.client().post(&path, "{}"), 400, "invalid-event");
    let bad = format!("{}{{}}", lines("u", 1_500));
    let body = problem(&app.client().post_lines(&path, &bad), 400, "invalid-event");
    assert_eq!((&body["durableLines"], &body["errors"][0]["line"]), (&json!(0), &json!(1_501)));
    assert_eq!(app.log_end(), 0);
    // The checked ids are not remembered: they can still be used.
    accepted(&app.client().post(EVENTS, &identified("1", "u", 9)));
    assert_eq!(app.balance("u").as_deref(), Some("9"));
}

#[test]
fn an_invalid_upload_name_or_line_number_is_refused() {
    let app = TestApp::start();
    let named = |upload: &str, first: &str| {
        app.client().with_header("Millrace-Upload", upload).with_header("Millrace-First-Line", first)
    };
    for _ in 0..2 {
        accepted(&named("file-1", "1").post_lines(EVENTS, &lines("u", 3)));
    }
    // If two runs overlap, only the new lines count.
    accepted(&named("file-1", "3").post_lines(EVENTS, &lines("u", 3)));
    for (upload, first) in [("données", "1"), ("", "1"), ("file-1", "0"), ("file-1", "x"), ("file-1", "é")]
    {
        problem(&named(upload, first).post_lines(EVENTS, &lines("u", 1)), 400, "invalid-parameter");
    }
    let unnamed = app.client().with_header("Millrace-First-Line", "1");
    problem(&unnamed.post_lines(EVENTS, &lines("u", 1)), 400, "invalid-parameter");
    assert_eq!(app.balance("u").as_deref(), Some("5"));
    let runs = app.client().get("/v1/streams/revenue/uploads/file-1").json();
    assert_eq!(runs["runs"][0]["lines"], 3);
}
