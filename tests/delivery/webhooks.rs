//! Webhooks: signed, retried with the same id and body, and never delayed by a receiver that hangs.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::json;

use crate::harness::python::verify_webhooks;
use crate::harness::receiver::{Behaviour, Receiver};
use crate::harness::{Start, StoreKind, TestApp, wait_for};
use crate::{STORES, config, notification, order, wait_for_status};

const SECRETS: [&str; 2] =
    ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"];

fn webhook(name: &str, url: &str, more: &str) -> String {
    format!("[destination.{name}]\nkind = \"webhook\"\nurl = \"{url}\"\nallow_private = true\n{more}\n")
}

fn start(config: &str, store_kind: StoreKind) -> TestApp {
    TestApp::with(Start { config: Some(config.to_owned()), store_kind: Some(store_kind), ..Start::default() })
}

#[test]
fn a_webhook_is_signed_and_repeated_with_the_same_id_and_body() {
    for store in STORES {
        let receiver = Receiver::start();
        receiver.behave("/flaky", Behaviour::FailTimes(2, 500));
        let secrets = format!("secrets = [\"{}\", \"{}\"]\nretry = [\"1s\", \"1s\"]", SECRETS[0], SECRETS[1]);
        let app =
            start(&config("[\"partner\"]", &webhook("partner", &receiver.url("/flaky"), &secrets)), store);
        let id = order(&app.client(), "a@b.example", "");
        let sent = wait_for_status(&app, &id, "SENT");
        let requests = receiver.wait_for(3, "attempts");
        let received = &sent["createdAt"];
        let body = format!(
            r#"{{"type":"paid","timestamp":{received},"data":{{"mail":"a@b.example","sort":"paid","sum":10.50}}}}"#
        );
        for request in &requests {
            assert_eq!((&request.method, &request.body), (&"POST".to_owned(), &body));
            assert_eq!(request.headers["webhook-id"], id);
        }
        let lines: Vec<_> = requests
            .iter()
            .flat_map(|request| {
                SECRETS.map(
                    |secret| json!({ "secret": secret, "headers": request.headers, "body": request.body }),
                )
            })
            .collect();
        assert_eq!(verify_webhooks(&lines), vec!["ok"; lines.len()]);
        let made = sent["deliveries"][0]["made"].as_array().unwrap();
        let outcomes: Vec<_> =
            made.iter().map(|one| (one["outcome"].as_str().unwrap(), one["status"].as_u64())).collect();
        assert_eq!(
            outcomes,
            [("failed", Some(500)), ("failed", Some(500)), ("sent", Some(200))],
            "{store:?}"
        );
        assert_eq!(sent["attempts"], 3);
    }
}

#[test]
fn a_receiver_that_hangs_delays_no_other() {
    let receiver = Receiver::start();
    receiver.behave("/hang", Behaviour::Hang);
    let sections = webhook("good", &receiver.url("/good"), "")
        + &webhook("stuck", &receiver.url("/hang"), "timeout = \"2s\"\nretry = []\nat_once = 2");
    let app = start(&config("[\"good\", \"stuck\"]", &sections), StoreKind::Sqlite);
    let client = app.client();
    let ids: Vec<String> =
        (0..50).map(|number| order(&client, &format!("u{number}@b.example"), "")).collect();
    let good = || receiver.requests().iter().filter(|request| request.path == "/good").count();
    wait_for("all good ones", || good() == 50);
    let stuck = receiver.requests().iter().filter(|request| request.path == "/hang").count();
    assert!(stuck <= 2, "{stuck} attempts at the receiver that hangs");
    let first = &ids[0];
    let dead = wait_for_status(&app, first, "FAILED_DLQ");
    let reason = dead["deliveries"][1]["made"][0]["error"].as_str().unwrap();
    assert!(reason.contains("did not answer within 2s"), "{reason}");
    receiver.behave("/hang", Behaviour::Answer(200));
}

#[test]
fn hosts_that_hang_delay_no_other_host_of_the_same_destination() {
    STORES.into_iter().for_each(hanging_hosts);
}

