//! Permissions: keys and their scopes, open sources, and pages of other origins.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::http::read_answer;
use crate::harness::{Client, Start, TestApp, wait_for};

const EVENTS: &str = "/v1/streams/revenue/events";
const GOOD: &str = r#"{"userId":"u","name":"add_revenue","value":1}"#;
const REFUNDS: &str = r#"
[stream.refunds]
key = "userId"
fields.userId = { type = "text", required = true }
fields.value = { type = "decimal", required = true }
[view.refunds]
kind = "ledger"
from = "refunds"
amount = "-value"
"#;

fn make_key(app: &TestApp, wanted: &Value) -> (String, Client) {
    let answer = app.client().post("/v1/keys", &wanted.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let made = answer.json();
    let client = app.anonymous().with_header("Authorization", made["key"].as_str().unwrap());
    (made["id"].as_str().unwrap().to_owned(), client)
}

#[test]
fn a_key_can_do_only_what_its_scopes_allow() {
    let app = TestApp::start();
    let requests: [(&str, &str, Option<&str>, &str); 11] = [
        ("send", "POST", Some(GOOD), "/liveEvent"),
        ("send", "POST", Some(GOOD), EVENTS),
        ("read", "GET", None, "/userEvents/u"),
        ("read", "GET", None, "/v1/views/revenue/balances"),
        ("read", "GET", None, EVENTS),
        ("read", "GET", None, "/v1/dead-letters"),
        ("read", "GET", None, "/metrics"),
        ("read", "GET", None, "/v1/status"),
        ("read", "GET", None, "/v1/views/revenue"),
        ("admin", "GET", None, "/v1/keys"),
        ("admin", "POST", Some("{}"), "/v1/views/revenue/reconcile"),
    ];
    for scope in ["send", "read", "admin"] {
        let (_, client) = make_key(&app, &json!({ "name": scope, "scopes": [scope] }));
        for (needed, method, body, path) in requests {
            let body = body.map(|body| ("application/json", body.as_bytes()));
            let status = client.request(method, path, body).status;
            let allowed = if needed == scope { 200 } else { 403 };
            assert_eq!(status, allowed, "{scope}: {method} {path}");
            app.settle();
            assert_eq!(app.anonymous().request(method, path, body).status, 401, "{method} {path}");
        }
    }
    assert_eq!(app.anonymous().get("/health").json(), json!({ "status": "OK" }));
}

#[test]
fn a_refused_key_learns_which_header_or_scope_is_missing() {
    let app = TestApp::configured(REFUNDS);
    let refused = |client: &Client, path: &str, status: u16| {
        let answer = client.get(path);
        assert_eq!(answer.status, status, "{}", answer.text());
        let challenge = answer.header("www-authenticate").unwrap().to_owned();
        (answer.json()["detail"].as_str().unwrap().to_owned(), challenge)
    };
    let (detail, challenge) = refused(&app.anonymous(), "/v1/keys", 401);
    assert_eq!(detail, "the request has no key; send a key in the header `Authorization` or `X-API-Key`");
    assert_eq!(challenge, r#"Bearer scope="admin""#);
    for name in ["Authorization", "X-API-Key"] {
        let wrong = app.anonymous().with_header(name, "mr_wrong");
        let (detail, challenge) = refused(&wrong, EVENTS, 401);
        assert!(detail.starts_with("the key is unknown, expired or revoked; "), "{detail}");
        assert_eq!(
            challenge,
            r#"Bearer error="invalid_token", error_description="the key is unknown, expired or revoked", scope="read""#
        );
    }
    let (_, sender) = make_key(&app, &json!({ "name": "sender", "scopes": ["send"] }));
    for (path, scope) in [("/v1/dead-letters", "read"), ("/v1/keys", "admin")] {
        let (detail, challenge) = refused(&sender, path, 403);
        assert_eq!(detail, format!("the key does not have the scope `{scope}`"));
        assert_eq!(challenge, format!(r#"Bearer error="insufficient_scope", scope="{scope}""#));
    }
    let (_, shop) = make_key(&app, &json!({ "name": "shop", "scopes": ["read"], "streams": ["refunds"] }));
    let (_, page) = make_key(&app, &json!({ "name": "page", "scopes": ["read"], "viewKey": "u" }));
    for (client, path, reason) in [
        (&shop, EVENTS, "the key is limited to other streams than `revenue`"),
        (
            &shop,
            "/v1/dead-letters",
            "the key is limited to some streams, and this request covers all streams",
        ),
        (&page, EVENTS, "the key is limited to one row by its `viewKey`, and cannot be used for this"),
    ] {
        let (detail, challenge) = refused(client, path, 403);
        assert_eq!(detail, reason);
        assert!(
            challenge.starts_with(r#"Bearer error="insufficient_scope", error_description="the key is"#),
            "{challenge}"
        );
    }
    // The contracts keep their words; the header says more.
    let answer = app.anonymous().post("/liveEvent", GOOD);
    assert_eq!((answer.status, answer.text().as_str()), (401, r#"{"error":"Unauthorized"}"#));
    assert_eq!(answer.header("www-authenticate"), Some(r#"Bearer scope="send""#));
    let answer = shop.post("/liveEvent", GOOD);
    assert_eq!((answer.status, answer.text().as_str()), (403, r#"{"error":"Forbidden"}"#));
    assert_eq!(answer.header("www-authenticate"), Some(r#"Bearer error="insufficient_scope", scope="send""#));
}

#[test]
fn a_key_can_be_limited_to_streams() {
    let app = TestApp::configured(REFUNDS);
    let wanted = json!({ "name": "shop", "scopes": ["send", "read"], "streams": ["refunds"] });
    let (_, shop) = make_key(&app, &wanted);
    let refund = r#"{"userId":"u","value":2}"#;
    let sent = shop.post("/v1/streams/refunds/events?wait=applied", refund).json();
    assert_eq!(shop.get("/v1/views/refunds/balances/u").json(), json!({ "key": "u", "balance": -2 }));
    assert_eq!(shop.get(&format!("/v1/events/{}", sent["eventId"].as_str().unwrap())).status, 200);
    let theirs = app.client().post(EVENTS, GOOD).json();
    for path in [
        EVENTS,
        "/userEvents/u",
        "/v1/views/revenue/balances",
        "/v1/views/revenue/balances/u",
        "/v1/dead-letters",
    ] {
        assert_eq!(shop.get(path).status, 403, "{path}");
    }
    assert_eq!(shop.get(&format!("/v1/events/{}", theirs["eventId"].as_str().unwrap())).status, 403);
    for path in [EVENTS, "/liveEvent", "/v1/streams/none/events"] {
        assert_eq!(shop.post(path, GOOD).status, 403, "{path}");
    }
}

#[test]
fn a_key_for_one_row_reads_nothing_else() {
    let app = TestApp::start();
    let others = GOOD.replace("\"u\"", "\"other\"");
    let sent = app.client().post(&format!("{EVENTS}?wait=applied"), &format!("[{GOOD},{others}]")).json();
    for streams in [json!([]), json!(["revenue"])] {
        let name = format!("page of {streams:?}").replace('"', "");
        let wanted = json!({ "name": name, "scopes": ["read"], "streams": streams, "viewKey": "u" });
        let (_, page) = make_key(&app, &wanted);
        assert_eq!(page.get("/userEvents/u").text(), r#"[{"user_id":"u","revenue":1}]"#);
        assert_eq!(page.get("/v1/views/revenue/balances/u").status, 200);
        let receipt = format!("/v1/events/{}", sent["eventIds"][1].as_str().unwrap());
        for path in [
            "/userEvents/other",
            "/userEvents/nobody",
            "/v1/views/revenue/balances/other",
            "/v1/views/revenue/balances",
            "/v1/views",
            EVENTS,
            &receipt,
            "/v1/dead-letters",
            "/metrics",
        ] {
            assert_eq!(page.get(path).status, 403, "{path}");
        }
        assert_eq!(page.post(EVENTS, GOOD).status, 403);
    }
}

#[test]
fn a_revoked_key_is_refused_at_once_and_permanently() {
    let mut app = TestApp::start();
    let created = app.client().post("/v1/keys", r#"{"name":"shop","scopes":["send"]}"#).json();
    let (id, key) = (created["id"].as_str().unwrap(), created["key"].as_str().unwrap());
    let client = app.anonymous().with_header("Authorization", key);
    assert_eq!(client.post(EVENTS, GOOD).status, 200);
    let revoked = app.client().request("DELETE", &format!("/v1/keys/{id}"), None);
    assert_eq!((revoked.status, revoked.json()), (200, json!({ "id": id, "revoked": true })));
    assert_eq!(client.post(EVENTS, GOOD).status, 401);
    assert_eq!(app.client().request("DELETE", &format!("/v1/keys/{id}"), None).status, 404);
    let listed = app.client().get("/v1/keys").json();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 1, "{listed}");
    app.stop();
    app.restart();
    let again = app.anonymous().with_header("Authorization", key).post(EVENTS, GOOD);
    assert_eq!(again.status, 401);
    assert_eq!(app.client().post(EVENTS, GOOD).status, 200);
}

/// Without a key of scope `admin`, nobody could create another key.
#[test]
fn the_last_key_that_administers_is_not_revoked() {
    let app = TestApp::start();
    let first = app.client().get("/v1/keys").json()["keys"][0]["id"].as_str().unwrap().to_owned();
    let revoke = || app.client().request("DELETE", &format!("/v1/keys/{first}"), None);
    make_key(&app, &json!({ "name": "sender", "scopes": ["send", "read"] }));
    let refused = revoke();
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(
        refused.text().contains("is the last one with scope `admin` that does not expire"),
        "{}",
        refused.text()
    );
    let (_, other) = make_key(&app, &json!({ "name": "other", "scopes": ["admin"] }));
    assert_eq!(revoke().status, 200);
    assert_eq!(app.client().get("/v1/keys").status, 401);
    assert_eq!(other.get("/v1/keys").status, 200);
}

#[test]
fn a_key_that_expires_soon_does_not_count_as_an_administrator() {
    let app = TestApp::start();
    let first = app.client().get("/v1/keys").json()["keys"][0]["id"].as_str().unwrap().to_owned();
    make_key(&app, &json!({ "name": "visitor", "scopes": ["admin"], "expires": "2999-01-01T00:00:00Z" }));
    let refused = app.client().request("DELETE", &format!("/v1/keys/{first}"), None);
    assert_eq!(refused.status, 409, "{}", refused.text());
}

/// The key is made with an expiry that no test run reaches. The database then gets an earlier one, which the server
/// reads within half a minute.
#[test]
fn a_key_is_unknown_once_it_has_expired() {
    let app = TestApp::start();
    let expiring = json!({ "name": "short", "scopes": ["send"], "expires": "2100-01-01T00:00:00Z" });
    let (id, client) = make_key(&app, &expiring);
    let short = || {
        let listed = app.client().get("/v1/keys").json();
        let keys = listed["keys"].as_array().unwrap();
        keys.iter().find(|key| key["name"] == "short").unwrap().clone()
    };
    assert_eq!(client.post(EVENTS, GOOD).status, 200);
    assert!(short()["lastUsed"].is_string(), "{}", short());
    let past = event::Millis::now();
    app.sql(&format!("UPDATE millrace_keys SET expires = {} WHERE id = '{id}'", past.0));
    wait_for("the key to expire", || client.post(EVENTS, GOOD).status == 401);
    assert_eq!(short()["expires"], past.to_text().as_str(), "it stays in the list");
}

#[test]
fn a_name_belongs_to_one_key_until_that_key_is_revoked() {
    let app = TestApp::start();
    let shop = json!({ "name": "shop", "scopes": ["send"] });
    let (_, client) = make_key(&app, &shop);
    let taken = app.client().post("/v1/keys", &shop.to_string());
    assert_eq!(taken.status, 409, "{}", taken.text());
    assert!(taken.text().contains("a key named `shop` exists"), "{}", taken.text());
    assert_eq!(app.client().request("DELETE", "/v1/keys/shop", None).status, 200);
    assert_eq!(client.post(EVENTS, GOOD).status, 401);
    make_key(&app, &shop);
}

/// Requests note the use in memory; the store learns of it within half a minute, and at the next start.
#[test]
fn the_last_use_of_a_key_survives_a_restart() {
    let mut app = TestApp::start();
    let (id, client) = make_key(&app, &json!({ "name": "shop", "scopes": ["send"] }));
    let stored = format!("SELECT count(*) FROM millrace_keys WHERE id = '{id}' AND last_used > 0");
    assert_eq!(client.post(EVENTS, GOOD).status, 200);
    wait_for("the use to be stored", || app.sql(&stored) == "1");
    app.restart();
    let listed = app.client().get("/v1/keys").json();
    let keys = listed["keys"].as_array().unwrap();
    assert!(keys.iter().any(|key| key["name"] == "shop" && key["lastUsed"].is_string()), "{listed}");
}

#[test]
fn an_invalid_key_request_is_refused() {
    let app = TestApp::start();
    for (wanted, reason) in [
        (json!({ "name": "x", "scopes": [] }), "at least one scope"),
        (json!({ "name": "", "scopes": ["send"] }), "a name must have 1 to 100 plain characters"),
        (json!({ "name": "x", "scopes": ["read"], "idScope": "shop" }), "needs scope `send`"),
        (json!({ "name": "x", "scopes": ["everything"] }), "`everything` is not a scope"),
        (json!({ "name": "x", "scopes": ["send"], "streams": ["none"] }), "no stream `none`"),
        (json!({ "name": "x", "scopes": ["send"], "until": 1 }), "`until` does not exist (names: `name`,"),
        (json!({ "name": "x", "scopes": ["send"], "expires": "soon" }), "`expires` is `soon`"),
        (json!({ "name": "x", "scopes": ["send"], "expires": "2020-01-01" }), "which is in the past"),
        (json!({ "name": "x", "scopes": ["read", "admin"], "viewKey": "u" }), "can only have scope `read`"),
        (json!({ "name": "x", "scopes": ["admin"], "streams": ["revenue"] }), "cannot have scope `admin`"),
        (json!({ "name": 1, "scopes": ["send"] }), "body: line 1, column 9: expected text, got a number"),
        (json!({ "scopes": ["send"] }), "body: `name` is missing"),
        (json!(["x", null, ["send"], [], null, null]), "body: expected an object, got an array"),
    ] {
        let answer = app.client().post("/v1/keys", &wanted.to_string());
        assert_eq!(answer.status, 400, "{wanted}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(reason), "{}", answer.text());
    }
    // Without a valid key, the body is not read.
    let head = app.anonymous().head("POST", "/v1/keys", "application/json", 1_000_000);
    assert_eq!(app.anonymous().raw(head.as_bytes()).unwrap().status, 401);
    assert_eq!(app.client().post("/v1/keys", &" ".repeat(3_000_000)).status, 413);
    let mut stream = app.client().connect().unwrap();
    stream
        .write_all((app.client().head("POST", "/v1/keys", "application/json", 100) + "{").as_bytes())
        .unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let answer = read_answer(&mut stream).unwrap();
    assert_eq!((answer.status, &answer.json()["status"]), (400, &json!(400)), "{}", answer.text());
}

#[test]
fn the_data_folder_is_private_and_stores_only_hashes_of_keys() {
    let environment = vec![("API_KEY".to_owned(), "a-literal-of-the-environment".to_owned())];
    let mut app = TestApp::with(Start { environment, ..Start::default() });
    let (_, made) = make_key(&app, &json!({ "name": "shop", "scopes": ["send"] }));
    assert_eq!(made.post(EVENTS, GOOD).status, 200);
    let listed = app.client().get("/v1/keys");
    let mut literals = vec![app.key(), "a-literal-of-the-environment".to_owned()];
    let answer = app.client().post("/v1/keys", r#"{"name":"other","scopes":["read"]}"#).json();
    literals.push(answer["key"].as_str().unwrap().to_owned());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&app.data()), 0o700);
    assert_eq!(mode(&app.data().join("api-key")), 0o600);
    assert_eq!(std::fs::read_to_string(app.data().join(".gitignore")).unwrap(), "*\n");
    app.settle();
    app.stop();
    let mut files = vec![listed.body];
    for folder in [app.data(), app.data().join("journal")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && !path.ends_with("api-key") {
                files.push(std::fs::read(path).unwrap());
            }
        }
    }
    assert!(files.len() > 3);
    for literal in &literals {
        let found =
            files.iter().any(|file| file.windows(literal.len()).any(|part| part == literal.as_bytes()));
        assert!(!found && !app.log_text().contains(literal), "{literal}");
    }
}

#[test]
fn dev_mode_needs_no_key_and_is_logged() {
    let app = TestApp::with(Start { arguments: vec!["--dev".to_owned()], ..Start::default() });
    assert_eq!(app.anonymous().post("/liveEvent", GOOD).status, 200);
    assert_eq!(app.anonymous().get("/v1/keys").status, 200);
    let built_in = app.anonymous().with_header("Authorization", "secret");
    assert_eq!(built_in.post("/liveEvent", GOOD).status, 200);
    assert!(app.log_text().contains("--dev: every source is open"));
}

#[test]
fn pages_of_other_origins_cannot_administer() {
    let app = TestApp::with(Start { arguments: vec!["--dev".to_owned()], ..Start::default() });
    let page = |name: &str, value: &str| app.anonymous().with_header(name, value);
    for client in [page("Origin", "https://evil.example"), page("Sec-Fetch-Site", "cross-site")] {
        for path in ["/v1/keys", "/v1/views/revenue/rebuild", EVENTS] {
            let answer = client.post(path, GOOD);
            assert_eq!((answer.status, &answer.json()["status"]), (403, &json!(403)), "{path}");
        }
        let answer = client.post("/liveEvent", GOOD);
        assert!(answer.status == 403 && answer.json()["error"].is_string(), "{}", answer.text());
    }
    assert_eq!(page("Origin", "http://localhost").get("/v1/keys").status, 200);
    // A form can send neither JSON nor another content type that needs a preflight request.
    let form = |path: &str, body: &str| {
        app.anonymous().request("POST", path, Some(("text/plain", body.as_bytes()))).status
    };
    assert_eq!(form("/v1/keys", r#"{"name":"x","scopes":["admin"]}"#), 415);
    assert_eq!(form("/v1/views/revenue/rebuild", "x=y"), 415);
    assert_eq!(form("/v1/views/revenue/reconcile", ""), 200);
    assert_eq!(app.anonymous().get("/v1/keys").json()["keys"].as_array().unwrap().len(), 1);
    assert_eq!(app.log_end(), 0);
    drop(app);
    // An open source is open to programs. A page needs its origin listed.
    let app = TestApp::configured("[source.live_event]\naccess = \"open\"\n");
    let page = app.anonymous().with_header("Origin", "https://shop.example");
    assert_eq!(page.post("/liveEvent", GOOD).status, 403);
    assert_eq!(app.anonymous().post("/liveEvent", GOOD).status, 200);
}

#[test]
fn basic_credentials_for_a_proxy_do_not_hide_an_api_key() {
    let app = TestApp::start();
    let proxied = app.anonymous().with_header("Authorization", "Basic c2VjcmV0");
    assert_eq!(proxied.clone().with_header("X-API-Key", &app.key()).post(EVENTS, GOOD).status, 200);
    assert_eq!(proxied.clone().with_header("X-API-Key", "mr_0").post(EVENTS, GOOD).status, 401);
    assert_eq!(proxied.post(EVENTS, GOOD).status, 401);
}

#[test]
fn receipts_show_the_sender_that_a_trusted_proxy_reports() {
    let app = TestApp::configured("trusted_proxies = [\"127.0.0.0/8\", \"::1/128\", \"10.0.0.0/8\"]\n");
    let address = |name: &str, value: &str| {
        let client = app.client().with_header(name, value);
        let sent = client.post(EVENTS, r#"{"userId":"u","name":"add_revenue","value":1}"#).json();
        let receipt = format!("/v1/events/{}", sent["eventId"].as_str().unwrap());
        app.client().get(&receipt).json()["address"].as_str().unwrap().to_owned()
    };
    assert_eq!(address("X-Forwarded-For", "6.6.6.6, 192.0.2.1, 10.0.0.2"), "192.0.2.1");
    assert_eq!(
        address("Forwarded", "for=6.6.6.6, for=\"[2001:db8::1]:80\";proto=https, for=10.0.0.2"),
        "2001:db8::1"
    );
    assert!(["127.0.0.1", "::1"].contains(&address("Forwarded", "for=6.6.6.6, for=unknown").as_str()));
}
