//! `GET /stats` of contract 3, and the native API for the same statistics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Start, TestApp};

const EVENTS: &str = "/v1/streams/site_events/events";
const OPEN: &str = "[read.stats]\naccess = \"open\"\n";

fn visit(site: &str, path: Value, user: Value, timestamp: &str) -> String {
    let event_type = if path.is_null() { "click" } else { "page_view" };
    json!({ "site_id": site, "event_type": event_type, "path": path, "user_id": user, "timestamp": timestamp })
        .to_string()
}

fn send(app: &TestApp, lines: &[String]) {
    let answer = app.client().post_lines(EVENTS, &(lines.join("\n") + "\n"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    app.settle();
}

/// Starts a server with the example of the contract, on two days, and an event of another site.
fn example() -> TestApp {
    let app = TestApp::start();
    send(
        &app,
        &[
            visit("site-111", json!("/pricing"), json!("u1"), "2025-11-01T10:00:00Z"),
            visit("site-111", json!("/pricing"), json!("u2"), "2025-11-01T23:59:59.999Z"),
            visit("site-111", Value::Null, json!("u1"), "2025-11-02T00:00:00Z"),
            visit("site-222", json!("/"), json!("u3"), "2025-11-01T10:00:00Z"),
        ],
    );
    app
}

fn text_of(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.text()
}

#[test]
fn statistics_of_a_site_have_the_contracts_form() {
    let app = example();
    let get = |query: &str| text_of(&app.client().get(&format!("/stats?{query}")), 200);
    assert_eq!(
        get("site_id=site-111"),
        r#"{"site_id":"site-111","date":"all","total_views":3,"unique_users":2,"top_paths":[{"path":"/pricing","views":2},{"path":null,"views":1}]}"#
    );
    // In the replaced service, every query with a date failed.
    assert_eq!(
        get("site_id=site-111&date=2025-11-01"),
        r#"{"site_id":"site-111","date":"2025-11-01","total_views":2,"unique_users":2,"top_paths":[{"path":"/pricing","views":2}]}"#
    );
    assert_eq!(
        get("date=2025-11-02T08:00:00%2B01:00&site_id=site-111&more=1"),
        r#"{"site_id":"site-111","date":"2025-11-02","total_views":1,"unique_users":1,"top_paths":[{"path":null,"views":1}]}"#
    );
    let none = r#""total_views":0,"unique_users":0,"top_paths":[]}"#;
    assert_eq!(
        get("site_id=site-111&date=2024-02-29"),
        format!(r#"{{"site_id":"site-111","date":"2024-02-29",{none}"#)
    );
    assert_eq!(get("site_id=a%22b&date="), format!(r#"{{"site_id":"a\"b","date":"all",{none}"#));
}

#[test]
fn before_the_first_event_every_site_has_zeros() {
    let app = TestApp::start();
    assert_eq!(
        app.client().get("/stats?site_id=s").text(),
        r#"{"site_id":"s","date":"all","total_views":0,"unique_users":0,"top_paths":[]}"#
    );
    assert_eq!(
        app.client().get("/v1/views/site_stats/stats?group=s&by=path").json(),
        json!({ "group": "s", "total": 0, "distinct": 0, "by": "path", "top": [] })
    );
}

#[test]
fn an_invalid_query_is_refused_with_its_parameter() {
    let app = example();
    let message = |client: &Client, query: &str, status: u16| -> String {
        let body: Value =
            serde_json::from_str(&text_of(&client.get(&format!("/stats{query}")), status)).unwrap();
        body["message"].as_str().unwrap().to_owned()
    };
    let client = app.client();
    for query in ["", "?", "?site_id=", "?date=2025-11-01", "?site=a"] {
        assert_eq!(message(&client, query, 400), "site_id is not found");
    }
    for date in ["soon", "2025-13-01", "2025-02-30", "0000-00-00", "1762000000000", "'%20OR%201=1"] {
        let text = message(&client, &format!("?site_id=a&date={date}"), 400);
        assert_eq!(text, "date: expected a day such as 2025-11-01", "{date}");
    }
    assert_eq!(message(&client, "?site_id=a&site_id=b", 400), "site_id: is given twice");
    // The key is checked before the query.
    assert_eq!(message(&app.anonymous(), "", 401), "Unauthorized");
    let posted = client.post("/stats?site_id=a", "{}");
    assert_eq!((posted.status, posted.json()["message"].is_string()), (405, true));
    assert_eq!(client.get("/stats?site_id=site-111").json()["total_views"], 3);
}

#[test]
fn a_page_of_another_origin_reads_only_open_reads_that_list_it() {
    let page = |app: &TestApp| app.anonymous().with_header("Origin", "https://shop.example");
    let app = TestApp::start();
    let refused = page(&app).get("/stats?site_id=a");
    assert_eq!((refused.status, refused.json()["message"].is_string()), (403, true));
    drop(app);
    // An open read is open to programs. A page needs its origin listed.
    let app = TestApp::configured(OPEN);
    assert_eq!(page(&app).get("/stats?site_id=a").status, 403);
    drop(app);
    let app = TestApp::configured(&format!("{OPEN}origins = [\"https://shop.example\"]\n"));
    let read = page(&app).get("/stats?site_id=a");
    assert_eq!(
        (read.status, read.header("access-control-allow-origin")),
        (200, Some("https://shop.example"))
    );
    assert_eq!(page(&app).get("/userEvents/a").status, 403);
    assert_eq!(app.anonymous().with_header("Authorization", "wrong").get("/stats?site_id=a").status, 401);
    assert_eq!(app.anonymous().get("/v1/views/site_stats/stats?group=a").status, 401);
}

#[test]
fn a_key_for_one_site_reads_only_its_statistics() {
    let app = example();
    let new = r#"{"name":"owner","scopes":["read"],"streams":["site_events"],"viewKey":"site-111"}"#;
    let key = app.client().post("/v1/keys", new).json()["key"].as_str().unwrap().to_owned();
    let owner = app.anonymous().with_header("Authorization", &key);
    for (site, status) in [("site-111", 200), ("site-222", 403), ("", 403)] {
        assert_eq!(owner.get(&format!("/stats?site_id={site}")).status, status);
        assert_eq!(owner.get(&format!("/v1/views/site_stats/stats?group={site}")).status, status);
    }
    assert_eq!(owner.get("/userEvents/site-111").status, 403);
}

#[test]
fn statistics_of_a_range_of_days_are_exact() {
    let app = example();
    let get = |query: &str| app.client().get(&format!("/v1/views/site_stats/stats?{query}"));
    assert_eq!(
        get("group=site-111&from=2025-11-01&to=2025-11-02&by=path").json(),
        json!({
            "group": "site-111", "from": "2025-11-01", "to": "2025-11-02", "total": 3, "distinct": 2, "by": "path",
            "top": [{ "value": "/pricing", "count": 2 }, { "value": null, "count": 1 }]
        })
    );
    assert_eq!(get("group=site-111&from=2025-11-02").json()["distinct"], 1);
    assert_eq!(get("group=site-111&to=2025-11-01").json()["total"], 2);
    let top = get("group=site-111&by=event_type&top=1").json()["top"].clone();
    assert_eq!(top, json!([{ "value": "page_view", "count": 2 }]));
    for (query, name) in [
        ("", "query"),
        ("group=a&to=soon", "to"),
        ("group=a&from=2025-11-02&to=2025-11-01", "to"),
        ("group=a&by=user_id", "by"),
        ("group=a&by=path&top=0", "top"),
        ("group=a&by=path&top=101", "top"),
        ("group=a&days=3", "query"),
    ] {
        let answer = get(query);
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.json()["detail"].as_str().unwrap().starts_with(&format!("{name}: ")), "{query}");
    }
    assert_eq!(app.client().get("/v1/views/revenue/stats?group=a").status, 404);
    assert_eq!(app.client().get("/v1/views/site_stats/balances").status, 404);
    let views = app.client().get("/v1/views").json();
    let kinds: Vec<&str> =
        views["views"].as_array().unwrap().iter().map(|view| view["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"ledger") && kinds.contains(&"stats"), "{kinds:?}");
}

/// There are more values than the top-k index holds, in several batches. The statistics survive a kill.
#[test]
fn the_top_values_equal_a_count_over_all_events() {
    let mut app = TestApp::start();
    let mut counted: BTreeMap<(String, usize), u64> = BTreeMap::new();
    let mut users = BTreeSet::new();
    for part in 0..4 {
        let mut lines = Vec::new();
        for number in 0..2_000_usize {
            // Some paths occur often, most of them once or twice.
            let path = if number % 7 == 0 { number % 130 } else { number * (part + 1) };
            let (path, user, day) = (format!("/p{path}"), number % 333 + part, 1 + (number + part) % 3);
            lines.push(visit("s", json!(path), json!(format!("u{user}")), &format!("2025-11-0{day}")));
            *counted.entry((path, day)).or_default() += 1;
            users.insert((user, day));
        }
        send(&app, &lines);
    }
    app.restart();
    for day in [None, Some(1), Some(2), Some(3)] {
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for ((path, _), n) in counted.iter().filter(|((_, of), _)| day.is_none_or(|day| day == *of)) {
            *sums.entry(path).or_default() += n;
        }
        let mut first: Vec<(&str, u64)> = sums.into_iter().collect();
        first.sort_by_key(|(path, n)| (u64::MAX - n, *path));
        let date = day.map(|day| format!("&date=2025-11-0{day}")).unwrap_or_default();
        let answer = app.client().get(&format!("/stats?site_id=s{date}")).json();
        let top: Vec<Value> =
            first.iter().take(3).map(|(path, n)| json!({ "path": path, "views": n })).collect();
        assert_eq!(answer["top_paths"], json!(top), "{day:?}");
        let of_day = users.iter().filter(|(_, of)| day.is_none_or(|day| day == *of));
        let distinct: BTreeSet<usize> = of_day.map(|(user, _)| *user).collect();
        assert_eq!(answer["unique_users"], json!(distinct.len()), "{day:?}");
        assert_eq!(answer["total_views"], json!(first.iter().map(|(_, n)| n).sum::<u64>()));
    }
}

#[test]
fn a_read_can_be_configured() {
    let own = "[read.kinds]\npath = \"/kinds\"\nview = \"site_stats\"\nshape = \"stats\"\ntop = \"event_type\"\n\
        [read.money]\npath = \"/money/of/{key}\"\nview = \"revenue\"\nshape = \"row\"\nerror_key = \"reason\"\n";
    let app = TestApp::configured(own);
    send(&app, &[visit("s", json!("/"), json!("u"), "2025-11-01")]);
    let kinds = app.client().get("/kinds?site_id=s").json();
    assert_eq!(kinds["top_event_types"], json!([{ "event_type": "page_view", "views": 1 }]));
    let unknown = app.client().get("/money/of/nobody");
    assert_eq!(
        (unknown.status, unknown.json()),
        (404, json!({ "reason": "No data found for user: nobody" }))
    );
    assert_eq!(
        app.client().get("/money/of/nobody/more").json(),
        json!({ "reason": "there is nothing at this path" })
    );
    drop(app);
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let start = Start { config: Some(own.replace("/kinds", "/ready")), ..Start::default() };
    let Err(log) = TestApp::try_with(start, folder) else { panic!("the server started") };
    assert!(log.contains("read `kinds` has a wrong path: `/ready` is a path of millrace itself"), "{log}");
}
