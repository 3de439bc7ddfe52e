//! CORS: pages of other origins send to sources that list their origin.

use crate::harness::{Answer, Client, Start, TestApp};

const SHOP: &str = "https://shop.example";
const VIEW: &str = r#"{"site_id":"s","event_type":"e"}"#;

fn open(origins: &str) -> TestApp {
    TestApp::configured(&format!("[source.site_event]\naccess = \"open\"\norigins = {origins}\n"))
}

fn page(app: &TestApp, origin: &str) -> Client {
    app.anonymous().with_header("Origin", origin).with_header("Sec-Fetch-Site", "cross-site")
}

fn preflight(client: &Client, path: &str) -> Answer {
    let asking = client
        .clone()
        .with_header("Access-Control-Request-Method", "POST")
        .with_header("Access-Control-Request-Headers", "content-type");
    asking.request("OPTIONS", path, None)
}

/// Returns the origin that a response allows, and whether it allows credentials.
fn shown_to(answer: &Answer) -> (Option<&str>, bool) {
    (
        answer.header("access-control-allow-origin"),
        answer.header("access-control-allow-credentials") == Some("true"),
    )
}

#[test]
fn a_listed_origin_may_preflight_and_send() {
    let app = open(r#"["https://shop.example", "null"]"#);
    for origin in [SHOP, "null"] {
        let page = page(&app, origin);
        let asked = preflight(&page, "/event");
        assert_eq!((asked.status, shown_to(&asked)), (204, (Some(origin), true)), "{origin}");
        assert_eq!(asked.header("access-control-allow-methods"), Some("GET, POST"));
        let headers = asked.header("access-control-allow-headers").unwrap();
        for header in ["Content-Type", "Authorization", "X-API-Key", "Idempotency-Key", "traceparent"] {
            assert!(headers.contains(header), "{header}: {headers}");
        }
        assert!(asked.header("access-control-max-age").is_some());
        assert_eq!(asked.header("vary"), Some("Origin"));
        let sent = page.post("/event", VIEW);
        assert_eq!((sent.status, shown_to(&sent)), (200, (Some(origin), true)));
        assert_eq!(sent.header("vary"), Some("Origin"));
    }
    assert_eq!(app.log_end(), 2);
}

#[test]
fn a_page_can_read_why_it_is_refused() {
    let app = open(r#"["https://shop.example"]"#);
    let page = page(&app, SHOP);
    let wrong = page.clone().with_header("Authorization", "wrong");
    let large = VIEW.replace("\"e\"", &format!("\"{}\"", "x".repeat(2 * 1024 * 1024)));
    for (answer, status) in [
        (page.post("/event", "{}"), 400),
        (wrong.post("/event", VIEW), 401),
        (page.get("/event"), 405),
        (page.post("/event", &large), 413),
        (page.request("POST", "/event", Some(("application/xml", b"<a/>"))), 415),
    ] {
        assert_eq!((answer.status, shown_to(&answer)), (status, (Some(SHOP), true)), "{}", answer.text());
        assert!(answer.json()["message"].is_string(), "{}", answer.text());
    }
}

#[test]
fn an_origin_that_is_not_listed_is_refused() {
    let app = open(r#"["https://shop.example"]"#);
    for origin in [
        "https://shop.example.evil",
        "http://shop.example",
        "https://shop.example:8443",
        "https://evil.example",
        "null",
        "",
    ] {
        let page = page(&app, origin);
        for answer in [preflight(&page, "/event"), page.post("/event", VIEW)] {
            assert_eq!((answer.status, shown_to(&answer)), (403, (None, false)), "{origin}");
            let message = answer.json()["message"].as_str().unwrap().to_owned();
            assert!(message.contains("a page of another site") && message.contains("`origins`"), "{message}");
        }
    }
    // A browser that sends no `Origin` header is refused too.
    let silent = app.anonymous().with_header("Sec-Fetch-Site", "cross-site");
    assert_eq!(silent.post("/event", VIEW).status, 403);
    // The permission for one source is valid for that source only.
    let shop = page(&app, SHOP);
    for path in ["/liveEvent", "/events/ingest", "/v1/streams/site_events/events", "/event//"] {
        for answer in [preflight(&shop, path), shop.post(path, VIEW)] {
            assert_eq!((answer.status, shown_to(&answer)), (403, (None, false)), "{path}");
        }
    }
    assert_eq!(app.log_end(), 0);
    // Programs and pages of the same host are not affected.
    assert_eq!(app.anonymous().post("/event", VIEW).status, 200);
    let own = app.anonymous().with_header("Origin", "http://localhost");
    assert_eq!(own.post("/event", VIEW).status, 200);
}

#[test]
fn a_star_allows_every_origin_without_credentials() {
    let app = open(r#"["*", "https://shop.example"]"#);
    let anybody = page(&app, "https://anybody.example");
    for answer in [preflight(&anybody, "/event"), anybody.post("/event", VIEW)] {
        assert_eq!(shown_to(&answer), (Some("*"), false), "{}", answer.status);
    }
    assert_eq!(shown_to(&preflight(&page(&app, SHOP), "/event")), (Some(SHOP), true));
}

/// `navigator.sendBeacon(url, string)` sends `text/plain` without a preflight request, and reads no response.
#[test]
fn a_beacon_is_accepted_from_a_listed_origin() {
    let beacon = |client: Client| {
        client.request("POST", "/event", Some(("text/plain;charset=UTF-8", VIEW.as_bytes()))).status
    };
    let app = open(r#"["https://shop.example"]"#);
    assert_eq!(beacon(page(&app, SHOP)), 200);
    assert_eq!(beacon(page(&app, "https://evil.example")), 403);
    assert_eq!(
        app.client().get("/v1/streams/site_events/events?from=0").json()["events"][0]["event"]["site_id"],
        "s"
    );
    drop(app);
    let app = TestApp::configured("[source.site_event]\naccess = \"open\"\n");
    assert_eq!(beacon(page(&app, SHOP)), 403);
    assert_eq!(beacon(app.anonymous()), 415);
}

#[test]
fn a_page_needs_a_key_where_the_source_requires_one() {
    let app = TestApp::configured("[source.ingest]\norigins = [\"https://shop.example\"]\n");
    let page = page(&app, SHOP);
    assert_eq!(preflight(&page, "/events/ingest").status, 204);
    let refused = page.post("/events/ingest", "{}");
    assert_eq!((refused.status, shown_to(&refused)), (401, (Some(SHOP), true)));
    let keyed = page.with_header("X-API-Key", &app.key());
    assert_eq!(keyed.post("/events/ingest", "{}").status, 400);
}

#[test]
fn allowed_origins_of_the_environment_applies_to_open_sources() {
    let start = |config: &str, arguments: &[&str], origins: &str| {
        TestApp::with(Start {
            config: Some(config.to_owned()),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            environment: vec![("ALLOWED_ORIGINS".to_owned(), origins.to_owned())],
            ..Start::default()
        })
    };
    let opened = "[source.site_event]\naccess = \"open\"\n";
    let app = start(opened, &[], "http://localhost:3000, https://shop.example/");
    assert_eq!(page(&app, SHOP).post("/event", VIEW).status, 200);
    assert_eq!(page(&app, "null").post("/event", VIEW).status, 403);
    assert_eq!(page(&app, SHOP).post("/events/ingest", VIEW).status, 403, "that source needs a key");
    assert!(app.log_text().contains("ALLOWED_ORIGINS"));
    drop(app);
    // The `origins` of a source override the variable.
    let named = format!("{opened}origins = [\"https://other.example\"]\n");
    let app = start(&named, &[], SHOP);
    assert_eq!(page(&app, SHOP).post("/event", VIEW).status, 403);
    assert_eq!(page(&app, "https://other.example").post("/event", VIEW).status, 200);
    drop(app);
    let app = start("", &["--dev"], "null");
    assert_eq!(page(&app, "null").post("/event", VIEW).status, 200);
    assert_eq!(page(&app, "null").post("/v1/keys", "{}").status, 403);
}
