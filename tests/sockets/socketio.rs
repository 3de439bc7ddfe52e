//! Contract 4 and further Socket.IO sources, with the newest client and the oldest one of version 4.

use serde_json::json;

use crate::harness::{Start, TestApp, free_port, wait_for};
use crate::programs::{events, key, memory_mib, metric, program};

/// One line of configuration opens the source.
const OPEN: &str = "source.client_data.access = \"open\"\n";

#[test]
fn events_are_answered_as_the_contract_says_over_each_transport() {
    let app = TestApp::configured(OPEN);
    program("exchange", &app, &[]).finish();
    // Each of the six clients had 202 events accepted.
    let events = events(&app, "inventory");
    assert_eq!(events.len(), 6 * 202);
    let first = &events[0];
    assert_eq!(
        first["event"],
        json!({ "productId": 23, "productName": "Product 1", "quantity": 50, "price": 10.99, "timestamp": 1_700_000_000_000_u64 })
    );
    assert_eq!(first["address"], "127.0.0.1");
    assert!(first["userAgent"].as_str().is_some_and(|agent| agent.contains("node")), "{first}");
    let clients: std::collections::BTreeSet<&str> =
        events.iter().map(|event| event["clientId"].as_str().unwrap()).collect();
    assert_eq!(clients.len(), 6);
    app.settle();
    let rows = "SELECT COUNT(*), SUM(quantity), MIN(price), MAX(product_name) FROM inventory";
    assert_eq!(app.sql(rows), format!("{}\t{}\t10.99\tProduct 1", 6 * 202, 6 * (50 + 50 + 199 * 100)));
    wait_for("the log line", || app.log_line("client gone").is_some());
    let gone = app.log_line("client gone").unwrap();
    assert_eq!((&gone["accepted"], &gone["reason"]), (&json!(202), &json!("the client left")));
    assert!(app.log_line("event refused").is_some_and(|line| line["fields"] == "productId"));
    wait_for("free places", || metric(&app, "millrace_sockets") == 0.0);
}

#[test]
fn a_client_connects_with_a_key_that_may_send_until_the_key_is_revoked() {
    let app = TestApp::start();
    let key = |name: &str, scope: &str| key(&app, name, scope, json!({ "streams": ["inventory"] }));
    let (send, read, revoked) = (key("shop", "send"), key("board", "read"), key("old-shop", "send"));
    let variables = [("SEND_KEY", &*send), ("READ_KEY", &*read), ("REVOKED_KEY", &*revoked)];
    let mut program = program("access", &app, &variables);
    program.expect("connected");
    let list = app.client().get("/v1/keys").json();
    let keys = list["keys"].as_array().or(list.as_array()).unwrap();
    let id = keys.iter().find(|key| key["name"] == "old-shop").unwrap()["id"].as_str().unwrap().to_owned();
    assert!(app.client().request("DELETE", &format!("/v1/keys/{id}"), None).status < 300);
    program.tell("revoked");
    program.finish();
}

#[test]
fn a_resent_event_with_an_id_counts_once_although_the_server_is_killed() {
    let config = r#"
        [stream.changes]
        key = "item"
        fields.item = { type = "text", required = true }
        fields.amount = { type = "integer", required = true }
        [source.changes]
        kind = "socketio"
        event = "change"
        stream = "changes"
        namespace = "/"
        access = "open"
        ids = true
        answer = '{"status":"success","id":"{eventId}"}'
        welcome = '{"hello":true}'
        welcome_event = "welcome"
        [view.changes]
        kind = "ledger"
        from = "changes"
        amount = "+amount"
        amount_column = "total"
    "#;
    let port = free_port();
    let start = Start {
        config: Some(config.to_owned()),
        arguments: vec!["--listen".to_owned(), format!("localhost:{port}")],
        ..Start::default()
    };
    let mut app = TestApp::with(start);
    let events = 150_u64;
    let mut program = program("restart", &app, &[("EVENTS", &events.to_string())]);
    for _ in 0..3 {
        program.expect("acknowledged");
        app.restart();
    }
    program.finish();
    app.settle();
    let sum = events * (events - 1) / 2;
    let balances =
        app.sql("SELECT COUNT(*), MIN(CAST(total AS INTEGER)), MAX(CAST(total AS INTEGER)) FROM changes");
    assert_eq!(balances, format!("6\t{sum}\t{sum}"));
}

