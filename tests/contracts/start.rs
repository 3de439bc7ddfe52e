//! When a server does not start, and what it does before it listens: settings, folders, a log and a store
//! that belong together.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use crate::harness::{Start, TestApp, free_port};

const EVENTS: &str = "/v1/streams/revenue/events";
const GOOD: &str = r#"{"userId":"u","name":"add_revenue","value":1}"#;

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
    let open = "[source.live_event]\naccess = \"open\"\n";
    let opened = |more: &str| Start { config: Some(format!("{open}{more}")), ..start(&["--behind-proxy"]) };
    let said = refusal(opened(""));
    assert!(said.contains("`live_event` is open") && said.contains("public = true"), "{said}");
    let read = |more: &str| opened(&format!("public = true\n[read.stats]\naccess = \"open\"\n{more}"));
    let said = refusal(read(""));
    assert!(said.contains("read `stats` is open") && said.contains("public = true"), "{said}");
    let app = TestApp::with(read("public = true\n"));
    assert_eq!(app.stranger().get("/stats?site_id=a").status, 200);
    assert_eq!(app.stranger().get("/userEvents/a").status, 401);
    drop(app);
    let app = TestApp::with(opened("public = true\n"));
    assert_eq!(app.stranger().post("/liveEvent", GOOD).status, 200);
    drop(app);
    let app = TestApp::with(start(&["--behind-proxy"]));
    assert_eq!(app.stranger().post("/liveEvent", GOOD).status, 401);
    assert_eq!(app.client().post("/liveEvent", GOOD).status, 200);
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
fn an_unknown_setting_is_refused_with_file_and_line() {
    for (config, line, said) in [
        ("lisen = [\"localhost:1\"]\n", 1, "unknown field `lisen`"),
        ("\n[dedup]\nwindow = \"7d\"\nwidth = 3\n", 4, "unknown field `width`"),
        ("[source.live_event]\nstream = \"revenue\"\nacess = \"open\"\n", 3, "unknown field `acess`"),
        ("\n\n[source.nowhere]\nkind = \"http\"\nstream = \"revenue\"\n", 3, "source `nowhere` needs a `path`"),
        ("\n[source.ingest]\nerrors = { gone = \"no\" }\n", 3, "unknown field `gone`"),
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
        // The first line of the file lists the presets.
        let place = if line == 0 { String::new() } else { format!("millrace.toml:{}: ", line + 1) };
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
    app.stored.lose();
    app.restart();
    assert_eq!(app.balance("u").as_deref(), Some("3"));
}
