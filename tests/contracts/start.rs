//! The start of a server before it listens, and the cases in which it is refused: settings, folders, and a
//! log and a store that do not belong together.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use crate::harness::{Start, TestApp, copy_files, free_port};

const EVENTS: &str = "/v1/streams/revenue/events";
const GOOD: &str = r#"{"userId":"u","name":"add_revenue","value":1}"#;

fn folder() -> Arc<tempfile::TempDir> {
    Arc::new(tempfile::tempdir().unwrap())
}

fn arguments(arguments: &[&str]) -> Start {
    Start { arguments: arguments.iter().map(|&text| text.to_owned()).collect(), ..Start::default() }
}

/// Starts a server that must fail, and returns its log.
fn refusal(start: Start) -> String {
    match TestApp::try_with(start, folder()) {
        Ok(_) => panic!("the server started"),
        Err(log) => log,
    }
}

#[test]
fn files_in_a_readable_data_folder_are_private() {
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
fn a_failed_start_gives_its_reason_in_one_line() {
    let mut app = TestApp::start();
    app.stop();
    let key = app.data().join("api-key");
    std::fs::remove_file(&key).unwrap();
    std::fs::create_dir(&key).unwrap();
    let ended = app.command(&["serve", "--listen", "localhost:0", "--log-level", "error"]);
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{stderr}");
    assert!(stderr.lines().count() == 1 && stderr.contains("api-key"), "{stderr}");
}

#[test]
fn an_empty_key_file_is_replaced_by_a_new_key() {
    let mut app = TestApp::start();
    let first = app.key();
    app.stop();
    std::fs::write(app.data().join("api-key"), "").unwrap();
    app.restart();
    assert!(app.key().len() > 20 && app.key() != first);
    assert_eq!(app.client().get("/v1/keys").status, 200);
}

#[test]
fn beyond_loopback_a_proxy_a_strong_key_and_public_sources_are_required() {
    let everywhere = format!("0.0.0.0:{}", free_port());
    let listen = ["--listen", &everywhere];
    let start = |more: &[&str]| arguments(&[&listen, more].concat());
    assert!(refusal(start(&[])).contains("--behind-proxy"));
    assert!(refusal(start(&["--dev", "--behind-proxy"])).contains("`--dev`"));
    let weak = Start {
        environment: vec![("API_KEY".to_owned(), "secret".to_owned())],
        ..start(&["--behind-proxy"])
    };
    let log = refusal(weak);
    assert!(log.contains("`API_KEY` is shorter than 20 characters"), "{log}");
    let open = "[source.live_event]\naccess = \"open\"\n";
    let opened = |more: &str| Start { config: Some(format!("{open}{more}")), ..start(&["--behind-proxy"]) };
    let log = refusal(opened(""));
    assert!(log.contains("source `live_event` is open") && log.contains("public = true"), "{log}");
    let read = |more: &str| opened(&format!("public = true\n[read.stats]\naccess = \"open\"\n{more}"));
    let log = refusal(read(""));
    assert!(log.contains("read `stats` is open") && log.contains("public = true"), "{log}");
    let app = TestApp::with(read("public = true\n"));
    assert_eq!(app.anonymous().get("/stats?site_id=a").status, 200);
    assert_eq!(app.anonymous().get("/userEvents/a").status, 401);
    drop(app);
    let app = TestApp::with(opened("public = true\n"));
    assert_eq!(app.anonymous().post("/liveEvent", GOOD).status, 200);
    drop(app);
    let app = TestApp::with(start(&["--behind-proxy"]));
    assert_eq!(app.anonymous().post("/liveEvent", GOOD).status, 401);
    assert_eq!(app.client().post("/liveEvent", GOOD).status, 200);
}

#[test]
fn a_data_folder_or_a_port_in_use_is_refused() {
    let app = TestApp::start();
    let Err(log) = TestApp::try_with(Start::default(), Arc::clone(&app.folder)) else {
        panic!("two servers started in one data folder")
    };
    assert!(log.contains("another process uses") && log.contains("journal"), "{log}");
    // The first server still works.
    assert_eq!(app.client().post("/liveEvent", GOOD).status, 200);

    let port = app.address.rsplit_once(':').unwrap().1;
    let log = refusal(arguments(&["--listen", &format!("localhost:{port}")]));
    assert!(log.contains("cannot listen on 127.0.0.1") && log.contains("in use"), "{log}");
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let dotenv = format!("PORT={}", other.local_addr().unwrap().port());
    let log = refusal(Start { dotenv: Some(dotenv), ..Start::default() });
    assert!(log.contains("in use"), "{log}");
}

#[test]
fn an_unknown_setting_is_refused_with_file_and_line() {
    for (config, line, reason) in [
        ("lisen = [\"localhost:1\"]\n", 1, "`lisen` is not a setting"),
        ("\n[dedup]\nwindow = \"7d\"\nwidth = 3\n", 4, "has no setting `width`"),
        ("[source.live_event]\nstream = \"revenue\"\nacess = \"open\"\n", 3, "has no setting `acess`"),
        ("\n\n[source.nowhere]\nkind = \"http\"\nstream = \"revenue\"\n", 3, "needs the setting `path`"),
        ("\n[source.ingest]\nerrors = { gone = \"no\" }\n", 3, "has no setting `gone`"),
        (
            "[stream.s]\nkey = \"k\"\nfields.k = { type = \"text\", requird = true }\n",
            3,
            "has no setting `requird`",
        ),
        (
            "\n[view.v]\nkind = \"ledger\"\nfrom = \"revenue\"\namount = \"+value\"\ncolour = 1\n",
            6,
            "has no setting `colour`",
        ),
        ("\n[view.v]\nkind = \"legder\"\n", 3, "`legder` does not exist; did you mean `ledger`?"),
        ("[view.v]\nkind = \"ledger\"\nfrom = \"revenue\"\namount = \"+valu\"\n", 4, "field `valu`"),
        ("[log\n", 1, "no closing `]`"),
        ("[log]\nurl = \"tape:\"\n", 2, "`[log] url = \"tape:\"`"),
        ("[store]\nurl = \"paper:\"\n", 2, "`[store] url` starts with `paper:`"),
    ] {
        let log = refusal(Start { config: Some(config.to_owned()), ..Start::default() });
        // The first line of the file lists the presets.
        let location = format!("millrace.toml:{}:", line + 1);
        assert!(log.contains(&location) && log.contains(reason), "{config}\n  logs {log}");
    }
}

#[test]
fn a_log_and_a_store_that_do_not_belong_together_are_refused() {
    let mut app = TestApp::start();
    assert_eq!(app.client().post("/liveEvent", GOOD).status, 200);
    app.settle();
    app.stop();
    let (journal, kept) = (app.data().join("journal"), app.folder.path().join("kept"));
    copy_files(&journal, &kept);
    app.restart();
    assert_eq!(app.client().post("/liveEvent", GOOD).status, 200);
    app.settle();
    app.stop();
    let newest = app.folder.path().join("newest");
    copy_files(&journal, &newest);
    let start_again = |app: &TestApp| match TestApp::try_with(Start::default(), Arc::clone(&app.folder)) {
        Ok(_) => panic!("the server started"),
        Err(log) => log,
    };
    let put = |from: &Path| {
        std::fs::remove_dir_all(&journal).unwrap();
        copy_files(from, &journal);
    };

    put(&kept);
    let log = start_again(&app);
    assert!(log.contains("the log is older than the store") && log.contains("position 2"), "{log}");

    std::fs::remove_dir_all(&journal).unwrap();
    // A refused start must not make the next one succeed.
    for _ in 0..2 {
        let log = start_again(&app);
        assert!(log.contains("is not in the data folder") && log.contains("--accept-new-log"), "{log}");
    }

    let mut other = TestApp::start();
    assert_eq!(other.client().post("/liveEvent", GOOD).status, 200);
    other.settle();
    other.stop();
    put(&other.data().join("journal"));
    let log = start_again(&app);
    assert!(log.contains("is not in the data folder"), "{log}");

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
fn a_lost_store_is_rebuilt_from_the_log() {
    let mut app = TestApp::start();
    for _ in 0..3 {
        assert_eq!(app.client().post("/liveEvent", GOOD).status, 200);
    }
    app.settle();
    app.stop();
    app.stored.delete_all();
    app.restart();
    assert_eq!(app.balance("u").as_deref(), Some("3"));
}

/// With less address space than the threads need, the system says only "Resource temporarily unavailable".
#[test]
fn a_start_with_too_little_address_space_says_which_limit_to_raise() {
    let folder = folder();
    let script = "ulimit -v 204800; exec \"$0\" serve --listen localhost:0";
    let mut command = std::process::Command::new("sh");
    command.current_dir(folder.path()).env_clear().args(["-c", script, env!("CARGO_BIN_EXE_millrace")]);
    let file = std::fs::File::create(folder.path().join("log")).unwrap();
    let mut server = command.stdout(std::process::Stdio::null()).stderr(file).spawn().unwrap();
    let log = || std::fs::read_to_string(folder.path().join("log")).unwrap();
    crate::harness::wait_for("the warning", || log().contains("ulimit -v"));
    assert!(log().contains("limit_mib=200"), "{}", log());
    drop(server.kill());
    server.wait().unwrap();
}

/// Only a read of the page shows the damage, so a check in the background reads all of them.
#[test]
fn damaged_pages_of_the_sqlite_file_are_reported_soon_after_the_start() {
    use std::os::unix::fs::FileExt;
    if crate::harness::StoreKind::from_env().skip_unless_sqlite("database servers check their own files") {
        return;
    }
    let mut app = TestApp::start();
    let lines: Vec<String> =
        (0..2_000).map(|n| format!(r#"{{"userId":"user {n:05}","name":"add_revenue","value":1}}"#)).collect();
    assert_eq!(app.client().post_lines(EVENTS, &(lines.join("\n") + "\n")).status, 200);
    app.settle();
    let root = app.sql("SELECT rootpage FROM sqlite_schema WHERE name = 'users_revenue'");
    app.stop();
    let path = app.data().join("millrace.db");
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let at = (root.parse::<u64>().unwrap() - 1) * 4096 + 14;
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, at).unwrap();
    file.write_all_at(&bytes.map(|byte| byte ^ 0xff), at).unwrap();
    app.restart();
    let metric = || app.client().get("/metrics").text().contains("millrace_store_damaged 1");
    crate::harness::wait_for("the check", || app.log_line("the store is damaged").is_some());
    assert!(metric());
    let reason = app.log_line("the store is damaged").unwrap()["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("table `users_revenue`") && reason.contains("restore a backup"), "{reason}");
    app.settled_at_end = false;
}