#[test]
fn a_message_that_is_too_large_is_refused_and_the_client_goes_on() {
    let app = TestApp::configured(OPEN);
    program("large", &app, &[]).finish();
    assert_eq!(events(&app, "inventory").len(), 6 * 3);
}

#[test]
fn a_client_that_falls_silent_is_disconnected_and_one_that_answers_pings_stays() {
    let pings = "source.client_data.ping_interval = \"1s\"\nsource.client_data.ping_timeout = \"8s\"\n";
    let app = TestApp::configured(&format!("{OPEN}{pings}"));
    program("silent", &app, &[]).finish();
    wait_for("free places", || metric(&app, "millrace_sockets") == 0.0);
}

#[test]
fn idle_clients_and_one_that_never_reads_cost_little_and_keep_nobody_from_sending() {
    let app = TestApp::configured(OPEN);
    let before = memory_mib(&app);
    let mut program = program("idle", &app, &[("IDLE", "5000")]);
    program.expect("idle");
    assert!(metric(&app, "millrace_sockets") >= 5_001.0);
    let idle = memory_mib(&app);
    assert!(idle < before + 150, "{before} MiB, then {idle} MiB with 5,000 sockets");
    // Requests have a budget of their own.
    let answer =
        app.client().post("/v1/streams/revenue/events", r#"{"userId":"u","name":"add_revenue","value":1}"#);
    assert_eq!(answer.status, 200);
    program.tell("end when the one that never reads is gone");
    program.expect("served");
    let greedy = memory_mib(&app);
    assert!(greedy < idle + 100, "{idle} MiB, then {greedy} MiB after a client that never reads");
    program.tell("leave");
    program.finish();
    wait_for("free places", || metric(&app, "millrace_sockets") == 0.0);
}

#[test]
fn connections_of_strangers_are_bounded_for_each_address_and_have_a_deadline() {
    let app = TestApp::start();
    let allowed = event::limits::STRANGERS_OF_ADDRESS_MAX.to_string();
    program("strangers", &app, &[("ALLOWED", &allowed)]).finish();
    wait_for("free places", || metric(&app, "millrace_sockets") == 0.0);
}

#[test]
fn a_page_may_connect_if_a_source_lists_its_origin() {
    let app = TestApp::configured(
        "source.client_data = { access = \"open\", origins = [\"https://shop.example\", \"null\"] }",
    );
    let polling = "/socket.io/?EIO=4&transport=polling";
    for (origin, status) in [
        ("https://shop.example", 200),
        ("null", 200),
        ("https://other.example", 403),
        ("http://shop.example", 403),
    ] {
        let client = app.anonymous().with_header("Origin", origin);
        let answer = client.get(polling);
        assert_eq!(answer.status, status, "{origin}: {}", answer.text());
        let listed = ["https://shop.example", "null"].contains(&origin);
        assert_eq!(answer.header("access-control-allow-origin"), listed.then_some(origin), "{origin}");
        let upgrade = client
            .with_header("Connection", "Upgrade")
            .with_header("Upgrade", "websocket")
            .with_header("Sec-WebSocket-Version", "13")
            .with_header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
            .get("/socket.io/?EIO=4&transport=websocket");
        assert_eq!(upgrade.status, if status == 200 { 101 } else { 403 }, "{origin}");
    }
    // The variable of the replaced service also holds for a source with keys.
    let environment = vec![("ALLOWED_ORIGINS".to_owned(), "http://localhost:3000".to_owned())];
    let app = TestApp::with(Start { environment, ..Start::default() });
    let answer = app.anonymous().with_header("Origin", "http://localhost:3000").get(polling);
    assert_eq!(answer.status, 200);
}

#[test]
fn requests_that_do_not_fit_the_protocol_are_refused_by_its_numbers() {
    let app = TestApp::configured(OPEN);
    let client = app.anonymous();
    let code = |method: &str, query: &str| {
        let body = (method == "POST").then_some(("text/plain", &b"40"[..]));
        let answer = client.request(method, &format!("/socket.io/?{query}"), body);
        (answer.status, answer.json()["code"].clone())
    };
    for (method, query, number) in [
        ("GET", "EIO=4", 0),
        ("GET", "EIO=4&transport=webtransport", 0),
        ("GET", "EIO=4&transport=polling&sid=nobody", 1),
        ("POST", "EIO=4&transport=polling&sid=nobody", 1),
        ("POST", "EIO=4&transport=polling", 2),
        ("GET", "EIO=4&transport=websocket", 3),
        ("GET", "EIO=3&transport=polling", 5),
    ] {
        assert_eq!(code(method, query), (400, json!(number)), "{method} {query}");
    }
    // A second poll replaces the first one, whose client may have given up.
    let open = client.get("/socket.io/?EIO=4&transport=polling&t=1").text();
    let about: serde_json::Value = serde_json::from_str(open.strip_prefix('0').unwrap()).unwrap();
    assert_eq!(about["upgrades"], json!(["websocket"]));
    assert_eq!((&about["pingInterval"], &about["pingTimeout"]), (&json!(25_000), &json!(60_000)));
    let session = format!("/socket.io/?EIO=4&transport=polling&sid={}", about["sid"].as_str().unwrap());
    let polls = std::thread::scope(|scope| {
        let poll = || client.get(&session).text();
        let polls = [scope.spawn(poll), scope.spawn(poll)];
        wait_for("one poll to be replaced", || polls.iter().any(std::thread::ScopedJoinHandle::is_finished));
        // Events before a close in the same request are stored.
        let event = r#"{"productId":1,"productName":"a","quantity":1,"price":1}"#;
        let body = format!("40\u{1e}42[\"clientData\",{event}]\u{1e}41\u{1e}1");
        let answer = client.request("POST", &session, Some(("text/plain", body.as_bytes())));
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
        assert_eq!(app.log_end(), 1);
        polls.map(|poll| poll.join().unwrap())
    });
    assert!(polls.iter().any(|poll| poll == "6"), "{polls:?}");
    assert!(polls.iter().any(|poll| poll.starts_with("40{") && poll.ends_with('1')), "{polls:?}");
    assert_eq!(client.request("PUT", &session, None).json()["code"], 1);
}

#[test]
fn sources_of_ones_own_have_their_names_answers_and_namespaces_without_code() {
    let source = |name: &str, more: &str| {
        format!(
            "[source.{name}]\nkind = \"socketio\"\npath = \"/events\"\nstream = \"{name}s\"\nevent = \"{name}\"\n{more}\n"
        )
    };
    let stream = |name: &str| {
        let fields = "key = \"user\"\nfields.user = { type = \"text\", required = true }\nfields.amount = { type = \"integer\", required = true }";
        format!("[stream.{name}s]\n{fields}\n")
    };
    let config = [
        stream("order"),
        stream("refund"),
        stream("view"),
        source(
            "order",
            "namespace = \"/shop\"\nanswer = '{\"orderId\":\"{eventId}\"}'\nerror_event = \"problem\"\nerrors = { missing = \"The order is not complete: {reason}\" }",
        ),
        source(
            "refund",
            "namespace = \"/shop\"\nanswer = '{\"refundId\":\"{eventId}\"}'\nanswer_event = \"refunded\"",
        ),
        source("view", "answer = '{\"ok\":true}'\naccess = \"open\""),
    ];
    let app = TestApp::configured(&config.concat());
    let key = key(&app, "shop", "send", json!({ "streams": ["orders", "refunds"] }));
    program("namespaces", &app, &[("KEY", &key)]).finish();
    let counts = ["orders", "refunds", "views"].map(|stream| events(&app, stream).len());
    assert_eq!(counts, [6, 6, 18]);
}

#[test]
fn a_page_may_send_only_to_the_sources_that_list_its_origin_also_if_they_share_a_path() {
    let source = |name: &str| {
        format!(
            "[source.{name}]\nkind = \"socketio\"\npath = \"/both\"\nevent = \"{name}\"\nstream = \"inventory\"\n\
             access = \"open\"\norigins = [\"https://{name}.example\"]\nanswer = '{{\"ok\":true}}'\n"
        )
    };
    let app = TestApp::configured(&[source("one"), source("two")].concat());
    let page = app.anonymous().with_header("Origin", "https://one.example");
    let open = page.get("/both/?EIO=4&transport=polling").text();
    let about: serde_json::Value = serde_json::from_str(open.strip_prefix('0').unwrap()).unwrap();
    let session = format!("/both/?EIO=4&transport=polling&sid={}", about["sid"].as_str().unwrap());
    let event = r#"{"productId":1,"productName":"a","quantity":1,"price":1}"#;
    let body = format!("40\u{1e}421[\"one\",{event}]\u{1e}422[\"two\",{event}]");
    assert_eq!(page.request("POST", &session, Some(("text/plain", body.as_bytes()))).text(), "ok");
    let answers = page.get(&session).text();
    let packets: Vec<&str> = answers.split('\u{1e}').collect();
    assert!(packets.contains(&"431[{\"ok\":true}]"), "{answers}");
    assert!(
        packets.iter().any(|packet| packet.starts_with("432") && packet.contains("foreign-page")),
        "{answers}"
    );
    assert_eq!(app.log_end(), 1);
}

#[test]
fn a_polling_client_that_fetches_no_answers_is_held_back_and_loses_none() {
    let app = TestApp::configured(OPEN);
    let client = app.anonymous();
    let open = client.get("/socket.io/?EIO=4&transport=polling").text();
    let about: serde_json::Value = serde_json::from_str(open.strip_prefix('0').unwrap()).unwrap();
    let session = format!("/socket.io/?EIO=4&transport=polling&sid={}", about["sid"].as_str().unwrap());
    let post = |body: &str| client.request("POST", &session, Some(("text/plain", body.as_bytes()))).text();
    assert_eq!(post("40"), "ok");
    let events = 2_000;
    let event = |n| {
        format!(
            "42{n}[\"clientData\",{{\"productId\":{n},\"productName\":\"a\",\"quantity\":1,\"price\":1}}]"
        )
    };
    let body = (0..events).map(event).collect::<Vec<_>>().join("\u{1e}");
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| post(&body));
        // Nothing more is stored when enough answers wait.
        let (mut stored, mut unchanged) = (0, 0);
        wait_for("the server to hold the client back", || {
            let now = app.log_end();
            unchanged = if now == stored && now > 0 { unchanged + 1 } else { 0 };
            stored = now;
            unchanged > 100
        });
        assert!(stored < events && !sending.is_finished(), "{stored} events are stored");
        let mut answered = 0;
        while answered < events {
            let answer = client.get(&session);
            assert_eq!(answer.status, 200, "{} after {answered} answers", answer.text());
            let payload = answer.text();
            assert!(payload.len() < 256 * 1024, "{} bytes in one poll", payload.len());
            answered += payload.split('\u{1e}').filter(|packet| packet.starts_with("43")).count() as u64;
        }
        assert_eq!(sending.join().unwrap(), "ok");
    });
    assert_eq!(app.log_end(), events);
}

