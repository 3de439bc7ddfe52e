//! Live: the events of a stream, one by one and in order, also for readers that come again.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::event_stream::EventStream;
use crate::harness::{Client, TestApp, wait_for};

const EVENTS: &str = "/v1/streams/revenue/events";
const LIVE: &str = "/v1/streams/revenue/live";

fn send(client: &Client, user: &str, value: u64) -> String {
    let body = json!({ "userId": user, "name": "add_revenue", "value": value }).to_string();
    let answer = client.post(EVENTS, &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["eventId"].as_str().unwrap().to_owned()
}

fn values(events: &[Value]) -> Vec<u64> {
    events.iter().map(|event| event["event"]["value"].as_u64().unwrap()).collect()
}

fn take(stream: &mut EventStream, count: usize) -> Vec<Value> {
    (0..count).map(|_| stream.change()).collect()
}

#[test]
fn a_reader_gets_each_event_as_it_comes_and_only_those_of_its_stream() {
    let app = TestApp::start();
    let client = app.client();
    send(&client, "ann", 1);
    let mut stream = EventStream::open(&client, LIVE);
    stream.wait_for_place();
    client.post("/event", r#"{"site_id":"s","event_type":"page_view"}"#);
    let id = send(&client, "ann", 2);
    let event = stream.change();
    assert_eq!(
        (&event["id"], &event["stream"], &event["position"]),
        (&json!(id), &json!("revenue"), &json!(2))
    );
    let listed = client.get(&format!("{EVENTS}?from=2")).json();
    assert_eq!(event, listed["events"][0]);
    // The text of an event is sent as it came, over several lines.
    let text = "{\n  \"userId\": \"ann\",\r\n  \"name\": \"add_revenue\", \"value\": 3.50\n}";
    assert_eq!(client.post(EVENTS, text).status, 200);
    let data = stream.next().unwrap().data;
    assert!(data.contains("\"value\": 3.50\n}"), "{data}");
}

#[test]
fn a_reader_begins_where_it_says_and_selects_by_a_field() {
    let app = TestApp::start();
    let client = app.client();
    for value in 0..10 {
        send(&client, if value % 2 == 0 { "ann" } else { "bob" }, value);
    }
    let mut from = EventStream::open(&client, &format!("{LIVE}?from=7"));
    assert_eq!(values(&take(&mut from, 3)), [7, 8, 9]);
    let mut ann = EventStream::open(&client, &format!("{LIVE}?from=0&value=ann"));
    assert_eq!(values(&take(&mut ann, 5)), [0, 2, 4, 6, 8]);
    send(&client, "bob", 10);
    send(&client, "ann", 11);
    assert_eq!(values(&take(&mut ann, 1)), [11]);
    assert_eq!(values(&take(&mut from, 2)), [10, 11]);
    for (query, name) in [
        ("from=x", "from"),
        ("from=99", "from"),
        ("field=value&value=1", "field"),
        ("field=userId", "value"),
        ("key=a", "key"),
    ] {
        let answer = client.get(&format!("{LIVE}?{query}"));
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.json()["detail"].as_str().unwrap().starts_with(name), "{}", answer.text());
    }
    assert_eq!(client.get("/v1/streams/nothing/live").status, 404);
    assert_eq!(client.get(&format!("{LIVE}?after=nonsense")).status, 400);
}

#[test]
fn a_reader_that_comes_again_misses_nothing_although_the_server_is_killed() {
    let mut app = TestApp::start();
    let mut stream = EventStream::open(&app.client(), LIVE);
    let mut place = stream.wait_for_place();
    let (mut sent, mut seen) = (0, Vec::new());
    for round in 0..4 {
        for _ in 0..5 {
            send(&app.client(), "ann", sent);
            sent += 1;
        }
        // It has read some of them, or none, when the server goes.
        seen.extend(values(&take(&mut stream, round)));
        place = if round == 0 { place } else { stream.id.clone() };
        if round % 2 == 0 {
            app.kill();
        }
        app.restart();
        let header = app.client().with_header("Last-Event-ID", &place);
        stream = EventStream::open(&header, LIVE);
    }
    seen.extend(values(&take(&mut stream, sent as usize - seen.len())));
    assert_eq!(seen, (0..sent).collect::<Vec<_>>());
}

#[test]
fn corrections_and_erased_events_are_shown_as_what_they_are() {
    let app = TestApp::start();
    let client = app.client();
    let mut stream = EventStream::open(&client, &format!("{LIVE}?from=0"));
    let id = send(&client, "ann", 1);
    let body = json!({ "takesBack": id, "reason": "mistake" }).to_string();
    assert_eq!(client.post(EVENTS, &body).status, 200);
    stream.change();
    let correction = stream.change();
    assert_eq!((&correction["takesBack"], &correction["event"]["reason"]), (&json!(id), &json!("mistake")));
    assert_eq!(client.post("/v1/streams/revenue/erasures", r#"{"value":"ann"}"#).status, 200);
    wait_for("the erasure", || client.get(&format!("{EVENTS}?from=0")).json()["events"][0]["erased"] == true);
    let mut late = EventStream::open(&client, &format!("{LIVE}?from=0"));
    let erased = late.change();
    assert_eq!((&erased["erased"], &erased["event"]), (&json!(true), &Value::Null));
}

#[test]
fn the_place_of_another_log_starts_a_reader_afresh_at_the_end() {
    let app = TestApp::start();
    let client = app.client();
    send(&client, "ann", 1);
    let mut stream = EventStream::open(&client, &format!("{LIVE}?from=0"));
    stream.change();
    let beyond = stream.id.rsplit_once('.').map(|(log, _)| format!("{log}.99")).unwrap();
    for place in [format!("0.{}.0", "07".repeat(16)), beyond, "0".to_owned()] {
        let mut other = EventStream::open(&client, &format!("{LIVE}?after={place}"));
        assert_eq!(other.named("reset"), json!({ "stream": "revenue", "reason": "other-log" }), "{place}");
        send(&client, "ann", 2);
        assert_eq!(values(&take(&mut other, 1)), [2]);
    }
}

#[test]
fn a_place_moves_on_although_only_other_streams_have_events() {
    let app = TestApp::start();
    let client = app.client();
    let mut stream = EventStream::open(&client, LIVE);
    let first = stream.wait_for_place();
    for _ in 0..3 {
        client.post("/event", r#"{"site_id":"s","event_type":"page_view"}"#);
    }
    wait_for("a later place", || {
        assert!(stream.read(Duration::from_millis(200)).is_err(), "there is no event of this stream");
        stream.id != first
    });
    assert!(stream.id.ends_with(".3"), "{}", stream.id);
}

/// Sends lines until `until` events are in the log.
fn fill(client: &Client, events: usize) {
    let line = |number: usize| format!("{{\"userId\":\"u\",\"name\":\"add_revenue\",\"value\":{number}}}\n");
    for chunk in (0..events).collect::<Vec<_>>().chunks(10_000) {
        let lines: String = chunk.iter().map(|number| line(*number)).collect();
        let answer = client.post_lines(EVENTS, &lines);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[test]
fn a_reader_that_does_not_read_holds_nothing_up_and_learns_what_it_has_missed() {
    const EVENTS_SENT: usize = 250_000;
    let app = TestApp::start();
    let client = app.client();
    let mut slow = EventStream::open(&client, LIVE);
    slow.wait_for_place();
    fill(&client, EVENTS_SENT);
    // Others get the next event, although this reader has not read.
    let mut other = EventStream::open(&client, LIVE);
    other.wait_for_place();
    send(&client, "ann", 7);
    assert_eq!(other.change()["event"]["userId"], "ann");
    let (mut next, mut missed) = (0, 0);
    loop {
        let event = slow.next().unwrap();
        let content = event.json();
        if event.name == "missed" {
            // The missed events can still be read.
            let after = content["after"].as_str().unwrap();
            let mut rest = EventStream::open(&client, &format!("{LIVE}?after={after}"));
            assert_eq!(rest.change()["position"], next);
            missed = content["positions"].as_u64().unwrap();
            next += missed;
            // It continues with what comes next.
            send(&client, "ann", 8);
            continue;
        }
        assert_eq!((event.name.as_str(), &content["position"]), ("", &json!(next)));
        next += 1;
        if content["event"]["value"] == 8 && content["event"]["userId"] == "ann" {
            break;
        }
    }
    assert_eq!(next, EVENTS_SENT as u64 + 2);
    assert!(missed > 100_000, "{missed}");
}

#[test]
fn a_reader_of_old_events_gets_all_of_them_however_many_there_are() {
    const EVENTS_SENT: usize = 150_000;
    let app = TestApp::start();
    let client = app.client();
    fill(&client, EVENTS_SENT);
    let mut stream = EventStream::open(&client, &format!("{LIVE}?from=0"));
    for number in 0..EVENTS_SENT {
        assert_eq!(stream.change()["event"]["value"], number);
    }
}

#[test]
fn a_reader_that_has_missed_events_learns_it_although_no_further_event_comes() {
    const EVENTS_SENT: usize = 250_000;
    let app = TestApp::start();
    let client = app.client();
    let mut slow = EventStream::open(&client, LIVE);
    slow.wait_for_place();
    fill(&client, EVENTS_SENT);
    let mut next = 0;
    while next < EVENTS_SENT as u64 {
        let event = slow.next().unwrap();
        let content = event.json();
        if event.name == "missed" {
            next += content["positions"].as_u64().unwrap();
        } else {
            assert_eq!((event.name.as_str(), &content["position"]), ("", &json!(next)));
            next += 1;
        }
    }
    assert_eq!(next, EVENTS_SENT as u64);
}

#[test]
fn readers_of_old_events_that_do_not_read_keep_no_other_reader_waiting() {
    const EVENTS_SENT: usize = 100_000;
    let mut app = TestApp::start();
    let client = app.client();
    fill(&client, EVENTS_SENT);
    let path = format!("{LIVE}?from=0");
    let stalled: Vec<EventStream> = (0..20).map(|_| EventStream::open(&client, &path)).collect();
    let mut reader = EventStream::open(&client, &path);
    for number in 0..EVENTS_SENT {
        assert_eq!(reader.change()["event"]["value"], number);
    }
    // They do not delay a stop either.
    assert_eq!(app.stop(), Some(0));
    assert!(app.log_line("some sockets did not close in time; their connections are cut").is_none());
    drop(stalled);
}

#[test]
fn a_reader_of_one_value_gets_the_corrections_of_its_events_and_no_others() {
    let app = TestApp::start();
    let client = app.client();
    let ids = ["ann", "bob"].map(|user| send(&client, user, 1));
    let mut live = EventStream::open(&client, &format!("{LIVE}?value=ann"));
    live.wait_for_place();
    for id in &ids {
        let body = json!({ "takesBack": id, "reason": "mistake" }).to_string();
        assert_eq!(client.post(EVENTS, &body).status, 200);
    }
    send(&client, "ann", 2);
    let mut late = EventStream::open(&client, &format!("{LIVE}?value=ann&from=1"));
    for stream in [&mut live, &mut late] {
        assert_eq!(stream.change()["takesBack"], json!(ids[0]));
        assert_eq!(values(&take(stream, 1)), [2]);
    }
}

#[test]
fn a_place_moves_on_although_no_event_is_selected() {
    let app = TestApp::start();
    let client = app.client();
    let mut stream = EventStream::open(&client, &format!("{LIVE}?value=rare"));
    let first = stream.wait_for_place();
    wait_for("a later place", || {
        send(&client, "ann", 1);
        assert!(stream.read(Duration::from_millis(200)).is_err(), "no event is selected");
        stream.id != first
    });
}
