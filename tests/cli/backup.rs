//! `millrace backup` and `millrace restore`.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::harness::{Start, TestApp, wait_for};
use crate::{failed, run, sell, stderr};

/// Returns the temporary files of backups that are running or were interrupted.
fn left_behind(app: &TestApp) -> Vec<PathBuf> {
    let folders = [app.folder.path().to_owned(), app.data(), app.data().join("journal")];
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "tmp"))
        .collect()
}

fn assert_nothing_is_left(app: &TestApp) {
    let left = left_behind(app);
    assert!(left.is_empty(), "{left:?}");
}

fn backed_up(app: &TestApp, name: &str) -> PathBuf {
    run(app, &["backup", name]);
    app.folder.path().join(name)
}

/// Restores a backup into a new folder, and starts a server there.
fn restored(app: &TestApp, backup: &Path) -> TestApp {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let data = folder.path().join("data");
    run(app, &["restore", backup.to_str().unwrap(), "--data", data.to_str().unwrap()]);
    let start = Start {
        config: std::fs::read_to_string(app.folder.path().join("millrace.toml")).ok(),
        ..Start::default()
    };
    TestApp::try_with(start, folder).unwrap_or_else(|log| panic!("did not start:\n{log}"))
}

fn log_id(app: &TestApp) -> String {
    app.log_line("log is open").unwrap()["log"].as_str().unwrap().to_owned()
}

/// Parses the entries of a tar file: the name and the byte range of the content.
fn parts(backup: &[u8]) -> Vec<(String, std::ops::Range<usize>)> {
    let (mut parts, mut at) = (Vec::new(), 0);
    while backup[at] != 0 {
        let name = backup[at..at + 100].split(|byte| *byte == 0).next().unwrap();
        let size = std::str::from_utf8(&backup[at + 124..at + 135]).unwrap();
        let size = usize::from_str_radix(size, 8).unwrap();
        parts.push((String::from_utf8(name.to_owned()).unwrap(), at + 512..at + 512 + size));
        at += 512 + size.div_ceil(512) * 512;
    }
    parts
}