#[test]
fn clients_that_cannot_be_let_in_now_connect_again_by_themselves() {
    let app = TestApp::configured(&format!("{OPEN}limits.per_address = \"10/s\"\n"));
    program("crowded", &app, &[]).finish();
    let refused = "millrace_refused_total{code=\"too-many-requests\"}";
    assert!(metric(&app, refused) > 0.0, "the rate was never exceeded");
}

/// After a refusal, a client would not connect again.
#[test]
fn a_session_that_may_try_again_later_is_closed_and_not_refused() {
    let app = TestApp::configured(&format!("{OPEN}limits.per_address = \"1/m\"\n"));
    let client = app.anonymous();
    let open = client.get("/socket.io/?EIO=4&transport=polling").text();
    let about: serde_json::Value = serde_json::from_str(open.strip_prefix('0').unwrap()).unwrap();
    let session = format!("/socket.io/?EIO=4&transport=polling&sid={}", about["sid"].as_str().unwrap());
    let packets = std::thread::scope(|scope| {
        let poll = scope.spawn(|| client.get(&session).text());
        // The poll is open beside the request for the metric.
        wait_for("the poll", || metric(&app, "millrace_connections") >= 2.0);
        // The second attempt exceeds the rate.
        client.request("POST", &session, Some(("text/plain", b"40\x1e40")));
        poll.join().unwrap()
    });
    assert!(
        packets.starts_with("40{") && packets.ends_with("\u{1e}1") && !packets.contains("44{"),
        "{packets}"
    );
}
