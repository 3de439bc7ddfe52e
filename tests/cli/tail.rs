//! `millrace tail`.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::harness::TestApp;
use crate::running::Running;
use crate::{failed, lines_of_json, run, sell};

/// A stop waits up to 10 s for running requests. A waiting `tail` must not use up this time.
const STOP_DURATION_MAX: Duration = Duration::from_secs(5);

#[test]
fn events_are_printed_exactly_as_sent() {
    let app = TestApp::start();
    sell(&app, "user1", "999999999999999.9999");
    sell(&app, "user2", "1.50");
    let text = run(&app, &["tail", "revenue"]);
    let (first, second) = text.trim_end().split_once('\n').unwrap();
    let ending = r#"{"userId":"user1","name":"add_revenue","value":999999999999999.9999}"#;
    assert!(first.ends_with(ending) && first.contains("  0  "), "{first}");
    assert!(second.ends_with(r#""value":1.50}"#), "{second}");
    let positions = |arguments: &[&str]| -> Vec<u64> {
        let events = lines_of_json(&run(&app, arguments));
        events.iter().map(|event| event["position"].as_u64().unwrap()).collect()
    };
    assert_eq!(positions(&["tail", "revenue", "--json", "-n", "1"]), [1]);
    assert_eq!(positions(&["tail", "revenue", "--json", "--from", "0", "-n", "1"]), [0]);
    assert_eq!(positions(&["tail", "revenue", "--json", "--from", "0"]), [0, 1]);
    assert_eq!(positions(&["tail", "revenue", "--json", "--from", "2"]), [0; 0]);
    assert!(failed(&app, 5, &["tail", "sales"]).contains("`revenue`"));
}

#[test]
fn follow_prints_new_events_until_it_is_interrupted() {
    let app = TestApp::start();
    sell(&app, "before", "1");
    let mut tail = Running::start(&app, &["tail", "revenue", "--follow", "--json"]);
    tail.wait_for_text("\"before\"");
    sell(&app, "after", "2");
    tail.wait_for_text("\"after\"");
    tail.interrupt();
    assert_eq!(tail.exit_code(), Some(0));
}

#[test]
fn follow_stops_after_a_given_number_of_events() {
    let app = TestApp::start();
    let mut tail = Running::start(&app, &["tail", "revenue", "-f", "--from", "0", "-n", "2", "--json"]);
    sell(&app, "one", "1");
    sell(&app, "two", "2");
    assert_eq!(tail.exit_code(), Some(0));
    tail.wait_for_text("\"one\"");
    tail.wait_for_text("\"two\"");
}

#[test]
fn follow_does_not_delay_a_stop_and_continues_after_a_restart() {
    let mut app = TestApp::start();
    let address = app.address.clone();
    app.restart_with(|start| start.arguments = vec!["--listen".to_owned(), address]);
    sell(&app, "before", "1");
    let tail = Running::start(&app, &["tail", "revenue", "--follow"]);
    tail.wait_for_text("\"before\"");
    let asked = Instant::now();
    assert_eq!(app.stop(), Some(0));
    assert!(asked.elapsed() < STOP_DURATION_MAX, "the stop took {:?}", asked.elapsed());
    app.restart();
    sell(&app, "after", "2");
    tail.wait_for_text("\"after\"");
}

#[test]
fn follow_prints_each_event_once_in_order_although_the_server_is_killed() {
    let mut app = TestApp::start();
    let address = app.address.clone();
    app.restart_with(|start| start.arguments = vec!["--listen".to_owned(), address]);
    let tail = Running::start(&app, &["tail", "revenue", "-f", "--from", "0", "--json"]);
    let mut sent = Vec::new();
    for round in 1..=3 {
        for number in 0..5 {
            let user = format!("user-{round}-{number}");
            sell(&app, &user, "1");
            sent.push(user);
        }
        tail.wait_for_text(&format!("\"user-{round}-4\""));
        app.kill();
        tail.wait_for_notes(round, "; retrying");
        app.restart();
        // While the reader waits for its next attempt.
        sent.push(format!("away-{round}"));
        sell(&app, &format!("away-{round}"), "1");
        tail.wait_for_text(&format!("\"away-{round}\""));
    }
    let events = lines_of_json(&tail.stdout());
    let positions: Vec<u64> = events.iter().map(|event| event["position"].as_u64().unwrap()).collect();
    assert_eq!(positions, (0..sent.len() as u64).collect::<Vec<_>>());
    let users: Vec<&str> = events.iter().map(|event| event["event"]["userId"].as_str().unwrap()).collect();
    assert_eq!(users, sent);
}

#[test]
fn follow_marks_repeats_and_corrections() {
    let app = TestApp::start();
    let tail = Running::start(&app, &["tail", "revenue", "-f"]);
    let sale = r#"{"id":"sale-1","userId":"user1","name":"add_revenue","value":1}"#;
    for body in [sale, sale, r#"{"takesBack":"sale-1"}"#] {
        assert_eq!(app.client().post("/v1/streams/revenue/events?wait=applied", body).status, 200);
    }
    tail.wait_for_text("[repeat] ");
    tail.wait_for_text("[correction] ");
    assert_eq!(tail.stdout().lines().count(), 3, "{}", tail.stdout());
}

/// Answers as a server whose retention deletes events that the reader has not got.
fn answer_with_reset(stream: &mut TcpStream) {
    let (mut line, mut reader) = (String::new(), BufReader::new(stream.try_clone().unwrap()));
    reader.read_line(&mut line).unwrap();
    let mut header = String::new();
    while reader.read_line(&mut header).unwrap() > 2 {
        header.clear();
    }
    let event = |position: u64| {
        format!(r#"{{"position":{position},"receivedAt":"2025-11-01T10:00:00.000Z","event":{{}}}}"#)
    };
    let reset = "event: reset\nid: 9\ndata: {\"stream\":\"revenue\",\"reason\":\"deleted\"}\n\n";
    let (kind, body) = match line.split(' ').nth(1).unwrap() {
        path if path.contains("settled=true") => ("application/json", "{}".to_owned()),
        path if path.contains("/events?") => ("application/json", r#"{"events":[],"next":0}"#.to_owned()),
        path if path.ends_with("/live?from=0") => {
            ("text/event-stream", format!("id: 1\ndata: {}\n\n{reset}data: {}\n\n", event(0), event(9)))
        }
        path => {
            assert!(path.ends_with("/live?from=1"), "{path}");
            ("text/event-stream", format!("id: 6\ndata: {}\n\ndata: {}\n\n", event(5), event(6)))
        }
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
}

#[test]
fn follow_continues_with_the_oldest_event_if_others_were_deleted() {
    let app = TestApp::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        listener.incoming().for_each(|stream| answer_with_reset(&mut stream.unwrap()));
    });
    let arguments = ["tail", "revenue", "-f", "--from", "0", "-n", "2", "--json", "--url", &url];
    let mut tail = Running::start(&app, &arguments);
    assert_eq!(tail.exit_code(), Some(0));
    tail.wait_for_text("\"position\":5");
    let events = lines_of_json(&tail.stdout());
    assert_eq!(events.iter().map(|event| event["position"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 5]);
    tail.wait_for_notes(1, "retention has deleted events of stream `revenue`");
    tail.wait_for_notes(1, "they are not marked");
}

#[test]
fn follow_refuses_what_it_cannot_read() {
    let app = TestApp::start();
    assert!(failed(&app, 5, &["tail", "sales", "-f"]).contains("`revenue`"));
    assert!(failed(&app, 1, &["tail", "revenue", "-f", "--from", "5"]).contains("beyond the end of the log"));
    failed(&app, 4, &["tail", "revenue", "-f", "--key", "wrong"]);
    failed(&app, 3, &["tail", "revenue", "-f", "--url", "http://127.0.0.1:1"]);
}
