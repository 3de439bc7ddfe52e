//! The README's page that sends over Socket.IO, with the client's own script from npm.

use serde_json::Value;

use crate::chromium::Chromium;
use crate::harness::{TestApp, node, wait_for};
use crate::site::Site;
use crate::{SERVER, SHOP, block, blocks, document};

const SCRIPT: &str = "https://cdn.socket.io/4.8.1/socket.io.min.js";

/// Returns the README's page with the address of this server and of a script.
fn page(app: &TestApp, script: &str) -> String {
    let page = blocks(&document("README.md"), "Web pages", "html").nth(1).expect("the second page");
    assert_eq!(page.lines().count(), 10, "{page}");
    assert!(page.contains(SERVER) && page.contains(SCRIPT), "{page}");
    page.replace(SERVER, &format!("http://{}", app.address)).replace(SCRIPT, script)
}

/// Starts a server with the guide's configuration, in which the source lists this origin.
fn app_for(origin: &str) -> TestApp {
    let config = block(&document("docs/GUIDE.md"), "Send over Socket.IO", "toml");
    assert!(config.contains(SHOP), "{config}");
    TestApp::configured(&config.replace(SHOP, origin))
}

fn script() -> String {
    let script = node::packages().join("node_modules/socket.io-client/dist/socket.io.min.js");
    std::fs::read_to_string(script).unwrap()
}

fn rows(app: &TestApp) -> Vec<Value> {
    let page = app.client().get("/v1/views/inventory/rows").json();
    page["rows"].as_array().unwrap().clone()
}

#[test]
fn a_page_of_ten_lines_sends_over_socketio() {
    let site = Site::open();
    let app = app_for(&site.origin());
    let script = site.show("/script.js", &script(), 1);
    let browser = Chromium::visit(&site.show("/stock", &page(&app, &script), 1));
    wait_for("the row", || !rows(&app).is_empty());
    drop(browser);
    let row = &rows(&app)[0];
    assert_eq!(
        (&row["product_id"], &row["quantity"], &row["product_name"]),
        (&23.into(), &50.into(), &"Product 1".into())
    );
    assert_eq!(row["price"].to_string().trim_matches('"'), "10.99");
}

/// A page that was opened from disk has the origin `null`.
#[test]
fn a_page_from_disk_sends_over_socketio() {
    let app = app_for("null");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("script.js"), script()).unwrap();
    let file = folder.path().join("stock.html");
    std::fs::write(&file, page(&app, "script.js")).unwrap();
    let browser = Chromium::visit(&format!("file://{}", file.display()));
    wait_for("the row", || !rows(&app).is_empty());
    drop(browser);
}

#[test]
fn a_page_of_an_unlisted_origin_cannot_send_over_socketio() {
    let (shop, other) = (Site::open(), Site::open());
    let app = app_for(&shop.origin());
    let script = other.show("/script.js", &script(), 1);
    let browser = Chromium::visit(&other.show("/stock", &page(&app, &script), 1));
    let refused = |line: &str| line.starts_with("millrace_refused_total{code=\"foreign-page\"}");
    wait_for("the refusal", || app.client().get("/metrics").text().lines().any(refused));
    drop(browser);
    assert_eq!(app.log_end(), 0);
}