fn hanging_hosts(store: StoreKind) {
    let (good, stuck) = (Receiver::start(), Receiver::start());
    stuck.behave("/", Behaviour::Hang);
    // The system takes their connections, and nobody answers.
    let silent: Vec<TcpListener> = (0..100).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let section = webhook("hosts", "http://127.0.0.1:{{ event.port }}/", "timeout = \"60s\"");
    let mut app = start(&config("[\"hosts\"]", &section), store);
    let client = app.client();
    let ports = silent.iter().map(|silent| silent.local_addr().unwrap().port()).chain([stuck.port()]);
    let lines: String = ports
        .flat_map(|port| (0..10).map(move |_| format!("{{\"mail\":\"m\",\"sort\":\"s\",\"port\":{port}}}\n")))
        .collect();
    assert_eq!(client.post_lines("/v1/streams/orders/events", &lines).status, 200);
    wait_for("an attempt at the host that hangs", || stuck.count() > 0);
    for number in 0..30 {
        order(&client, &format!("good{number}@b.example"), &format!(r#","port":{}"#, good.port()));
    }
    wait_for("the notifications of the host that answers", || good.requests().len() == 30);
    assert!(stuck.count() <= 2, "{} attempts", stuck.count());
    stuck.behave("/", Behaviour::Answer(200));
    wait_for("the other host's notifications", || stuck.requests().len() >= 10);
    // A stop would wait for the attempts that hang.
    app.kill();
}

#[test]
fn answers_decide_what_follows() {
    let receiver = Receiver::start();
    let later = Behaviour::AnswerWith {
        status: 429,
        headers: vec![("Retry-After".to_owned(), "3".to_owned())],
        body: "later".to_owned(),
    };
    receiver.behave("/later", later);
    receiver.behave(
        "/moved",
        Behaviour::AnswerWith {
            status: 302,
            headers: vec![("Location".to_owned(), receiver.url("/elsewhere"))],
            body: String::new(),
        },
    );
    receiver.behave("/reset", Behaviour::Reset);
    receiver.behave("/endless", Behaviour::Endless);
    let short = "retry = []\ntimeout = \"2s\"";
    let sections = webhook("later", &receiver.url("/later"), "retry = [\"1s\"]")
        + &webhook("moved", &receiver.url("/moved"), short)
        + &webhook("reset", &receiver.url("/reset"), short)
        + &webhook("endless", &receiver.url("/endless"), short);
    let app = start(&config(r#"["later", "moved", "reset", "endless"]"#, &sections), StoreKind::Sqlite);
    let id = order(&app.client(), "a@b.example", "");
    let state = |name: &str| {
        let one = notification(&app, &id);
        let of = |delivery: &&serde_json::Value| delivery["destination"] == name;
        one["deliveries"].as_array().and_then(|list| list.iter().find(of).cloned()).unwrap_or_default()
    };
    for (name, end, text) in [
        ("moved", "dead-letter", "wants a redirect"),
        ("reset", "dead-letter", "closed the connection"),
        ("endless", "sent", ""),
    ] {
        wait_for(name, || state(name)["state"] == end);
        let error = state(name)["made"][0]["error"].as_str().unwrap_or_default().to_owned();
        assert!(error.contains(text), "{name}: {error}");
    }
    assert!(!receiver.requests().iter().any(|request| request.path == "/elsewhere"));
    let first = state("later");
    assert_eq!((&first["state"], &first["made"][0]["answer"]), (&json!("waiting"), &json!("later")));
    receiver.behave("/later", Behaviour::Answer(200));
    wait_for("the later one", || state("later")["state"] == "sent");
    let times: Vec<_> = receiver
        .requests()
        .iter()
        .filter(|request| request.path == "/later")
        .map(|request| request.at)
        .collect();
    assert!(times[1] - times[0] >= Duration::from_millis(2_900), "the receiver asked for 3 s");
}

#[test]
fn a_receiver_that_is_gone_pauses_its_destination_until_it_is_resumed() {
    let receiver = Receiver::start();
    receiver.behave("/gone", Behaviour::Answer(410));
    let section = webhook("gone", &receiver.url("/gone"), "retry = []");
    let mut app = start(&config("[\"gone\"]", &section), StoreKind::Sqlite);
    let id = order(&app.client(), "a@b.example", "");
    let paused = |app: &TestApp| {
        let list = app.client().get("/v1/destinations").json();
        let gone = list["destinations"].as_array().unwrap().iter().find(|one| one["name"] == "gone").cloned();
        gone.unwrap()
    };
    wait_for("the pause", || paused(&app)["state"] == "paused");
    assert!(paused(&app)["reason"].as_str().unwrap().contains("410"));
    app.restart();
    wait_for("the pause after a restart", || paused(&app)["state"] == "paused");
    assert_eq!(receiver.count(), 1);
    receiver.behave("/gone", Behaviour::Answer(200));
    assert_eq!(app.client().post("/v1/destinations/gone/resume", "").status, 200);
    wait_for_status(&app, &id, "SENT");
}
