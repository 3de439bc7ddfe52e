//! The guide's pages in a real browser, from another origin and from disk. One counts its views through contract 3,
//! another one sends over Socket.IO. A page whose origin the source does not list sends nothing.

#![allow(clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;

mod chromium;
mod live_page;
mod site;
mod socketio_page;

use serde_json::{Value, json};

use chromium::Chromium;
use harness::{TestApp, wait_for};
use site::Site;

/// The guide's addresses of the server and of the page's site.
const SERVER: &str = "http://localhost:8000";
const SHOP: &str = "https://shop.example";
const STRING: &str = "JSON.stringify(view)";
const BLOB: &str = r#"new Blob([JSON.stringify(view)], { type: "application/json" })"#;

/// Returns the two blocks of the section that counts page views.
fn guide() -> (String, String) {
    section("Count page views")
}

/// Returns the two blocks of a section of the guide: the page, and the configuration that permits it to send.
fn section(title: &str) -> (String, String) {
    let guide = document("docs/GUIDE.md");
    (block(&guide, title, "html"), block(&guide, title, "toml"))
}

fn document(path: &str) -> String {
    std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Returns the first block of this language in a section of a document.
fn block(document: &str, title: &str, language: &str) -> String {
    blocks(document, title, language).next().expect("the section has the block")
}

/// Returns the blocks of this language in a section of a document.
fn blocks(document: &str, title: &str, language: &str) -> impl Iterator<Item = String> {
    let (_, section) = document.split_once(&format!("## {title}\n")).expect("the document has the section");
    let section = section.split_once("\n## ").map_or(section, |(section, _)| section);
    let opening = format!("```{language}\n");
    let found: Vec<&str> = section.split(&opening).skip(1).collect();
    found.into_iter().map(|rest| rest.split_once("```").unwrap().0.to_owned()).collect::<Vec<_>>().into_iter()
}

/// Starts a server with the guide's configuration, in which the source lists the origin of `site`.
fn app_for(site: &Site) -> TestApp {
    let (_, config) = guide();
    assert!(config.contains(SHOP), "{config}");
    TestApp::configured(&config.replace(SHOP, &site.origin()))
}

/// Returns the guide's page with the address of this server.
fn page(app: &TestApp) -> String {
    let (page, _) = guide();
    assert!(page.contains(SERVER) && page.contains(STRING), "{page}");
    page.replace(SERVER, &format!("http://{}", app.address))
}

fn stats(app: &TestApp) -> Value {
    app.client().get("/stats?site_id=site-111").json()
}

fn wait_for_views(app: &TestApp, views: u64) {
    wait_for(&format!("{views} views"), || stats(app)["total_views"] == views);
}

#[test]
fn a_page_of_ten_lines_counts_its_own_views() {
    let (lines, _) = guide();
    assert_eq!(lines.lines().count(), 10, "{lines}");
    let site = Site::open();
    let app = app_for(&site);
    let browser = Chromium::visit(&site.show("/pricing", &page(&app), 1));
    wait_for_views(&app, 1);
    drop(browser);
    // A second visitor loads the page twice.
    let browser = Chromium::visit(&site.show("/pricing", &page(&app), 2));
    wait_for_views(&app, 3);
    drop(browser);
    let expected = json!({
        "site_id": "site-111",
        "date": "all",
        "total_views": 3,
        "unique_users": 2,
        "top_paths": [{ "path": "/pricing", "views": 3 }],
    });
    assert_eq!(stats(&app), expected);
}

/// A browser sends a preflight request before it sends JSON, and sends the JSON with credentials.
#[test]
fn a_page_that_sends_json_is_preflighted_and_counted() {
    let site = Site::open();
    let app = app_for(&site);
    let browser = Chromium::visit(&site.show("/json", &page(&app).replace(STRING, BLOB), 2));
    wait_for_views(&app, 2);
    drop(browser);
    let stats = stats(&app);
    assert_eq!((&stats["unique_users"], &stats["top_paths"][0]["path"]), (&json!(1), &json!("/json")));
}

#[test]
fn a_page_of_an_unlisted_origin_is_refused_and_counts_nothing() {
    let (shop, other) = (Site::open(), Site::open());
    let app = app_for(&shop);
    for (refused, form) in [(1, STRING), (2, BLOB)] {
        let browser = Chromium::visit(&other.show("/pricing", &page(&app).replace(STRING, form), 1));
        let line = format!("millrace_refused_total{{code=\"foreign-page\"}} {refused}");
        wait_for("the refusal", || app.client().get("/metrics").text().lines().any(|found| found == line));
        drop(browser);
    }
    assert_eq!(app.log_end(), 0);
}
