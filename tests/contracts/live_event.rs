//! Contract 1: revenue, one event at a time.

use serde_json::{Value, json};

use crate::harness::{Client, Start, TestApp, free_port, wait_for};

fn event(user: &str, name: &str, value: &str) -> String {
    format!(r#"{{"userId":{},"name":"{name}","value":{value}}}"#, json!(user))
}

/// Sends one event that must be accepted, and returns its id.
fn send(client: &Client, body: &str) -> String {
    let answer = client.post("/liveEvent", body);
    assert_eq!(answer.status, 200, "{body}: {}", answer.text());
    answer.json()["eventId"].as_str().unwrap().to_owned()
}

fn refused(client: &Client, body: &str) -> String {
    let answer = client.post("/liveEvent", body);
    assert_eq!(answer.status, 400, "{body}: {}", answer.text());
    answer.json()["error"].as_str().unwrap().to_owned()
}

/// Percent-encodes every byte that is not an ASCII letter or digit.
fn escaped(text: &str) -> String {
    let byte = |byte: u8| {
        if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(byte).collect()
}

#[test]
fn a_sale_goes_from_socket_to_balance() {
    let app = TestApp::start();
    let answer = app.client().post("/liveEvent", r#"{"userId":"user1","name":"add_revenue","value":100}"#);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body = answer.json();
    assert_eq!(body["message"], "Event received");
    assert!(body["eventId"].as_str().is_some_and(|id| id.len() == 36));
    app.settle();
    let answer = app.client().get("/userEvents/user1");
    assert_eq!((answer.status, answer.text().as_str()), (200, r#"[{"user_id":"user1","revenue":100}]"#));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[test]
fn amounts_keep_their_exact_digits() {
    let app = TestApp::start();
    let client = app.client();
    type Sent = &'static [(&'static str, &'static str)];
    let cases: [(&str, Sent, &str); 10] = [
        ("zero", &[("add_revenue", "0")], "0"),
        ("below", &[("subtract_revenue", "12.5")], "-12.5"),
        ("both", &[("add_revenue", "100"), ("subtract_revenue", "50")], "50"),
        ("cents", &[("add_revenue", "10.99")], "10.99"),
        ("small", &[("add_revenue", "0.0001")], "0.0001"),
        ("most", &[("add_revenue", "999999999999999.9999")], "999999999999999.9999"),
        ("least", &[("subtract_revenue", "999999999999999.9999")], "-999999999999999.9999"),
        ("power", &[("add_revenue", "1e2"), ("add_revenue", "1.5E-1")], "100.15"),
        ("negative", &[("add_revenue", "-3.5"), ("subtract_revenue", "-1")], "-2.5"),
        ("float", &[("add_revenue", "0.1"), ("add_revenue", "0.2")], "0.3"),
    ];
    for (user, events, _) in cases {
        events.iter().for_each(|(name, value)| drop(send(&client, &event(user, name, value))));
    }
    for _ in 0..3 {
        send(&client, &event("sum", "add_revenue", "999999999999999.9999"));
    }
    for (user, _, balance) in cases {
        assert_eq!(app.balance(user).as_deref(), Some(balance), "{user}");
    }
    assert_eq!(app.balance("sum").as_deref(), Some("2999999999999999.9997"));
}

#[test]
fn an_invalid_event_is_refused_with_its_field_and_not_stored() {
    let app = TestApp::start();
    let client = app.client();
    let end = app.log_end();
    let cases = [
        (r#"{"name":"add_revenue","value":1}"#, "userId: is missing"),
        (r#"{"userId":"","name":"add_revenue","value":1}"#, "userId: is missing"),
        (r#"{"userId":null,"name":"add_revenue","value":1}"#, "userId: is missing"),
        (r#"{"userId":{},"name":"add_revenue","value":1}"#, "userId: expected text, got an object"),
        (r#"{"userId":1.5,"name":"add_revenue","value":1}"#, "userId: expected text, got a number"),
        (r#"{"userId":"u","value":1}"#, "name: is missing"),
        (r#"{"userId":"u","name":"","value":1}"#, "name: is missing"),
        (
            r#"{"userId":"u","name":"give","value":1}"#,
            "name: must be one of `add_revenue`, `subtract_revenue`",
        ),
        (
            r#"{"userId":"u","name":"Add_revenue","value":1}"#,
            "name: must be one of `add_revenue`, `subtract_revenue`",
        ),
        (r#"{"userId":"u","name":"add_revenue"}"#, "value: is missing"),
        (r#"{"userId":"u","name":"add_revenue","value":null}"#, "value: is missing"),
        (r#"{"userId":"u","name":"add_revenue","value":"100"}"#, "value: expected a number, got text"),
        (r#"{"userId":"u","name":"add_revenue","value":true}"#, "value: expected a number, got a boolean"),
        (r#"{"userId":"u","name":"add_revenue","value":0.00001}"#, "value: has more than 4 decimal places"),
        (r#"{"userId":"u","name":"add_revenue","value":1e-5}"#, "value: has more than 4 decimal places"),
        (
            r#"{"userId":"u","name":"add_revenue","value":1000000000000000}"#,
            "value: has more than 15 digits before the point",
        ),
        (
            r#"{"userId":"u","name":"add_revenue","value":-1e15}"#,
            "value: has more than 15 digits before the point",
        ),
        ("[]", "expected a JSON object, got an array"),
    ];
    for (body, reason) in cases {
        assert_eq!(refused(&client, body), reason, "{body}");
    }
    let long = "é".repeat(256);
    assert_eq!(refused(&client, &event(&long, "add_revenue", "1")), "userId: is longer than 255 characters");
    assert_eq!(app.log_end(), end);
    assert_eq!(app.balance("u"), None);
}

#[test]
fn user_ids_are_compared_byte_by_byte() {
    let app = TestApp::start();
    let client = app.client();
    let longest = "é".repeat(255);
    let users = ["a", "A", "é", "e\u{301}", "a ", " a", "a/b", "a%2Fb", "日本 語", "..", "?x=1#y", &longest];
    for (index, user) in users.iter().enumerate() {
        send(&client, &event(user, "add_revenue", &(index + 1).to_string()));
    }
    app.settle();
    for (index, user) in users.iter().enumerate() {
        let answer = client.get(&format!("/userEvents/{}", escaped(user)));
        assert_eq!((answer.status, answer.json()), (200, json!([{ "user_id": user, "revenue": index + 1 }])));
    }
}

#[test]
fn an_unknown_user_is_named_in_the_answer() {
    let app = TestApp::start();
    for user in ["nobody", "a/b", "a b", "%2F", "日本", "q\"uote"] {
        let answer = app.client().get(&format!("/userEvents/{}", escaped(user)));
        assert_eq!(answer.status, 404);
        assert_eq!(answer.json(), json!({ "error": format!("No data found for user: {user}") }));
    }
    let answer = app.client().get("/userEvents/%FF");
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("UTF-8"), "{}", answer.text());
}

#[test]
fn an_integer_for_an_id_becomes_text() {
    let app = TestApp::start();
    send(&app.client(), r#"{"userId":42,"name":"add_revenue","value":1}"#);
    send(&app.client(), r#"{"userId":"42","name":"add_revenue","value":2}"#);
    app.settle();
    assert_eq!(app.client().get("/userEvents/42").text(), r#"[{"user_id":"42","revenue":3}]"#);
}

#[test]
fn an_id_in_the_body_is_data_so_a_repeat_is_a_new_event() {
    let app = TestApp::start();
    let body = r#"{"id":"mine","userId":"u","name":"add_revenue","value":7}"#;
    let odd = r#"{"id":{"any":["thing"]},"userId":"u","name":"add_revenue","value":7}"#;
    let ids = [send(&app.client(), body), send(&app.client(), body), send(&app.client(), odd)];
    assert!(ids[0] != ids[1]);
    assert_eq!(app.balance("u").as_deref(), Some("21"));
}

#[test]
fn unknown_keys_are_stored_exactly_as_sent() {
    let app = TestApp::start();
    let kept = r#"{"z":[1e400,"\u00e9"],"userId":"u","value":999999999999999.9999,"name":"add_revenue","note":{"b":0.10,"a":null}}"#;
    let id = send(&app.client(), kept);
    app.settle();
    let receipt = app.client().get(&format!("/v1/events/{id}"));
    assert_eq!(receipt.status, 200, "{}", receipt.text());
    assert!(receipt.text().contains(kept), "{}", receipt.text());
    for part in [r#""stream":"revenue""#, r#""address":"127.0.0.1""#, r#""receivedAt":"20"#] {
        assert!(receipt.text().contains(part), "{part} in {}", receipt.text());
    }
    assert!(receipt.text().contains(r#""views":{"revenue":{"state":"applied"}}"#), "{}", receipt.text());
    let tail = app.client().get("/v1/streams/revenue/events");
    assert!(tail.text().contains(kept), "{}", tail.text());
}

#[test]
fn the_api_key_is_accepted_bare_as_bearer_or_as_x_api_key() {
    let app = TestApp::start();
    let (key, anonymous) = (app.key(), app.anonymous());
    let body = event("u", "add_revenue", "1");
    for (name, value) in [
        ("Authorization", key.clone()),
        ("Authorization", format!("Bearer {key}")),
        ("authorization", format!("bearer {key}")),
        ("X-API-Key", key.clone()),
    ] {
        send(&anonymous.clone().with_header(name, &value), &body);
    }
    let end = app.log_end();
    for (name, value) in
        [("X-Nothing", ""), ("Authorization", "wrong"), ("X-API-Key", "wrong"), ("Authorization", "Bearer ")]
    {
        let client = anonymous.clone().with_header(name, value);
        for answer in [client.post("/liveEvent", &body), client.get("/userEvents/u")] {
            assert_eq!((answer.status, answer.json()), (401, json!({ "error": "Unauthorized" })), "{value}");
        }
        // Without a valid key, the response does not say that the body is invalid too.
        assert_eq!(client.post("/liveEvent", "{").status, 401);
    }
    assert_eq!(app.log_end(), end);
}

#[test]
fn a_key_without_the_send_scope_is_forbidden() {
    let app = TestApp::start();
    let made = app.client().post("/v1/keys", r#"{"name":"reader","scopes":["read"]}"#).json();
    let reader = app.anonymous().with_header("Authorization", made["key"].as_str().unwrap());
    let answer = reader.post("/liveEvent", &event("u", "add_revenue", "1"));
    assert_eq!((answer.status, answer.json()), (403, json!({ "error": "Forbidden" })));
    assert_eq!(reader.get("/userEvents/u").status, 404);
    assert_eq!(app.log_end(), 0);
}

#[test]
fn another_content_type_or_method_is_refused() {
    let app = TestApp::start();
    let body = event("u", "add_revenue", "1");
    for kind in ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonp"] {
        let answer = app.client().with_header("Content-Type", kind).post("/liveEvent", &body);
        assert_eq!(
            (answer.status, answer.json()),
            (415, json!({ "error": "Content-Type must be application/json" }))
        );
    }
    let charset = app.client().with_header("Content-Type", "Application/JSON; charset=utf-8");
    assert_eq!(charset.post("/liveEvent", &body).status, 200);
    let answer = app.client().get("/liveEvent");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    assert!(answer.json()["error"].is_string());
}

#[test]
fn balances_survive_a_restart_and_a_kill_right_after_the_response() {
    let mut app = TestApp::start();
    for round in 1..=5 {
        send(&app.client(), &event("u", "add_revenue", "10.0001"));
        app.kill();
        app.restart();
        let expected = format!("{}.000{round}", round * 10);
        assert_eq!(app.balance("u").as_deref(), Some(expected.as_str()));
    }
    assert_eq!(app.stop(), Some(0));
    app.restart();
    assert_eq!(app.balance("u").as_deref(), Some("50.0005"));
}

#[test]
fn events_of_concurrent_clients_count_once_although_the_server_is_killed() {
    let mut app = TestApp::start();
    let sender = |number: usize| {
        let client = app.client();
        move || {
            let mut sent = 0_u32;
            while sent < 2_000 {
                let body = event(&format!("u{number}"), "add_revenue", "1");
                match client.try_request("POST", "/liveEvent", Some(("application/json", body.as_bytes()))) {
                    Ok(answer) if answer.status == 200 => sent += 1,
                    _ => break,
                }
            }
            sent
        }
    };
    let threads: Vec<_> = (0..8).map(|number| std::thread::spawn(sender(number))).collect();
    wait_for("a few hundred events", || app.log_end() > 300);
    app.kill();
    let acknowledged: Vec<u32> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    app.restart();
    for (number, acknowledged) in acknowledged.iter().enumerate() {
        let balance: u32 = app.balance(&format!("u{number}")).unwrap_or_default().parse().unwrap_or(0);
        // The request in progress at the kill may have been stored without an acknowledgement.
        assert!((*acknowledged..=acknowledged + 1).contains(&balance), "{acknowledged} and {balance}");
    }
}

#[test]
fn the_table_has_the_names_that_existing_sql_uses() {
    let app = TestApp::start();
    assert!(app.stored.columns("users_revenue").is_empty(), "the table is created at the first event");
    send(&app.client(), &event("u", "subtract_revenue", "0.5"));
    app.settle();
    let kept = app.stored.store_kind.pick(["u\t-0.5", "u\t-0.5", "u\t-0.5000"]);
    assert_eq!(app.sql("SELECT user_id, revenue FROM users_revenue"), kept);
    assert_eq!(app.stored.columns("users_revenue"), ["user_id", "revenue"]);
    let declared = app.stored.store_kind.pick([
        "SELECT group_concat(type || pk || (\"notnull\" OR pk)) FROM pragma_table_info('users_revenue')",
        "SELECT string_agg(data_type || is_nullable, ',' ORDER BY ordinal_position)
         FROM information_schema.columns WHERE table_name = 'users_revenue'",
        "SELECT group_concat(column_type || is_nullable || column_key ORDER BY ordinal_position)
         FROM information_schema.columns WHERE table_name = 'users_revenue' AND table_schema = database()",
    ]);
    let types = ["TEXT11,TEXT01", "character varyingNO,numericNO", "varchar(255)NOPRI,decimal(38,4)NO"];
    assert_eq!(app.sql(declared), app.stored.store_kind.pick(types));
}

#[test]
fn an_existing_table_is_used_with_its_rows() {
    let folder = std::sync::Arc::new(tempfile::tempdir().unwrap());
    let mut app = TestApp::try_with(Start::default(), folder).unwrap();
    app.stop();
    app.sql(
        "CREATE TABLE users_revenue (user_id {key} PRIMARY KEY, revenue {amount} NOT NULL, note {text});
             INSERT INTO users_revenue VALUES ('u', '41.5', 'kept')",
    );
    app.restart();
    send(&app.client(), &event("u", "add_revenue", "0.5"));
    assert_eq!(app.balance("u").as_deref(), Some("42"));
    assert_eq!(app.sql("SELECT note FROM users_revenue"), "kept");
}

#[test]
fn settings_of_the_replaced_services_are_read_and_logged() {
    let port = free_port();
    let dotenv = format!("# settings\nPORT={port}\nAPI_KEY='secret'\n");
    let app = TestApp::with(Start { dotenv: Some(dotenv), ..Start::default() });
    assert!(app.address.ends_with(&format!(":{port}")), "{}", app.address);
    for variable in ["PORT", "API_KEY"] {
        assert!(app.log_text().contains(&format!(r#""variable":"{variable}""#)), "{}", app.log_text());
    }
    assert!(!app.log_text().contains("secret"), "a secret in the log");

    let secret = app.anonymous().with_header("Authorization", "secret");
    send(&secret, &event("u", "add_revenue", "1"));
    app.settle();
    assert_eq!(secret.get("/userEvents/u").status, 200);
    for path in ["/v1/keys", "/v1/views/revenue/rebuild", "/v1/dead-letters/x/drop"] {
        assert_eq!(secret.post(path, "{}").status, 403, "{path}");
    }
    // The key comes from the environment, so that the API cannot revoke it.
    assert_eq!(app.client().request("DELETE", "/v1/keys/API_KEY", None).status, 409);
    assert_eq!(secret.get("/userEvents/u").status, 200);
}

#[test]
fn a_millrace_variable_overrides_one_of_a_replaced_service() {
    let (theirs, ours) = (free_port(), free_port());
    let environment = [("PORT", theirs.to_string()), ("MILLRACE_LISTEN", format!("localhost:{ours}"))];
    let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let app = TestApp::with(Start { environment, ..Start::default() });
    assert!(app.address.ends_with(&format!(":{ours}")), "{}", app.address);
    assert!(std::net::TcpStream::connect(("127.0.0.1", theirs)).is_err());
    assert!(!app.log_text().contains(r#""variable":"PORT""#), "the log lists a variable that is not used");
}

#[test]
fn a_slash_at_the_end_of_a_path_makes_no_difference() {
    let app = TestApp::start();
    let client = app.client();
    assert_eq!(client.post("/liveEvent/", &event("u", "add_revenue", "1")).status, 200);
    app.settle();
    assert_eq!(client.get("/userEvents/u/").text(), r#"[{"user_id":"u","revenue":1}]"#);
    assert_eq!(client.get("/stats/?site_id=s").json()["total_views"], 0);
    assert_eq!(client.get("/stats/").json()["message"], "site_id is not found");
    // The slash makes no difference for requests that are refused before routing either.
    let page = client.clone().with_header("Origin", "https://evil.example");
    let answer = page.post("/liveEvent/", "{}");
    assert_eq!((answer.status, answer.json()["error"].is_string()), (403, true));
    assert_eq!(client.get("/liveEvent/").status, 405);
    assert_eq!(client.post("/liveEvent//", "{}").status, 404);
}

#[test]
fn both_address_families_answer() {
    let app = TestApp::start();
    let port = app.address.rsplit_once(':').unwrap().1;
    for host in ["127.0.0.1", "[::1]", "localhost"] {
        let client = Client::new(&format!("{host}:{port}")).with_header("Authorization", &app.key());
        send(&client, &event("u", "add_revenue", "1"));
    }
    assert_eq!(app.balance("u").as_deref(), Some("3"));
    let page = app.client().get("/v1/streams/revenue/events").json();
    let addresses: Vec<&Value> =
        page["events"].as_array().unwrap().iter().map(|event| &event["address"]).collect();
    assert!(addresses.contains(&&json!("127.0.0.1")) && addresses.contains(&&json!("::1")), "{addresses:?}");
}

#[test]
fn an_open_source_needs_no_key_but_refuses_a_wrong_one() {
    let app = TestApp::configured(
        "[source.live_event]\naccess = \"open\"\n[read.user_events]\naccess = \"open\"\n",
    );
    send(&app.anonymous(), &event("u", "add_revenue", "1"));
    send(&app.client(), &event("u", "add_revenue", "1"));
    app.settle();
    assert_eq!(app.anonymous().get("/userEvents/u").status, 200);
    let wrong = app.anonymous().with_header("Authorization", "wrong");
    assert_eq!(wrong.post("/liveEvent", &event("u", "add_revenue", "1")).status, 401);
    assert_eq!(wrong.get("/userEvents/u").status, 401);
    // Only the configured source and read are open; the native API still needs a key.
    assert_eq!(
        app.anonymous().post("/v1/streams/revenue/events", &event("u", "add_revenue", "1")).status,
        401
    );
    assert_eq!(app.anonymous().get("/v1/views/revenue/balances").status, 401);
    assert_eq!(app.balance("u").as_deref(), Some("2"));
}
