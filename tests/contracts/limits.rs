//! Who may do what, and when a server does not start: keys, the data folder, the rules of start.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::http::read_answer;
use crate::harness::{Client, Start, TestApp, free_port, wait_for};

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
    let client = app.stranger().with_header("Authorization", made["key"].as_str().unwrap());
    (made["id"].as_str().unwrap().to_owned(), client)
}

fn folder() -> Arc<tempfile::TempDir> {
    Arc::new(tempfile::tempdir().unwrap())
}

fn arguments(arguments: &[&str]) -> Start {
    Start { arguments: arguments.iter().map(|&text| text.to_owned()).collect(), ..Start::default() }
}

/// What the server says when it does not start.
fn refusal(start: Start) -> String {
    match TestApp::try_with(start, folder()) {
        Ok(_) => panic!("it started"),
        Err(log) => log,
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn a_key_may_do_what_its_scopes_say() {
    let app = TestApp::start();
    let requests: [(&str, &str, Option<&str>, &str); 9] = [
        ("send", "POST", Some(GOOD), "/liveEvent"),
        ("send", "POST", Some(GOOD), EVENTS),
        ("read", "GET", None, "/userEvents/u"),
        ("read", "GET", None, "/v1/views/revenue/balances"),
        ("read", "GET", None, EVENTS),
        ("read", "GET", None, "/v1/dead-letters"),
        ("read", "GET", None, "/metrics"),
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
            assert_eq!(app.stranger().request(method, path, body).status, 401, "{method} {path}");
        }
    }
    assert_eq!(app.stranger().get("/health").json(), json!({ "status": "OK" }));
}

#[test]
fn a_key_may_be_bound_to_streams() {
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
        let wanted = json!({ "name": "page", "scopes": ["read"], "streams": streams, "viewKey": "u" });
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
fn a_revoked_key_is_refused_at_once_and_for_ever() {
    let mut app = TestApp::start();
    let (id, client) = make_key(&app, &json!({ "name": "shop", "scopes": ["send"] }));
    assert_eq!(client.post(EVENTS, GOOD).status, 200);
    let revoked = app.client().request("DELETE", &format!("/v1/keys/{id}"), None);
    assert_eq!((revoked.status, revoked.json()), (200, json!({ "id": id, "revoked": true })));
    assert_eq!(client.post(EVENTS, GOOD).status, 401);
    assert_eq!(app.client().request("DELETE", &format!("/v1/keys/{id}"), None).status, 404);
    let listed = app.client().get("/v1/keys").json();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 1, "{listed}");
    app.stop();
    app.restart();
    let again = app.stranger().with_header("Authorization", "mr_0").post(EVENTS, GOOD);
    assert_eq!(again.status, 401);
    assert_eq!(app.client().post(EVENTS, GOOD).status, 200);
}

#[test]
fn a_key_that_makes_no_sense_is_not_made() {
    let app = TestApp::start();
    for (wanted, reason) in [
        (json!({ "name": "x", "scopes": [] }), "at least one scope"),
        (json!({ "name": "", "scopes": ["send"] }), "needs a name"),
        (json!({ "name": "x", "scopes": ["everything"] }), "`everything` is no scope"),
        (json!({ "name": "x", "scopes": ["send"], "streams": ["none"] }), "no stream `none`"),
        (json!({ "name": "x", "scopes": ["send"], "expires": 1 }), "unknown field `expires`"),
        (json!({ "name": "x", "scopes": ["read", "admin"], "viewKey": "u" }), "it may only read"),
        (json!({ "name": "x", "scopes": ["admin"], "streams": ["revenue"] }), "cannot administrate"),
        (json!([]), "key: "),
    ] {
        let answer = app.client().post("/v1/keys", &wanted.to_string());
        assert_eq!(answer.status, 400, "{wanted}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(reason), "{}", answer.text());
    }
    // Who may not ask is not read from.
    let head = app.stranger().head("POST", "/v1/keys", "application/json", 1_000_000);
    assert_eq!(app.stranger().raw(head.as_bytes()).unwrap().status, 401);
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
fn the_data_folder_is_private_and_keys_are_in_it_as_hashes_only() {
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
fn what_is_in_an_open_folder_is_private_all_the_same() {
    let folder = folder();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    let app = TestApp::with_folder(Start::default(), folder);
    assert_eq!(app.client().post(EVENTS, GOOD).status, 200);
    app.settle();
    assert!(data.join(".gitignore").exists());
    for folder in [data.clone(), data.join("journal")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
        }
    }
}

#[test]
fn a_start_that_fails_says_why_in_one_line_and_ends_in_order() {
    let mut app = TestApp::start();
    app.stop();
    let key = app.data().join("api-key");
    std::fs::remove_file(&key).unwrap();
    std::fs::create_dir(&key).unwrap();
    let ended = app.command(&["serve", "--listen", "localhost:0", "--log-level", "error"]);
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.lines().count() == 1 && said.contains("api-key"), "{said}");
}

#[test]
fn a_first_key_that_was_emptied_is_made_anew() {
    let mut app = TestApp::start();
    let first = app.key();
    app.stop();
    std::fs::write(app.data().join("api-key"), "").unwrap();
    app.restart();
    assert!(app.key().len() > 20 && app.key() != first);
    assert_eq!(app.client().get("/v1/keys").status, 200);
}

#[test]
fn beyond_loopback_there_are_rules() {
    let everywhere = format!("0.0.0.0:{}", free_port());
    let listen = ["--listen", &everywhere];
    let start = |more: &[&str]| arguments(&[&listen, more].concat());
    assert!(refusal(start(&[])).contains("--behind-proxy"));
    assert!(refusal(start(&["--dev", "--behind-proxy"])).contains("`--dev`"));
    let weak = Start {
        environment: vec![("API_KEY".to_owned(), "secret".to_owned())],
        ..start(&["--behind-proxy"])
    };
    let said = refusal(weak);
    assert!(said.contains("`API_KEY` is shorter than 20 characters"), "{said}");
    let open = "[door.live_event]\nstream = \"revenue\"\nview = \"revenue\"\naccess = \"open\"\n";
    let opened = |more: &str| Start { config: Some(format!("{open}{more}")), ..start(&["--behind-proxy"]) };
    let said = refusal(opened(""));
    assert!(said.contains("`live_event` is open") && said.contains("public = true"), "{said}");
    let app = TestApp::with(opened("public = true\n"));
    assert_eq!(app.stranger().post("/liveEvent", GOOD).status, 200);
    drop(app);
    let app = TestApp::with(start(&["--behind-proxy"]));
    assert_eq!(app.stranger().post("/liveEvent", GOOD).status, 401);
    assert_eq!(app.client().post("/liveEvent", GOOD).status, 200);
}

#[test]
fn with_dev_nobody_needs_a_key_and_the_log_says_so() {
    let app = TestApp::with(arguments(&["--dev"]));
    assert_eq!(app.stranger().post("/liveEvent", GOOD).status, 200);
    assert_eq!(app.stranger().get("/v1/keys").status, 200);
    let built_in = app.stranger().with_header("Authorization", "secret");
    assert_eq!(built_in.post("/liveEvent", GOOD).status, 200);
    assert!(app.log_text().contains("--dev: every door is open"));
}

#[test]
fn pages_of_other_sites_administrate_nothing() {
    let app = TestApp::with(arguments(&["--dev"]));
    let page = |name: &str, value: &str| app.stranger().with_header(name, value);
    for client in [page("Origin", "https://evil.example"), page("Sec-Fetch-Site", "cross-site")] {
        for path in ["/v1/keys", "/v1/views/revenue/rebuild", EVENTS] {
            let answer = client.post(path, GOOD);
            assert_eq!((answer.status, &answer.json()["status"]), (403, &json!(403)), "{path}");
        }
        let answer = client.post("/liveEvent", GOOD);
        assert!(answer.status == 403 && answer.json()["error"].is_string(), "{}", answer.text());
    }
    assert_eq!(page("Origin", "http://localhost").get("/v1/keys").status, 200);
    // A form can say neither JSON nor anything that the browser would have to ask for first.
    let form = |path: &str, body: &str| {
        app.stranger().request("POST", path, Some(("text/plain", body.as_bytes()))).status
    };
    assert_eq!(form("/v1/keys", r#"{"name":"x","scopes":["admin"]}"#), 415);
    assert_eq!(form("/v1/views/revenue/rebuild", "x=y"), 415);
    assert_eq!(form("/v1/views/revenue/reconcile", ""), 200);
    assert_eq!(app.stranger().get("/v1/keys").json()["keys"].as_array().unwrap().len(), 1);
    assert_eq!(app.log_end(), 0);
    drop(app);
    let open = "[door.live_event]\nstream = \"revenue\"\nview = \"revenue\"\naccess = \"open\"\n";
    let app = TestApp::configured(open);
    let page = app.stranger().with_header("Origin", "https://shop.example");
    assert_eq!(page.post("/liveEvent", GOOD).status, 200);
    assert_eq!(page.get("/v1/views").status, 403);
}

#[test]
fn a_password_for_a_proxy_does_not_hide_a_key() {
    let app = TestApp::start();
    let proxied = app.stranger().with_header("Authorization", "Basic c2VjcmV0");
    assert_eq!(proxied.clone().with_header("X-API-Key", &app.key()).post(EVENTS, GOOD).status, 200);
    assert_eq!(proxied.clone().with_header("X-API-Key", "mr_0").post(EVENTS, GOOD).status, 401);
    assert_eq!(proxied.post(EVENTS, GOOD).status, 401);
}

#[test]
fn one_server_a_data_folder_and_one_a_port() {
    let app = TestApp::start();
    let Err(said) = TestApp::try_with(Start::default(), Arc::clone(&app.folder)) else {
        panic!("two servers")
    };
    assert!(said.contains("another process uses") && said.contains("journal"), "{said}");
    // The first one is none the worse for it.
    assert_eq!(app.client().post("/liveEvent", GOOD).status, 200);

    let port = app.address.rsplit_once(':').unwrap().1;
    let said = refusal(arguments(&["--listen", &format!("localhost:{port}")]));
    assert!(said.contains("cannot listen at 127.0.0.1") && said.contains("in use"), "{said}");
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let dotenv = format!("PORT={}", other.local_addr().unwrap().port());
    let said = refusal(Start { dotenv: Some(dotenv), ..Start::default() });
    assert!(said.contains("in use"), "{said}");
}

#[test]
fn connections_beyond_the_limit_wait_and_are_not_reset() {
    // 256 files are kept for other things, so that 44 are left for connections.
    let app = TestApp::with(Start { files_max: Some(300), ..Start::default() });
    let request = app.client().head("POST", "/liveEvent", "application/json", GOOD.len()) + GOOD;
    let mut streams: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = app.client().connect().unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    // Those that are served stay open; each that ends lets the next one in.
    for stream in &mut streams {
        assert_eq!(read_answer(stream).unwrap().status, 200);
        stream.shutdown(std::net::Shutdown::Both).unwrap();
    }
    assert_eq!(app.balance("u").as_deref(), Some("200"));
}

#[test]
fn an_unknown_setting_is_refused_with_file_and_line() {
    for (config, line, said) in [
        ("lisen = [\"localhost:1\"]\n", 1, "unknown field `lisen`"),
        ("\n[gate]\nwindow = \"7d\"\nwidth = 3\n", 4, "unknown field `width`"),
        (
            "[door.live_event]\nstream = \"revenue\"\nview = \"revenue\"\nacess = \"open\"\n",
            4,
            "unknown field `acess`",
        ),
        ("\n\n[door.nowhere]\nstream = \"revenue\"\nview = \"revenue\"\n", 3, "no door `nowhere`"),
        (
            "[stream.s]\nkey = \"k\"\nfields.k = { type = \"text\", requird = true }\n",
            3,
            "unknown field `requird`",
        ),
        (
            "\n[view.v]\nkind = \"ledger\"\nfrom = \"revenue\"\namount = \"+value\"\ncolour = 1\n",
            2,
            "unknown field `colour`",
        ),
        ("\n[view.v]\nkind = \"legder\"\n", 3, "unknown variant `legder`"),
        ("[view.v]\nkind = \"ledger\"\nfrom = \"revenue\"\namount = \"+valu\"\n", 1, "field `valu`"),
        ("[log\n", 1, ""),
        ("[log]\nurl = \"tape:\"\n", 0, "`[log] url = \"tape:\"`"),
        ("[store]\nurl = \"paper:\"\n", 0, "`[store] url = \"paper:\"`"),
    ] {
        let log = refusal(Start { config: Some(config.to_owned()), ..Start::default() });
        let place = if line == 0 { String::new() } else { format!("millrace.toml:{line}: ") };
        assert!(log.contains(&place) && log.contains(said), "{config}\n  says {log}");
    }
}

#[test]
fn a_log_and_a_store_that_do_not_belong_together_are_refused() {
    let mut app = TestApp::start();
    assert_eq!(app.client().post("/liveEvent", GOOD).status, 200);
    app.settle();
    app.stop();
    let (journal, kept) = (app.data().join("journal"), app.folder.path().join("kept"));
    copy_folder(&journal, &kept);
    app.restart();
    assert_eq!(app.client().post("/liveEvent", GOOD).status, 200);
    app.settle();
    app.stop();
    let newest = app.folder.path().join("newest");
    copy_folder(&journal, &newest);
    let start_again = |app: &TestApp| match TestApp::try_with(Start::default(), Arc::clone(&app.folder)) {
        Ok(_) => panic!("it started"),
        Err(log) => log,
    };
    let put = |from: &Path| {
        std::fs::remove_dir_all(&journal).unwrap();
        copy_folder(from, &journal);
    };

    put(&kept);
    let said = start_again(&app);
    assert!(said.contains("the log is older than the store") && said.contains("position 2"), "{said}");

    std::fs::remove_dir_all(&journal).unwrap();
    // However often it is tried: the first try must not make the second one succeed.
    for _ in 0..2 {
        let said = start_again(&app);
        assert!(said.contains("is not in the data folder") && said.contains("--accept-new-log"), "{said}");
    }

    let mut other = TestApp::start();
    assert_eq!(other.client().post("/liveEvent", GOOD).status, 200);
    other.settle();
    other.stop();
    put(&other.data().join("journal"));
    let said = start_again(&app);
    assert!(said.contains("is not in the data folder"), "{said}");

    put(&newest);
    app.restart();
    assert_eq!(app.balance("u").as_deref(), Some("2"));
    app.stop();
    std::fs::remove_dir_all(&journal).unwrap();
    app.restart_with(|start| start.arguments.push("--accept-new-log".to_owned()));
    assert_eq!(app.client().post("/liveEvent", GOOD).status, 200);
    assert_eq!(app.balance("u").as_deref(), Some("3"));
}

#[test]
fn a_store_that_is_lost_is_made_again_from_the_log() {
    let mut app = TestApp::start();
    for _ in 0..3 {
        assert_eq!(app.client().post("/liveEvent", GOOD).status, 200);
    }
    app.settle();
    app.stop();
    for file in ["millrace.db", "millrace.db-wal", "millrace.db-shm"] {
        drop(std::fs::remove_file(app.data().join(file)));
    }
    app.restart();
    assert_eq!(app.balance("u").as_deref(), Some("3"));
}

#[test]
fn a_client_that_reads_nothing_holds_up_nobody() {
    let app = TestApp::start();
    let mut greedy = app.client().connect().unwrap();
    let request = app.client().head("GET", EVENTS, "text/plain", 0);
    greedy.write_all(request.repeat(50).as_bytes()).unwrap();
    wait_for("others", || app.client().post(EVENTS, GOOD).status == 200);
    let mut one = [0; 12];
    greedy.read_exact(&mut one).unwrap();
    assert_eq!(&one, b"HTTP/1.1 200");
}
