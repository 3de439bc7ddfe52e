//! The README's page that shows a balance as it changes, with tokens of its own server.

use event::Millis;
use serde_json::{Value, json};

use crate::chromium::Chromium;
use crate::harness::{Client, TestApp, wait_for};
use crate::site::Site;
use crate::{SERVER, SHOP, block, document};

/// Tells the site what the page shows.
const OBSERVER: &str = r#"<script>new MutationObserver(() => fetch("/shown?" + balance.textContent)).observe(balance, { childList: true })</script>"#;

fn page(app: &TestApp) -> String {
    let page = block(&document("README.md"), "Web pages", "html");
    assert_eq!(page.lines().count(), 10, "{page}");
    assert!(page.contains(SERVER), "{page}");
    page.replace(SERVER, &format!("http://{}", app.address)) + OBSERVER
}

/// Starts a server with the README's configuration, in which the site is listed.
fn app_for(origin: &str) -> TestApp {
    let readme = document("README.md");
    let (_, rest) = readme.split_once("whose pages may subscribe: `").expect("the README has the line");
    let line = rest.split('`').next().unwrap();
    assert!(line.contains(SHOP), "{line}");
    TestApp::configured(&line.replace(SHOP, origin))
}

fn add(app: &TestApp) {
    assert_eq!(
        app.client().post("/liveEvent", r#"{"userId":"user1","name":"add_revenue","value":1.25}"#).status,
        200
    );
}

/// Makes a key that may read, and a token of it. Returns the key's id, and the answer for the page.
fn token(app: &TestApp, name: &str) -> (String, Value) {
    let made = app.client().post("/v1/keys", &json!({ "name": name, "scopes": ["read"] }).to_string()).json();
    let client: Client = app.anonymous().with_header("Authorization", made["key"].as_str().unwrap());
    let answer = client.post("/v1/tokens", r#"{"view":"revenue","key":"user1","minutes":15}"#);
    assert_eq!(answer.status, 200, "{}", answer.text());
    (made["id"].as_str().unwrap().to_owned(), answer.json())
}

#[test]
fn a_page_of_ten_lines_shows_a_balance_live_and_renews_its_token() {
    let site = Site::open();
    let app = app_for(&site.origin());
    let (first_key, mut first) = token(&app, "early");
    let (_, second) = token(&app, "late");
    // The page renews its token 30 s before the end, which is soon.
    first["expiresAt"] = Millis(Millis::now().0 + 33_000).to_text().into();
    site.show("/token", &first.to_string(), 1);
    let browser = Chromium::visit(&site.show("/account", &page(&app), 1));
    wait_for("no balance yet", || site.was_asked("/shown?0"));
    site.show("/token", &second.to_string(), 1);
    add(&app);
    wait_for("the first balance", || site.was_asked("/shown?1.25"));
    wait_for("the second token", || site.times_asked("/token") == 2);
    let open = |line: &str| line == "millrace_subscriptions 1";
    wait_for("the connection with the second token", || {
        app.client().get("/metrics").text().lines().any(open)
    });
    app.client().request("DELETE", &format!("/v1/keys/{first_key}"), None);
    add(&app);
    wait_for("the second balance", || site.was_asked("/shown?2.5"));
    drop(browser);
}

#[test]
fn a_page_goes_on_by_itself_when_the_server_comes_back() {
    let site = Site::open();
    let mut app = app_for(&site.origin());
    let (_, made) = token(&app, "page");
    site.show("/token", &made.to_string(), 1);
    let address = app.address.clone();
    let browser = Chromium::visit(&site.show("/account", &page(&app), 1));
    wait_for("no balance yet", || site.was_asked("/shown?0"));
    app.restart_with(|start| start.arguments = vec!["--listen".to_owned(), address]);
    add(&app);
    wait_for("the balance", || site.was_asked("/shown?1.25"));
    drop(browser);
}

#[test]
fn a_page_of_an_unlisted_origin_sees_nothing() {
    let (shop, other) = (Site::open(), Site::open());
    let app = app_for(&shop.origin());
    let (_, made) = token(&app, "page");
    other.show("/token", &made.to_string(), 1);
    let browser = Chromium::visit(&other.show("/account", &page(&app), 1));
    let refused = |line: &str| line.starts_with("millrace_refused_total{code=\"foreign-page\"}");
    wait_for("the refusal", || app.client().get("/metrics").text().lines().any(refused));
    drop(browser);
    assert!(!other.was_asked("/shown?0"));
}
