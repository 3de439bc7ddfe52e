//! Scopes of ids: sources and keys that name the same scope count one id once. Each source remembers ids for its own
//! time.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Answer, TestApp, wait_for};

const SOURCES: &str = r#"
[source.shop]
kind = "http"
path = "/shop"
stream = "revenue"
ids = true
id_scope = "orders"
window = "30d"
answer = '{"id":"{eventId}"}'

[source.kiosk]
kind = "http"
path = "/kiosk"
stream = "revenue"
ids = true
window = "1s"
answer = '{"id":"{eventId}"}'
"#;

const SALE: &str = r#"{"id":"order-1","userId":"ann","name":"add_revenue","value":10}"#;

/// Creates a key and returns it.
fn key(app: &TestApp, name: &str, id_scope: Option<&str>) -> String {
    let wanted = json!({ "name": name, "scopes": ["send"], "idScope": id_scope });
    let created = app.client().post("/v1/keys", &wanted.to_string()).json();
    assert_eq!(created["idScope"], id_scope.unwrap_or(name), "{created}");
    created["key"].as_str().unwrap().to_owned()
}

fn post(app: &TestApp, key: &str, path: &str, event: &str) -> Answer {
    app.anonymous().with_header("Authorization", key).post(path, event)
}

fn id_of(app: &TestApp, key: &str, path: &str, event: &str) -> String {
    let answer = post(app, key, path, event);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    let id = if path.starts_with("/v1") { &answer["eventId"] } else { &answer["id"] };
    id.as_str().unwrap().to_owned()
}

#[test]
fn sources_and_keys_of_one_scope_count_an_id_once() {
    let mut app = TestApp::configured(SOURCES);
    let events = "/v1/streams/revenue/events";
    let (shop, import, orders) =
        (key(&app, "shop", None), key(&app, "import", Some("orders")), key(&app, "orders", None));
    let first = id_of(&app, &shop, "/shop", SALE);
    assert_eq!(id_of(&app, &import, events, SALE), first, "a key with the scope of the source");
    assert_eq!(id_of(&app, &orders, events, SALE), first, "a key whose name is the scope");
    assert_eq!(id_of(&app, &import, "/shop", SALE), first, "another key at the source");
    assert_ne!(id_of(&app, &shop, events, SALE), first, "a key with its own scope");
    app.settle();
    assert_eq!(app.balance("ann").as_deref(), Some("20"));
    // The scope of a key is stored.
    app.restart();
    assert_eq!(id_of(&app, &import, events, SALE), first);
    assert_eq!(post(&app, &import, "/shop", &SALE.replace("10", "11")).status, 409);
}

#[test]
fn a_source_remembers_ids_for_its_own_window() {
    let app = TestApp::configured(SOURCES);
    let (shop, kiosk) = (key(&app, "shop", None), key(&app, "kiosk", None));
    id_of(&app, &shop, "/shop", SALE);
    id_of(&app, &kiosk, "/kiosk", SALE);
    std::thread::sleep(Duration::from_millis(1_100));
    id_of(&app, &shop, "/shop", SALE);
    // The id has expired: the same text and another one are new events, and neither is refused.
    id_of(&app, &kiosk, "/kiosk", SALE);
    std::thread::sleep(Duration::from_millis(1_100));
    id_of(&app, &kiosk, "/kiosk", &SALE.replace("10", "5"));
    wait_for("the balance", || app.balance("ann").as_deref() == Some("35"));
    for millis in [30 * 86_400_000_i64, 1_000] {
        let sql = format!("SELECT count(*) FROM millrace_seen WHERE expires - received = {millis}");
        assert_eq!(app.sql(&sql), "1", "{millis}");
    }
}