#[test]
fn a_backup_under_load_contains_every_event_acknowledged_before() {
    let app = TestApp::start();
    let (acknowledged, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let (before, restored) = std::thread::scope(|scope| {
        for sender in 0..4 {
            let (app, acknowledged, stop) = (&app, &acknowledged, &stop);
            scope.spawn(move || {
                let mut count = 0;
                while !stop.load(Ordering::SeqCst) {
                    // Every second request is a line with an id, so that the dedup stage stores something.
                    let client = app.client();
                    let answer = match count % 2 {
                        0 => client.post("/liveEvent", &format!("{{\"userId\":\"u{sender}\",\"name\":\"add_revenue\",\"value\":1}}")),
                        _ => client.post_lines("/v1/streams/revenue/events", &format!("{{\"id\":\"{sender}-{count}\",\"userId\":\"u{sender}\",\"name\":\"add_revenue\",\"value\":1}}\n")),
                    };
                    assert_eq!(answer.status, 200);
                    count += 1;
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        wait_for("some load", || acknowledged.load(Ordering::SeqCst) > 200);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let before = acknowledged.load(Ordering::SeqCst);
            let backup = backed_up(&app, "a.tar");
            (before, self::restored(&app, &backup))
        }));
        stop.store(true, Ordering::SeqCst);
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    restored.settle();
    let end = restored.log_end();
    assert!(end >= before, "{end} events of {before}");
    assert_eq!(log_id(&restored), log_id(&app));
    assert_eq!(restored.log_line("log is open").unwrap()["clean"], true);
    run(&restored, &["view", "reconcile", "revenue"]);
    let sum: u64 = (0..4)
        .map(|sender| restored.balance(&format!("u{sender}")).map_or(0, |sum| sum.parse::<u64>().unwrap()))
        .sum();
    assert_eq!(sum, end, "each event in the log counts 1");
    // The restored server accepts events and recognises repeats of earlier ones.
    let again = "{\"id\":\"0-1\",\"userId\":\"u0\",\"name\":\"add_revenue\",\"value\":1}\n";
    let balance = || restored.balance("u0").unwrap().parse::<u64>().unwrap();
    let counted = balance();
    assert_eq!(restored.client().post_lines("/v1/streams/revenue/events", again).status, 200);
    sell(&restored, "u0", "1");
    assert_eq!(balance(), counted + 1);
    assert_nothing_is_left(&app);
}

#[test]
fn a_backup_during_erasures_has_a_consistent_store_and_log() {
    let app = TestApp::start();
    for person in 0..6 {
        (0..5).for_each(|_| sell(&app, &format!("p{person}"), "1"));
    }
    sell(&app, "stays", "7");
    app.settle();
    let backups: Vec<PathBuf> = std::thread::scope(|scope| {
        let erased = scope.spawn(|| {
            for person in 0..6 {
                let asked = format!("{{\"value\":\"p{person}\"}}");
                let answer = app.client().post("/v1/streams/revenue/erasures", &asked);
                assert!([200, 202].contains(&answer.status), "{}", answer.text());
            }
        });
        let mut backups = Vec::new();
        while !erased.is_finished() || backups.is_empty() {
            let name = format!("{}.tar", backups.len());
            let output = app.command(&["backup", &name]);
            match output.status.code() {
                Some(0) => backups.push(app.folder.path().join(name)),
                // Consecutive erasures rewrote the log during the backup.
                Some(1) if stderr(&output).contains("being erased") => {}
                code => panic!("{code:?}: {}", stderr(&output)),
            }
        }
        backups
    });
    let every = backups.len().div_ceil(4);
    for backup in backups.iter().step_by(every) {
        let restored = restored(&app, backup);
        restored.settle();
        wait_for("the remaining erasures to end", || is_reconciled(&restored, "revenue"));
        assert_eq!(restored.balance("stays").as_deref(), Some("7"));
    }
    app.settle();
}

/// Returns true if a view equals the result of its log, and false while erasures run: the restored server
/// finishes those that the backup interrupted, and compares no view meanwhile.
fn is_reconciled(app: &TestApp, view: &str) -> bool {
    let output = app.command(&["view", "reconcile", view]);
    match output.status.code() {
        Some(0) => true,
        Some(1) if stderr(&output).contains("are being erased") => false,
        code => panic!("{code:?}: {}", stderr(&output)),
    }
}

#[test]
fn a_restored_server_is_the_same_except_for_its_first_key() {
    let app = TestApp::start();
    sell(&app, "user1", "999999999999999.9999");
    let added: serde_json::Value =
        serde_json::from_str(&run(&app, &["key", "add", "reader", "--scopes", "read", "--json"])).unwrap();
    app.settle();
    let backup = backed_up(&app, "a.tar");
    let bytes = std::fs::read(&backup).unwrap();
    let names: Vec<String> = parts(&bytes).into_iter().map(|(name, _)| name).collect();
    let expected = [
        "millrace-backup",
        "millrace.db",
        "journal/00000000000000000000.seg",
        "journal/durable",
        "manifest.json",
        "manifest.sha256",
    ];
    assert_eq!(names, expected);
    let secret = app.key();
    assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
    let restored = restored(&app, &backup);
    assert_ne!(restored.key(), secret);
    let reader = restored.anonymous().with_header("Authorization", added["key"].as_str().unwrap());
    assert!(reader.get("/userEvents/user1").text().contains("999999999999999.9999"));
    assert_eq!(restored.log_end(), 1);
}

#[test]
fn a_backup_replaces_only_regular_files() {
    let app = TestApp::start();
    let folder = app.folder.path();
    std::process::Command::new("mkfifo").arg(folder.join("pipe")).status().unwrap();
    std::fs::create_dir(folder.join("folder")).unwrap();
    for name in ["pipe", "folder", "/dev/null"] {
        let refused = failed(&app, 1, &["backup", name]);
        assert!(refused.contains(name) && refused.contains("name a file, or `-`"), "{refused}");
    }
    use std::os::unix::fs::FileTypeExt;
    assert!(std::fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    assert!(std::fs::metadata(folder.join("pipe")).unwrap().file_type().is_fifo());
    // A backup through a link replaces the file that the link points to.
    std::fs::write(folder.join("real.tar"), "old").unwrap();
    std::os::unix::fs::symlink("real.tar", folder.join("link.tar")).unwrap();
    std::fs::write(folder.join("link.tar.tmp"), "mine").unwrap();
    run(&app, &["backup", "link.tar"]);
    assert!(std::fs::symlink_metadata(folder.join("link.tar")).unwrap().is_symlink());
    assert!(std::fs::read(folder.join("real.tar")).unwrap().starts_with(b"millrace-backup"));
    assert_eq!(std::fs::read_to_string(folder.join("link.tar.tmp")).unwrap(), "mine");
}

#[test]
fn a_backup_works_over_stdout_and_stdin_and_is_readable_by_tar() {
    let app = TestApp::start();
    sell(&app, "user1", "5");
    app.settle();
    let output = app.command(&["backup", "-"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let mut restore = std::process::Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(["restore", "-", "--data", "from-stdin"])
        .current_dir(app.folder.path())
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    restore.stdin.take().unwrap().write_all(&output.stdout).unwrap();
    assert!(restore.wait().unwrap().success());
    let unpacked = app.folder.path().join("from-stdin");
    let whole = &output.stdout;
    for (name, range) in
        parts(whole).into_iter().filter(|(name, _)| name.contains('.') && !name.starts_with("manifest"))
    {
        assert!(std::fs::read(unpacked.join(&name)).unwrap() == whole[range], "{name}");
    }
    std::fs::write(app.folder.path().join("by-tar.tar"), whole).unwrap();
    let tar =
        std::process::Command::new("tar").args(["tf", "by-tar.tar"]).current_dir(app.folder.path()).output();
    let listed = String::from_utf8(tar.unwrap().stdout).unwrap();
    assert_eq!(listed.lines().count(), 6, "{listed}");
}

#[test]
fn a_truncated_or_changed_backup_is_refused_and_leaves_no_folder() {
    let app = TestApp::start();
    sell(&app, "user1", "5");
    app.settle();
    let whole = std::fs::read(backed_up(&app, "whole.tar")).unwrap();
    let path = app.folder.path().join("broken.tar");
    let refused = |bytes: &[u8], code: i32, why: &str| {
        std::fs::write(&path, bytes).unwrap();
        let error = failed(&app, code, &["restore", "broken.tar", "--data", "new/data"]);
        assert!(error.contains(why), "{error}");
        let left: Vec<_> = std::fs::read_dir(app.folder.path().join("new")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    };
    for (_, range) in parts(&whole) {
        refused(&whole[..range.start], 7, "cut off");
        let mut changed = whole.clone();
        changed[(range.start + range.end) / 2] ^= 0x10;
        refused(&changed, 7, "damaged");
    }
    refused(&whole[..whole.len() - 1], 7, "cut off");
    let first = parts(&whole)[0].1.start;
    refused(&[&whole[..first], b"2", &whole[first + 1..]].concat(), 1, "use a newer one");
    refused(&[b'x'; 2_000], 1, "not a backup of millrace");
}

#[test]
fn restore_refuses_a_folder_that_is_not_empty() {
    let app = TestApp::start();
    sell(&app, "user1", "5");
    backed_up(&app, "a.tar");
    assert!(failed(&app, 1, &["restore", "a.tar"]).contains("data is not empty"));
    assert!(failed(&app, 5, &["restore", "b.tar"]).contains("no file b.tar"));
    std::fs::create_dir(app.folder.path().join("empty")).unwrap();
    run(&app, &["restore", "a.tar", "--data", "empty"]);
    assert!(app.folder.path().join("empty/millrace.db").exists());
    assert_eq!(app.balance("user1").as_deref(), Some("5"));
}

#[test]
fn a_backup_needs_the_admin_scope_and_runs_alone() {
    let app = TestApp::start();
    // The backup is larger than the buffers of the sockets.
    let line = format!(
        "{{\"userId\":\"u\",\"name\":\"add_revenue\",\"value\":1,\"more\":\"{}\"}}\n",
        "x".repeat(500_000)
    );
    for _ in 0..4 {
        assert_eq!(app.client().post_lines("/v1/streams/revenue/events", &line.repeat(10)).status, 200);
    }
    app.settle();
    let added: serde_json::Value =
        serde_json::from_str(&run(&app, &["key", "add", "reader", "--scopes", "read", "--json"])).unwrap();
    let reader = added["key"].as_str().unwrap();
    assert!(failed(&app, 4, &["backup", "a.tar", "--key", reader]).contains("may not"));

    // A client reads only the beginning of a backup.
    let mut slow = app.client().connect().unwrap();
    let request =
        format!("GET /v1/backup HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\n\r\n", app.key());
    slow.write_all(request.as_bytes()).unwrap();
    slow.read_exact(&mut [0; 1_000]).unwrap();
    assert!(!left_behind(&app).is_empty());
    assert!(failed(&app, 1, &["backup", "a.tar"]).contains("another backup"));
    drop(slow);
    wait_for("the end of the backup", || left_behind(&app).is_empty());
    wait_for("the next backup to be possible", || app.command(&["backup", "a.tar"]).status.success());
    assert_nothing_is_left(&app);
}

#[test]
fn an_incomplete_backup_is_not_kept() {
    let mut app = TestApp::start();
    sell(&app, "user1", "5");
    backed_up(&app, "a.tar");
    let kept = std::fs::read(app.folder.path().join("a.tar")).unwrap();
    app.kill();
    assert!(failed(&app, 3, &["backup", "a.tar"]).contains("no answer"));
    let chunk = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    let half = chunk(&kept[..kept.len() / 2]);
    // The connection breaks; half a backup ends like a complete one; a complete backup has a changed byte.
    let changed = chunk(&[&kept[..700], b"!", &kept[701..]].concat());
    for (body, code, why) in [
        (half.clone(), 3, "broke off"),
        ([&half[..], b"0\r\n\r\n"].concat(), 1, "cut off"),
        ([&changed[..], b"0\r\n\r\n"].concat(), 1, "damaged"),
    ] {
        let url = answering(body);
        let error = failed(&app, code, &["backup", "a.tar", "--url", &url]);
        assert!(error.contains(why), "{error}");
        assert_nothing_is_left(&app);
    }
    assert_eq!(std::fs::read(app.folder.path().join("a.tar")).unwrap(), kept);
    // The next start removes files that a crash left behind.
    let left =
        [app.data().join("backup.db.tmp"), app.data().join("journal/00000000000000000000.seg.held.tmp")];
    left.iter().for_each(|path| std::fs::write(path, "left").unwrap());
    app.restart();
    assert_nothing_is_left(&app);
    assert_eq!(app.balance("user1").as_deref(), Some("5"));
}

/// Starts a server that answers one request with this chunked body and then ends. Returns its URL.
fn answering(body: Vec<u8>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
            request.push(byte[0]);
        }
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"));
        drop(stream.write_all(&body));
    });
    url
}

#[test]
fn backup_and_restore_describe_the_backup_as_json() {
    let app = TestApp::start();
    sell(&app, "user1", "1");
    app.settle();
    let document =
        |arguments: &[&str]| -> serde_json::Value { serde_json::from_str(&run(&app, arguments)).unwrap() };
    let written = document(&["backup", "described.tar", "--json"]);
    assert_eq!((&written["begin"], &written["end"]), (&0.into(), &1.into()), "{written}");
    assert_eq!(document(&["restore", "described.tar", "--data", "described", "--json"]), written);
    assert_eq!(app.command(&["backup", "-", "--json"]).status.code(), Some(2));
}
