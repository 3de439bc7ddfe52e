//! Compressed bodies: every source accepts them like plain ones. A body that expands beyond the limit is
//! refused while it is being decompressed.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::harness::TestApp;

const EVENTS: &str = "/v1/streams/revenue/events";
const GOOD: &str = r#"{"userId":"u","name":"add_revenue","value":1}"#;
/// Far less than the decompressed size of the bombs.
const GROWTH_KIB_MAX: u64 = 160 * 1024;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// Returns one frame with a window of 8 MiB. Each block takes 4 bytes and stands for 128 KiB of `byte`.
fn zstd_bomb(byte: u8, mebibytes: usize) -> Vec<u8> {
    let block = |last: u32| {
        let header = (128 * 1024) << 3 | 1 << 1 | last;
        let [first, second, third, _] = u32::to_le_bytes(header);
        [first, second, third, byte]
    };
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 13 << 3];
    (1..mebibytes * 8).for_each(|_| frame.extend(block(0)));
    frame.extend(block(1));
    frame
}

fn send(app: &TestApp, coding: &str, path: &str, kind: &str, body: &[u8]) -> (u16, String) {
    let client = app.client().with_header("Content-Encoding", coding);
    let answer = client.request("POST", path, Some((kind, body)));
    (answer.status, answer.text())
}

fn memory_kib(app: &TestApp) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", app.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn compressed_bodies_are_accepted_at_every_source() {
    let app = TestApp::start();
    let lines = format!("{GOOD}\n").repeat(30_000);
    let array = format!("[{}{GOOD}]", format!("{GOOD},").repeat(4_999));
    type Compress = fn(&[u8]) -> Vec<u8>;
    let compressors: [(&str, Compress); 4] =
        [("gzip", gzip), ("x-gzip", gzip), ("ZSTD", zstd), ("identity", |bytes| bytes.to_vec())];
    for (coding, compress) in compressors {
        for (path, kind, body) in [
            ("/liveEvent", "application/json", GOOD),
            (EVENTS, "application/json", GOOD),
            (EVENTS, "application/json", &array),
            (EVENTS, "application/x-ndjson", &lines),
        ] {
            let (status, text) = send(&app, coding, path, kind, &compress(body.as_bytes()));
            assert_eq!(status, 200, "{coding} at {path}: {text}");
        }
        // Concatenated members are one body.
        let (first, second) = GOOD.as_bytes().split_at(9);
        let members = [compress(first), compress(second)].concat();
        assert_eq!(send(&app, coding, "/liveEvent", "application/json", &members).0, 200, "{coding}");
        // The administration API accepts compressed bodies too.
        let key = compress(format!(r#"{{"name":"{coding}","scopes":["send"]}}"#).as_bytes());
        let (status, text) = send(&app, coding, "/v1/keys", "application/json", &key);
        assert!((200..300).contains(&status), "{coding}: {text}");
    }
    let sent = 4 * (1 + 1 + 5_000 + 30_000 + 1);
    assert_eq!(app.balance("u"), Some(sent.to_string()));
}

#[test]
fn a_decompression_bomb_is_refused_and_memory_stays_bounded() {
    let app = TestApp::start();
    let mebibytes = 1024;
    let (gzip_bomb, zstd_bomb) =
        (gzip(&vec![b' '; 64 * 1024 * 1024]).repeat(mebibytes / 64), zstd_bomb(b'[', mebibytes));
    assert!(gzip_bomb.len() < 2 * 1024 * 1024 && zstd_bomb.len() < 64 * 1024);
    assert_eq!(send(&app, "gzip", "/liveEvent", "application/json", &gzip(GOOD.as_bytes())).0, 200);
    let before = memory_kib(&app);
    for (coding, bomb) in [("gzip", &gzip_bomb), ("zstd", &zstd_bomb)] {
        for (path, kind) in [
            ("/liveEvent", "application/json"),
            (EVENTS, "application/json"),
            (EVENTS, "application/x-ndjson"),
            ("/v1/keys", "application/json"),
        ] {
            let (status, text) = send(&app, coding, path, kind, bomb);
            assert_eq!(status, 413, "{coding} at {path} as {kind}: {text}");
        }
    }
    let grown = memory_kib(&app).saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "{grown} KiB more");
    // A line at the limit is accepted, a longer one is not.
    let padded = |bytes: usize| format!("{{{}{}\n", " ".repeat(bytes - GOOD.len()), &GOOD[1..]);
    let line = gzip(padded(1024 * 1024).as_bytes());
    assert_eq!(send(&app, "gzip", EVENTS, "application/x-ndjson", &line).0, 200);
    let line = gzip(padded(1024 * 1024 + 1).as_bytes());
    assert_eq!(send(&app, "gzip", EVENTS, "application/x-ndjson", &line).0, 413);
    assert_eq!(app.log_end(), 2);
}

#[test]
fn a_damaged_body_or_another_coding_is_refused() {
    let app = TestApp::start();
    for (path, kind) in
        [("/liveEvent", "application/json"), (EVENTS, "application/json"), (EVENTS, "application/x-ndjson")]
    {
        for (coding, whole) in [("gzip", gzip(GOOD.as_bytes())), ("zstd", zstd(GOOD.as_bytes()))] {
            let cut = &whole[..whole.len() - 1];
            let more = [whole.as_slice(), b"{}"].concat();
            for (name, body) in [("cut", cut), ("with more behind it", &more), ("plain", GOOD.as_bytes())] {
                let (status, text) = send(&app, coding, path, kind, body);
                assert_eq!(status, 400, "{coding}, {name}, at {path}: {text}");
                assert!(text.contains(&format!("not a complete {coding} stream")), "{text}");
            }
        }
        for coding in ["br", "deflate", "gzip, zstd", "gzip, identity", "snappy"] {
            let client = app.client().with_header("Content-Encoding", coding);
            let answer = client.request("POST", path, Some((kind, GOOD.as_bytes())));
            assert_eq!(answer.status, 415, "{coding} at {path}");
            assert_eq!(answer.header("accept-encoding"), Some("gzip, zstd"));
        }
    }
    assert_eq!(app.log_end(), 0);
}

#[test]
fn lines_before_damaged_data_are_stored_and_reported() {
    let app = TestApp::start();
    let lines: String = (0..4_000)
        .map(|line| format!("{{\"userId\":\"u\",\"name\":\"add_revenue\",\"value\":1,\"n\":{line}}}\n"))
        .collect();
    let whole = gzip(lines.as_bytes());
    let (status, text) = send(&app, "gzip", EVENTS, "application/x-ndjson", &whole[..whole.len() - 4]);
    let refusal: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status, 400, "{text}");
    let durable = refusal["durableLines"].as_u64().unwrap();
    assert!((1_000..=4_000).contains(&durable), "{text}");
    assert_eq!(app.balance("u"), Some(durable.to_string()));
}
