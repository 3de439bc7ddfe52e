//! Notifications that could not be sent: listed with every attempt, sent again, edited, or dropped.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::receiver::{Behaviour, Receiver};
use crate::harness::{Start, TestApp, wait_for};
use crate::{STORES, config, notification, order, wait_for_status};

fn partner(receiver: &Receiver) -> String {
    let url = receiver.url("/hook");
    config(
        "[\"partner\"]",
        &format!(
            "[destination.partner]\nkind = \"webhook\"\nurl = \"{url}\"\nallow_private = true\nretry = []\nbody = '{{\"to\":{{{{ recipient }}}}}}'\n"
        ),
    )
}

fn letters(app: &TestApp, query: &str) -> Vec<Value> {
    let answer = app.client().get(&format!("/v1/dead-letters{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["deadLetters"].as_array().unwrap().clone()
}

#[test]
fn a_dead_notification_is_shown_sent_again_edited_or_dropped() {
    for store_kind in STORES {
        let receiver = Receiver::start();
        receiver.behave("/hook", Behaviour::Answer(500));
        let config = Some(partner(&receiver));
        let app = TestApp::with(Start { config, store_kind: Some(store_kind), ..Start::default() });
        let client = app.client();
        let ids: Vec<String> =
            ["again", "edit", "drop"].map(|mail| order(&client, &format!("{mail}@x.example"), "")).into();
        ids.iter().for_each(|id| drop(wait_for_status(&app, id, "FAILED_DLQ")));
        assert_eq!(letters(&app, "?status=open&destination=partner").len(), 3);
        assert!(letters(&app, "?destination=other").is_empty());
        let letter = |id: &str| letters(&app, "").into_iter().find(|one| one["notification"] == id).unwrap();
        let path = |id: &str| format!("/v1/dead-letters/{}", letter(id)["id"].as_str().unwrap());

        let shown = client.get(&path(&ids[0])).json();
        assert_eq!((&shown["status"], &shown["stream"]), (&json!("open"), &json!("orders")));
        assert_eq!(shown["event"]["mail"], "again@x.example");
        assert_eq!(shown["content"]["body"], r#"{"to":"again@x.example"}"#);
        assert_eq!(shown["deliveries"][0]["made"][0]["status"], 500);

        // Failing again reopens the letter; later it is sent.
        assert_eq!(client.post(&format!("{}/retry", path(&ids[0])), "").status, 200);
        wait_for("the second failure", || {
            letter(&ids[0])["attempts"] == 2 && letter(&ids[0])["status"] == "open"
        });
        receiver.behave("/hook", Behaviour::Answer(200));
        assert_eq!(client.post(&format!("{}/retry", path(&ids[0])), "").status, 200);
        let sent = wait_for_status(&app, &ids[0], "SENT");
        assert_eq!(sent["deliveries"][0]["made"].as_array().unwrap().len(), 3);
        wait_for("the letter", || letter(&ids[0])["status"] == "sent");

        let edited = r#"{"mail":"right@x.example","sort":"paid"}"#;
        let dry = client.post(&format!("{}/retry?dryRun=true", path(&ids[1])), edited).json();
        let new_id = format!("{}-edit-1", ids[1]);
        assert_eq!(
            dry["would"],
            json!({ "as": new_id, "send": { "kind": "webhook", "body": r#"{"to":"right@x.example"}"# } })
        );
        assert_eq!(notification(&app, &new_id), Value::Null, "a dry run changes nothing");
        let invalid = client.post(&format!("{}/retry", path(&ids[1])), r#"{"sort":"paid"}"#);
        assert_eq!(invalid.status, 400, "{}", invalid.text());
        assert_eq!(client.post(&format!("{}/retry", path(&ids[1])), edited).status, 200);
        let sent = wait_for_status(&app, &new_id, "SENT");
        assert_eq!(sent["recipient"], "right@x.example");
        let last = receiver.requests().pop().unwrap();
        assert_eq!(
            (last.headers["webhook-id"].as_str(), last.body.as_str()),
            (new_id.as_str(), r#"{"to":"right@x.example"}"#)
        );
        let old = letter(&ids[1]);
        assert_eq!(
            (&old["status"], &old["note"]),
            (&json!("dropped"), &json!(format!("edited, and sent as {new_id}")))
        );

        let dropped =
            client.post(&format!("{}/drop", path(&ids[2])), r#"{"reason":"left the company"}"#).json();
        assert_eq!((&dropped["status"], &dropped["note"]), (&json!("dropped"), &json!("left the company")));
        assert_eq!(notification(&app, &ids[2])["status"], "FAILED_DLQ");
        assert_eq!(client.post(&format!("{}/retry", path(&ids[2])), "").status, 409);
        assert_eq!(receiver.requests().iter().filter(|one| one.headers["webhook-id"] == ids[2]).count(), 1);
        assert!(letters(&app, "?status=open").is_empty());
    }
}

/// Sends the event of each dead letter as it is and edited, at the same moment.
#[test]
fn of_two_decisions_at_the_same_moment_one_counts() {
    for store_kind in STORES {
        let receiver = Receiver::start();
        receiver.behave("/hook", Behaviour::Answer(500));
        let config = Some(partner(&receiver));
        let app = TestApp::with(Start { config, store_kind: Some(store_kind), ..Start::default() });
        let ids: Vec<String> =
            (0..20).map(|number| order(&app.client(), &format!("u{number}@x.example"), "")).collect();
        ids.iter().for_each(|id| drop(wait_for_status(&app, id, "FAILED_DLQ")));
        receiver.behave("/hook", Behaviour::Answer(200));
        let paths: Vec<String> = letters(&app, "?status=open")
            .iter()
            .map(|letter| format!("/v1/dead-letters/{}/retry", letter["id"].as_str().unwrap()))
            .collect();
        assert_eq!(paths.len(), 20);
        for path in &paths {
            let post = |body: &'static str| {
                let (client, path) = (app.client(), path.clone());
                move || client.post(&path, body).status
            };
            let edited = r#"{"mail":"right@x.example","sort":"paid"}"#;
            let mut statuses = std::thread::scope(|scope| {
                let [one, other] = [scope.spawn(post("")), scope.spawn(post(edited))];
                [one.join().unwrap(), other.join().unwrap()]
            });
            statuses.sort_unstable();
            assert_eq!(statuses, [200, 409]);
        }
        let is_decided = |letter: &Value| letter["status"] == "sent" || letter["status"] == "dropped";
        wait_for("all decisions", || letters(&app, "").iter().all(is_decided));
        let edited = letters(&app, "?status=dropped").len();
        for letter in letters(&app, "?status=dropped") {
            let id = format!("{}-edit-1", letter["notification"].as_str().unwrap());
            wait_for_status(&app, &id, "SENT");
        }
        let sent = receiver.requests().split_off(20);
        let ids: BTreeSet<&String> = sent.iter().map(|request| &request.headers["webhook-id"]).collect();
        assert_eq!(
            (sent.len(), ids.len()),
            (20, 20),
            "each is sent once, as it is or edited: {edited} edited"
        );
    }
}

#[test]
fn a_receipt_and_the_commands_show_every_attempt() {
    let receiver = Receiver::start();
    receiver.behave("/hook", Behaviour::Answer(503));
    let app = TestApp::configured(&partner(&receiver));
    let id = order(&app.client(), "a@x.example", "");
    wait_for_status(&app, &id, "FAILED_DLQ");
    let event = id.trim_start_matches("notif-");
    let receipt = app.client().get(&format!("/v1/events/{event}")).json();
    assert_eq!(receipt["views"]["mails"]["state"], "applied", "{receipt}");
    assert_eq!(receipt["notifications"][0]["deliveries"][0]["state"], "dead-letter", "{receipt}");
    let run = |arguments: &[&str]| {
        let output = app.command(arguments);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for arguments in [
        &["event", "show", event][..],
        &["notification", "show", "--view", "mails", &id],
        &["dead-letter", "show", letters(&app, "")[0]["id"].as_str().unwrap()],
    ] {
        let (code, text) = run(arguments);
        assert_eq!(code, Some(0), "{arguments:?}");
        assert!(text.contains("failed 503: answered 503 Service Unavailable"), "{arguments:?}: {text}");
    }
    let (_, listed) = run(&["destination", "list"]);
    assert!(listed.contains("partner") && listed.contains("has failed 1 time in a row"), "{listed}");
    std::fs::write(app.folder.path().join("event.json"), r#"{"mail":"b@x.example","sort":"paid"}"#).unwrap();
    let (_, rendered) = run(&["notification", "render", "mails", "event.json"]);
    assert_eq!(rendered, "== partner\nbody: {\"to\":\"b@x.example\"}\n");
}

#[test]
fn an_erased_person_leaves_nothing_in_deliveries() {
    let receiver = Receiver::start();
    receiver.behave("/hook", Behaviour::Answer(500));
    let app = TestApp::configured(&partner(&receiver));
    let (dead, kept) = (order(&app.client(), "ann@x.example", ""), order(&app.client(), "bob@x.example", ""));
    wait_for_status(&app, &dead, "FAILED_DLQ");
    wait_for_status(&app, &kept, "FAILED_DLQ");
    let letter = letters(&app, "").into_iter().find(|one| one["notification"] == dead).unwrap();
    let retry = format!("/v1/dead-letters/{}/retry", letter["id"].as_str().unwrap());
    let edited = app.client().post(&retry, r#"{"mail":"ann@x.example","sort":"other"}"#);
    assert_eq!(edited.status, 200, "{}", edited.text());
    let edited = format!("{dead}-edit-1");
    wait_for_status(&app, &edited, "FAILED_DLQ");
    let erased = app.client().post("/v1/streams/orders/erasures", r#"{"value":"ann@x.example"}"#);
    assert_eq!(erased.status, 200, "{}", erased.text());
    for id in [&dead, &edited] {
        wait_for("the notification to be gone", || notification(&app, id) == Value::Null);
    }
    for table in ["millrace_deliveries", "millrace_delivery_contents", "millrace_attempts"] {
        let of_ann = format!("notification IN ('{dead}', '{edited}')");
        let count = app.sql(&format!("SELECT COUNT(*) FROM {table} WHERE {of_ann}"));
        assert_eq!(count, "0", "{table}");
    }
    assert!(!letters(&app, "").iter().any(|letter| letter.to_string().contains("ann@x.example")));
}
