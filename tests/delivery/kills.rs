//! The process dies between every two steps of a delivery. Afterwards each notification was delivered at least once, always
//! with the same id and body, and no retry was spent on a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::harness::mail_server::{MailServer, Tls};
use crate::harness::receiver::{Behaviour, Receiver};
use crate::harness::seed::{self, Seed};
use crate::harness::{Start, StoreKind, TestApp};
use crate::{STORES, config, notification, order, wait_for_status};

const FAILPOINTS: [&str; 6] = [
    "delivery.leasing",
    "delivery.leased",
    "delivery.sent",
    "delivery.attempted",
    "delivery.recording",
    "delivery.recorded",
];

fn killed_at(failpoint: &str, store_kind: StoreKind) {
    let receiver = Receiver::start();
    let url = receiver.url("/hook");
    let section = format!(
        "[destination.partner]\nkind = \"webhook\"\nurl = \"{url}\"\nallow_private = true\nretry = []\n"
    );
    let start = Start {
        config: Some(config("[\"partner\"]", &section)),
        store_kind: Some(store_kind),
        ..Start::default()
    };
    let mut app = TestApp::with(start);
    let client = app.client();
    assert_eq!(client.post("/v1/destinations/partner/pause", "{}").status, 200);
    let ids: Vec<String> = (0..5).map(|number| order(&client, &format!("u{number}@x.example"), "")).collect();
    app.settle();
    let variable = |value: String| vec![("MILLRACE_FAILPOINTS".to_owned(), value)];
    app.restart_with(|start| start.environment = variable(format!("{failpoint}=abort")));
    // The server may die before it has answered.
    drop(app.client().try_request("POST", "/v1/destinations/partner/resume", None));
    app.wait_for_exit();
    app.restart_with(|start| start.environment.clear());
    // The pause may be in the store still.
    assert_eq!(app.client().post("/v1/destinations/partner/resume", "").status, 200);
    for id in &ids {
        let sent = wait_for_status(&app, id, "SENT");
        let made = sent["deliveries"][0]["made"].as_array().unwrap();
        assert!(made.iter().all(|attempt| attempt["outcome"] != "failed"), "{failpoint}: {sent}");
        assert_eq!(
            made.iter().filter(|attempt| attempt["outcome"] == "sent").count(),
            1,
            "{failpoint}: {sent}"
        );
    }
    let mut bodies: BTreeMap<String, String> = BTreeMap::new();
    for request in receiver.requests() {
        let id = request.headers["webhook-id"].clone();
        let known = bodies.entry(id).or_insert_with(|| request.body.clone());
        assert_eq!(*known, request.body, "{failpoint}: each attempt has the same body");
    }
    assert!(bodies.keys().eq(ids.iter()), "{failpoint}: {bodies:?}");
}

#[test]
fn a_kill_between_any_two_steps_loses_nothing_and_spends_no_retry() {
    for store in STORES {
        for failpoint in FAILPOINTS {
            killed_at(failpoint, store);
        }
    }
}

