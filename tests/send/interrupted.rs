//! Sender and server are killed at random moments.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::*;
use crate::harness::wait_for;

/// Returns a different seed in every run, and prints it, so that a failure can be repeated.
fn seed() -> u64 {
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    let seed = std::env::var("SEED").map_or(u64::from(seed), |seed| seed.parse().unwrap());
    eprintln!("SEED={seed}");
    seed
}

fn next(random: &mut u64) -> u64 {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *random >> 33
}

#[test]
fn a_killed_sender_resumes_where_it_stopped() {
    const CHUNK: u64 = 20;
    let app = TestApp::start();
    // Every tenth line is bad.
    let content: String =
        (1..=20_000).map(|n| if n % 10 == 0 { format!("bad {n}\n") } else { sale(n) }).collect();
    let expected: u64 = (1..=20_000).filter(|n| n % 10 != 0).sum();
    write(&app, "a.jsonl", content);
    let (mut random, mut kills) = (seed(), 0);
    loop {
        assert!(kills < 500, "the sender does not finish");
        let mut sender = start(&app, &["a.jsonl", "--chunk-lines", &CHUNK.to_string()]);
        let until = stored(&app) + next(&mut random) % 1_500;
        wait_for("progress", || stored(&app) > until || sender.try_wait().unwrap().is_some());
        std::thread::sleep(Duration::from_micros(next(&mut random) % 3_000));
        sender.kill().unwrap();
        let output = sender.wait_with_output().unwrap();
        match output.status.code() {
            None => kills += 1,
            Some(code) => {
                assert_eq!(code, 6, "{}", stderr(&output));
                break;
            }
        }
    }
    assert!(kills >= 5, "the sender was killed only {kills} times");
    assert_eq!((balance(&app), open_dead_letters(&app)), (expected, 0));
    // A kill leaves at most one chunk without an acknowledgement.
    let repeats = stored(&app) - 18_000;
    assert!(repeats <= kills * CHUNK, "{repeats} lines were sent twice over {kills} kills");
    let listed: Vec<u64> =
        rejected::lines(&app, "a.jsonl").iter().map(|line| line["line"].as_u64().unwrap()).collect();
    assert_eq!(listed, (1..=2_000).map(|n| n * 10).collect::<Vec<_>>());
}

#[test]
fn a_sender_waits_for_a_killed_server() {
    const CHUNK: u64 = 20;
    let mut app = TestApp::start();
    let address = app.address.clone();
    write(&app, "a.jsonl", sales(1, 20_001));
    let mut sender = start(&app, &["a.jsonl", "--chunk-lines", &CHUNK.to_string()]);
    let (mut random, mut kills) = (seed(), 0);
    while kills < 4 {
        let until = stored(&app) + 200 + next(&mut random) % 1_000;
        wait_for("progress", || stored(&app) > until || sender.try_wait().unwrap().is_some());
        if sender.try_wait().unwrap().is_some() {
            break;
        }
        app.restart_with(|start| {
            start.arguments = vec!["--listen".to_owned(), address.clone()];
        });
        kills += 1;
    }
    let output = sender.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(kills >= 2, "the server was killed only {kills} times");
    assert!(stderr(&output).contains("the server answers again"), "{}", stderr(&output));
    assert_eq!(balance(&app), sum(1, 20_001));
    let repeats = stored(&app) - 20_000;
    assert!(repeats <= kills * CHUNK, "{repeats} lines were sent twice over {kills} kills");
    assert_eq!(send(&app, &["a.jsonl"]).1["events"], 0);
}

#[test]
fn an_interrupted_resend_is_completed_without_the_again_option() {
    let app = TestApp::start();
    write(&app, "a.jsonl", sales(1, 5_001));
    assert_eq!(send(&app, &["a.jsonl"]).0, 0);
    let mut sender = start(&app, &["a.jsonl", "--again", "--chunk-lines", "10"]);
    wait_for("progress", || stored(&app) > 5_100);
    sender.kill().unwrap();
    assert_eq!(sender.wait().unwrap().code(), None, "the sender finished before it was killed");
    let (code, outcome) = send(&app, &["a.jsonl"]);
    assert_eq!(code, 0);
    assert!(outcome["events"].as_u64().unwrap() > 0 && outcome["linesThereAlready"].as_u64().unwrap() > 0);
    assert_eq!(balance(&app), 2 * sum(1, 5_001));
}

/// Starts a server that answers requests according to a script, in which `None` closes the connection without
/// a response. Returns its address and a thread that returns the requests as they were received.
fn scripted(script: Vec<Option<&'static str>>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = move |script: &Option<&'static str>| {
        let mut reader = BufReader::new(listener.accept().unwrap().0);
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let start = head.len();
            reader.read_line(&mut head).unwrap();
            if let Some(value) = head[start..].strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        if let Some(answer) = script {
            let (status, rest) = answer.split_once('|').unwrap();
            let (headers, body) = rest.split_once('|').unwrap();
            let length = body.len();
            write!(
                reader.into_inner(),
                "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
            )
            .unwrap();
        }
        head + &String::from_utf8(body).unwrap()
    };
    (address, std::thread::spawn(move || script.iter().map(answer).collect()))
}

const NO_RUNS: Option<&str> = Some(r#"200||{"runs":[],"more":false}"#);

#[test]
fn a_request_without_an_answer_is_repeated_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.jsonl"), sales(1, 11)).unwrap();
    let script = vec![
        Some("503||{}"),
        NO_RUNS,
        None,
        Some("503|retry-after: 1\r\n|{}"),
        Some("429||{}"),
        Some("507||not even JSON"),
        Some(r#"500||{"type":"urn:millrace:problem:log-failed","detail":"it may be stored"}"#),
        Some(r#"503||{"type":"urn:millrace:problem:store-unusable","detail":"a table is missing"}"#),
        Some(r#"200||{"accepted":10,"refused":0,"lines":10}"#),
    ];
    let (address, server) = scripted(script);
    let command = |address: &str| {
        Command::new(env!("CARGO_BIN_EXE_millrace"))
            .current_dir(folder.path())
            .env_clear()
            .args(["send", "--json", "a.jsonl", "--stream", "revenue"])
            .args(["--url", &format!("http://{address}")])
            .output()
            .unwrap()
    };
    let begun = Instant::now();
    let output = command(&address);
    assert_eq!(
        (output.status.code(), &outcome(&output)["events"]),
        (Some(0), &10.into()),
        "{}",
        stderr(&output)
    );
    assert!(begun.elapsed() >= Duration::from_secs(1), "the sender ignored Retry-After");
    let requests = server.join().unwrap();
    assert!(requests[2].contains("millrace-first-line: 1\r\n") && requests[2].contains("millrace-upload: "));
    assert!(requests[3..].iter().all(|request| *request == requests[2]));

    let (address, server) = scripted(vec![NO_RUNS, Some(r#"400||{"detail":"what is this"}"#)]);
    let output = command(&address);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("what is this"), "{}", stderr(&output));
    assert_eq!(server.join().unwrap().len(), 2);
}
