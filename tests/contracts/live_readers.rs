//! Live: who may subscribe to what, with keys and with tokens, and how subscriptions share a server with senders.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::event_stream::EventStream;
use crate::harness::{Client, Start, TestApp};

const BALANCE: &str = "/v1/views/revenue/live?key=ann";
const SALE: &str = r#"{"userId":"ann","name":"add_revenue","value":1}"#;

fn client_with_key(app: &TestApp, body: &Value) -> (Client, String) {
    let made = app.client().post("/v1/keys", &body.to_string());
    assert_eq!(made.status, 200, "{}", made.text());
    let made = made.json();
    let client = app.anonymous().with_header("Authorization", made["key"].as_str().unwrap());
    (client, made["id"].as_str().unwrap().to_owned())
}

fn token(client: &Client, body: &Value) -> String {
    let answer = client.post("/v1/tokens", &body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["token"].as_str().unwrap().to_owned()
}

fn subscribe(requests: &[Value]) -> String {
    let escaped =
        |request: &Value| request.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let all: Vec<String> = requests.iter().map(|request| format!("subscribe={}", escaped(request))).collect();
    format!("/v1/live?{}", all.join("&"))
}

#[test]
fn several_subscriptions_share_a_connection_and_its_place() {
    let app = TestApp::start();
    let client = app.client();
    let path = subscribe(&[json!({ "stream": "revenue" }), json!({ "view": "revenue", "key": "ann" })]);
    let mut stream = EventStream::open(&client, &path);
    assert_eq!(stream.change()["balance"], Value::Null);
    client.post("/liveEvent", SALE);
    let (mut event, mut balance) = (false, false);
    while !(event && balance) {
        let change = stream.change();
        event |= change["stream"] == "revenue";
        balance |= change["balance"] == 1;
    }
    let place = stream.id.clone();
    drop(stream);
    client.post("/liveEvent", SALE);
    let mut again = EventStream::open(&client.clone().with_header("Last-Event-ID", &place), &path);
    let (mut event, mut balance) = (false, false);
    while !(event && balance) {
        let change = again.change();
        assert_ne!(change["position"], 0, "it has this event already");
        event |= change["position"] == 1;
        balance |= change["balance"] == 2;
    }
    for (path, status) in [
        ("/v1/live".to_owned(), 400),
        (subscribe(&[json!({})]), 400),
        (subscribe(&[json!({ "view": "revenue" })]), 400),
        (subscribe(&[json!({ "view": "nothing", "key": "a" })]), 404),
        (subscribe(&[json!({ "stream": "revenue", "view": "revenue" })]), 400),
        (format!("{path}&key=ann"), 400),
        (format!("{path}&after=0"), 400),
        (subscribe(&vec![json!({ "stream": "revenue" }); 101]), 400),
        ("/v1/views/revenue/live?key=a&key=b".to_owned(), 400),
    ] {
        assert_eq!(client.get(&path).status, status, "{path}");
    }
}

#[test]
fn a_key_watches_what_it_may_read_until_it_is_revoked() {
    let app = TestApp::start();
    assert_eq!(app.anonymous().get(BALANCE).status, 401);
    let (sender, _) = client_with_key(&app, &json!({ "name": "sender", "scopes": ["send"] }));
    let (other, _) =
        client_with_key(&app, &json!({ "name": "other", "scopes": ["read"], "streams": ["site_events"] }));
    for client in [&sender, &other] {
        assert_eq!(client.get(BALANCE).status, 403);
        assert_eq!(client.get("/v1/streams/revenue/live").status, 403);
    }
    let (row, id) = client_with_key(&app, &json!({ "name": "row", "scopes": ["read"], "viewKey": "ann" }));
    for path in ["/v1/views/revenue/live?key=bob", "/v1/streams/revenue/live", "/v1/views/notifications/live"]
    {
        assert_eq!(row.get(path).status, 403, "{path}");
    }
    let mut stream = EventStream::open(&row, BALANCE);
    stream.change();
    assert_eq!(app.client().request("DELETE", &format!("/v1/keys/{id}"), None).status, 200);
    assert_eq!(stream.named("end"), json!({ "reason": "key-ended" }));
    assert_eq!(stream.next(), None);
    assert_eq!(row.get(BALANCE).status, 401);
}

#[test]
fn a_token_allows_what_it_was_made_for_and_ends_with_its_key() {
    let app = TestApp::start();
    let (reader, id) =
        client_with_key(&app, &json!({ "name": "page", "scopes": ["read"], "streams": ["revenue"] }));
    let page = app.anonymous();
    let for_ann = token(&reader, &json!({ "view": "revenue", "key": "ann", "minutes": 1 }));
    let both = token(
        &reader,
        &json!({ "subscribe": [{ "view": "revenue", "key": "bob" }, { "stream": "revenue" }] }),
    );
    let mut stream = EventStream::open(&page, &format!("{BALANCE}&token={for_ann}"));
    stream.change();
    for (path, token, status) in [
        ("/v1/views/revenue/live?key=bob", &for_ann, 403),
        ("/v1/streams/revenue/live?from=0", &for_ann, 403),
        (BALANCE, &both, 403),
        (BALANCE, &format!("{for_ann}x"), 401),
        (BALANCE, &for_ann.replace("mrt_", "mrt_A"), 401),
        (BALANCE, &app.key(), 401),
    ] {
        assert_eq!(page.get(&format!("{path}&token={token}")).status, status, "{path} {token}");
    }
    let header = page.clone().with_header("Authorization", &format!("Bearer {both}"));
    let mut of_stream = EventStream::open(&header, "/v1/streams/revenue/live?from=0");
    let mut of_bob = EventStream::open(&page, &format!("/v1/views/revenue/live?key=bob&token={both}"));
    of_bob.change();
    app.client().post("/liveEvent", SALE);
    assert_eq!(of_stream.change()["position"], 0);
    // A token allows nothing else.
    assert_eq!(header.get("/v1/views/revenue/balances/bob").status, 401);
    assert_eq!(header.post("/v1/tokens", r#"{"stream":"revenue"}"#).status, 403);
    for (body, status) in [
        (json!({ "stream": "site_events" }), 403),
        (json!({ "view": "revenue" }), 400),
        (json!({}), 400),
        (json!({ "stream": "revenue", "minutes": 0 }), 400),
        (json!({ "stream": "revenue", "minutes": 1441 }), 400),
        (json!({ "stream": "revenue", "subscribe": [] }), 400),
        (json!({ "subscribe": [] }), 400),
        (json!({ "stream": "revenue", "hours": 1 }), 400),
    ] {
        assert_eq!(reader.post("/v1/tokens", &body.to_string()).status, status, "{body}");
    }
    app.client().request("DELETE", &format!("/v1/keys/{id}"), None);
    for stream in [&mut stream, &mut of_stream, &mut of_bob] {
        while stream.next().is_some_and(|event| event.name != "end") {}
        assert_eq!(stream.next(), None);
    }
    assert_eq!(page.get(&format!("{BALANCE}&token={for_ann}")).status, 401);
}

#[test]
fn pages_of_other_sites_subscribe_only_if_they_are_listed() {
    let app = TestApp::configured("[live]\norigins = [\"https://shop.example\"]\n");
    let page =
        |origin: &str| app.client().with_header("Origin", origin).with_header("Sec-Fetch-Site", "cross-site");
    let answer = page("https://other.example").get(BALANCE);
    assert_eq!(answer.status, 403, "{}", answer.text());
    let asked = page("https://shop.example").with_header("Access-Control-Request-Method", "GET");
    let preflight = asked.request("OPTIONS", BALANCE, None);
    assert_eq!(preflight.status, 204);
    assert!(preflight.header("access-control-allow-methods").unwrap().contains("GET"));
    let mut stream = EventStream::open(&page("https://shop.example"), BALANCE);
    stream.change();
    assert_eq!(page("https://shop.example").get("/v1/views/revenue/balances/ann").status, 403);
}

#[test]
fn subscribers_take_no_connection_from_senders() {
    let app = TestApp::with(Start { files_max: Some(400), ..Start::default() });
    let client = app.client();
    let mut open = Vec::new();
    // Until all places are taken.
    let refused = loop {
        match EventStream::try_open(&client, BALANCE) {
            Ok(stream) => open.push(stream),
            Err(error) => break error.to_string(),
        }
        assert!(open.len() < 400, "subscriptions are not bounded");
    };
    assert!(refused.contains("503"), "{refused}");
    // A browser would not come again after a refusal. It does after an end.
    let browser = client.clone().with_header("Accept", "text/event-stream");
    let mut ended = EventStream::open(&browser, BALANCE);
    assert_eq!(ended.named("end"), json!({ "reason": "try-again" }));
    assert_eq!(ended.next(), None);
    assert!(ended.retry.is_some_and(|retry| retry > 1_000));
    for _ in 0..100 {
        assert_eq!(client.post("/liveEvent", SALE).status, 200);
    }
    for stream in &mut open {
        while stream.change()["balance"] != 100 {}
    }
    drop(open);
}

#[test]
fn a_connection_without_changes_shows_that_it_lives() {
    let app = TestApp::start();
    let mut stream = EventStream::open(&app.client(), BALANCE);
    stream.change();
    let retry = stream.retry.expect("a time");
    assert!((1_000..=4_000).contains(&retry), "{retry}");
    assert!(stream.read(Duration::from_secs(17)).is_err());
    assert!(stream.comments > 0, "no heartbeat");
}

/// A token that was made for a part of a stream, or for a list without large texts, does not give the rest.
#[test]
fn a_token_for_a_selection_gives_no_other_selection() {
    let app = TestApp::start();
    let client = app.client();
    let page = app.anonymous();
    let ann = token(&client, &json!({ "subscribe": [{ "stream": "revenue", "value": "ann" }] }));
    let list = token(&client, &json!({ "subscribe": [{ "view": "notifications", "status": "QUEUED" }] }));
    let day = json!({ "view": "site_stats", "key": "s", "from": "2025-11-01", "to": "2025-11-01" });
    let day = token(&client, &json!({ "subscribe": [day] }));
    for (path, token) in [
        ("/v1/streams/revenue/live?from=0", &ann),
        ("/v1/streams/revenue/live?from=0&value=bob", &ann),
        ("/v1/streams/revenue/live?value=ann&field=name", &ann),
        ("/v1/views/notifications/live", &list),
        ("/v1/views/notifications/live?status=SENT", &list),
        ("/v1/views/notifications/live?key=notif-1", &list),
        ("/v1/views/site_stats/live?key=s", &day),
        ("/v1/views/site_stats/live?key=s&from=2025-11-01&to=2025-11-01&by=path", &day),
    ] {
        assert_eq!(
            page.get(&format!("{path}&token={token}").replace("live&", "live?")).status,
            403,
            "{path}"
        );
    }
    let mut stream =
        EventStream::open(&page, &format!("/v1/streams/revenue/live?from=0&value=ann&token={ann}"));
    client.post("/liveEvent", SALE);
    assert_eq!(stream.change()["position"], 0);
    let mut listed =
        EventStream::open(&page, &format!("/v1/views/notifications/live?status=QUEUED&token={list}"));
    assert_eq!(listed.change()["notifications"], json!([]));
}

#[test]
fn a_key_that_no_database_can_look_up_is_refused_and_hinders_no_other() {
    let app = TestApp::start();
    let client = app.client();
    let mut good = EventStream::open(&client, BALANCE);
    good.change();
    for key in ["a\0".to_owned(), "x".repeat(256)] {
        let path = subscribe(&[json!({ "view": "revenue", "key": key })]);
        assert_eq!(client.get(&path).status, 400, "{key:?}");
    }
    client.post("/liveEvent", SALE);
    assert_eq!(good.change()["balance"], 1);
}