/// Three destinations that accept everything in the end: one that fails twice, one that is slow, and a busy mail server.
/// Each has as many retries as it needs, so a kill that spent one would make a dead letter.
fn killed_at_random(store_kind: StoreKind, kills: u64) {
    let seed = Seed::new();
    let (receiver, mails) = (Receiver::start(), MailServer::start(Tls::None, None));
    receiver.behave("/flaky", Behaviour::FailTimes(2, 500));
    receiver.behave("/slow", Behaviour::Slow(Duration::from_millis(120)));
    let webhook = |name: &str, retry: &str| {
        let url = receiver.url(&format!("/{name}"));
        format!(
            "[destination.{name}]\nkind = \"webhook\"\nurl = \"{url}\"\nallow_private = true\nretry = {retry}\n"
        )
    };
    let mail = format!(
        "[destination.mail]\nkind = \"email\"\nhost = \"localhost\"\nport = {}\nencryption = \"none\"\nfrom = \"shop@x.example\"\nretry = [\"1s\"]\n",
        mails.port()
    );
    let sections = webhook("flaky", "[\"1s\", \"1s\"]") + &webhook("slow", "[]") + &mail;
    let mut app = TestApp::with(Start {
        config: Some(config("[\"flaky\", \"slow\", \"mail\"]", &sections)),
        store_kind: Some(store_kind),
        ..Start::default()
    });
    let mut ids = Vec::new();
    for round in 0..kills {
        for number in 0..10 {
            ids.push(order(&app.client(), &format!("busyonce{round}-{number}@x.example"), ""));
        }
        // The kill must come at a random moment, and not at a condition.
        let random = (seed.0 + round).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        std::thread::sleep(Duration::from_millis(random % 400));
        app.kill();
        app.restart();
    }
    for id in &ids {
        let sent = wait_for_status(&app, id, "SENT");
        for delivery in sent["deliveries"].as_array().unwrap() {
            let made = delivery["made"].as_array().unwrap();
            let count = |outcome: &str| made.iter().filter(|attempt| attempt["outcome"] == outcome).count();
            let failures_max = match delivery["destination"].as_str().unwrap() {
                "flaky" => 2,
                "mail" => 1,
                _ => 0,
            };
            assert!(count("failed") <= failures_max && count("sent") == 1, "{sent}");
        }
    }
    let mut bodies: BTreeMap<(String, String), String> = BTreeMap::new();
    for request in receiver.requests() {
        let key = (request.path.clone(), request.headers["webhook-id"].clone());
        let known = bodies.entry(key).or_insert_with(|| request.body.clone());
        assert_eq!(*known, request.body, "each attempt has the same body");
    }
    assert_eq!(bodies.len(), 2 * ids.len());
    let mailed: BTreeSet<String> = mails
        .mails()
        .iter()
        .map(|mail| {
            let raw = mail["raw"].as_str().unwrap();
            let (_, rest) = raw.split_once("Message-ID: <").unwrap();
            rest.split('@').next().unwrap().to_owned()
        })
        .collect();
    assert_eq!(mailed, ids.iter().cloned().collect());
}

#[test]
fn kills_at_random_moments_lose_nothing_and_spend_no_retry() {
    let kills = seed::number("MILLRACE_DELIVERY_KILLS").unwrap_or(5);
    for store in STORES {
        killed_at_random(store, kills);
    }
}

/// A person edits a dead letter, and the process dies before the decision is committed.
#[test]
fn a_kill_during_a_decision_leaves_the_dead_letter_open() {
    for store_kind in STORES {
        let receiver = Receiver::start();
        receiver.behave("/hook", Behaviour::Answer(500));
        let url = receiver.url("/hook");
        let section = format!(
            "[destination.partner]\nkind = \"webhook\"\nurl = \"{url}\"\nallow_private = true\nretry = []\n"
        );
        let mut app = TestApp::with(Start {
            config: Some(config("[\"partner\"]", &section)),
            store_kind: Some(store_kind),
            ..Start::default()
        });
        let id = order(&app.client(), "wrong@x.example", "");
        wait_for_status(&app, &id, "FAILED_DLQ");
        let letter = |app: &TestApp| app.client().get("/v1/dead-letters").json()["deadLetters"][0].clone();
        let path = format!("/v1/dead-letters/{}/retry", letter(&app)["id"].as_str().unwrap());
        let edited = br#"{"mail":"right@x.example","sort":"paid"}"#;
        app.restart_with(|start| {
            start.environment =
                vec![("MILLRACE_FAILPOINTS".to_owned(), "delivery.deciding=abort".to_owned())];
        });
        drop(app.client().try_request("POST", &path, Some(("application/json", edited))));
        app.wait_for_exit();
        receiver.behave("/hook", Behaviour::Answer(200));
        app.restart_with(|start| start.environment.clear());
        assert_eq!(letter(&app)["status"], "open");
        assert!(notification(&app, &format!("{id}-edit-1")).is_null());
        assert_eq!(app.client().post(&path, std::str::from_utf8(edited).unwrap()).status, 200);
        wait_for_status(&app, &format!("{id}-edit-1"), "SENT");
        assert_eq!((letter(&app)["status"].as_str(), receiver.count()), (Some("dropped"), 2));
    }
}
