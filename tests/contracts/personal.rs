//! A person's data: it can be listed, exported, and erased from views, dead letters and the bytes of the log.
//! A record of each erasure stays.

use serde_json::{Value, json};

use crate::harness::{Client, Start, TestApp, occurs, wait_for};

const APPLIED: &str = "/v1/streams/revenue/events?wait=applied";

fn send(client: &Client, user: &str, value: &str) -> String {
    let body = format!(r#"{{"userId":"{user}","name":"add_revenue","value":{value},"note":"about {user}"}}"#);
    let answer = client.post(APPLIED, &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["eventId"].as_str().unwrap().to_owned()
}

fn erase(client: &Client, user: &str) -> Value {
    let answer = client.post("/v1/streams/revenue/erasures", &json!({ "value": user }).to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[test]
fn all_events_of_one_person_are_listed_in_order_and_no_others() {
    let app = TestApp::start();
    let client = app.client();
    for number in 0..30 {
        send(&client, if number % 3 == 0 { "ann" } else { "bob" }, &number.to_string());
    }
    let output = app.command(&["person", "export", "revenue", "ann"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let values: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["event"]["value"].clone())
        .collect();
    assert_eq!(json!(values), json!([0, 3, 6, 9, 12, 15, 18, 21, 24, 27]));
    let page = client.get("/v1/streams/revenue/events?value=ann&limit=2&from=3").json();
    assert_eq!(page["events"].as_array().unwrap().len(), 2, "{page}");
    assert_eq!(
        client.get("/v1/streams/revenue/events?value=ann&field=value").status,
        400,
        "`value` does not identify a person"
    );
    assert_eq!(client.get("/v1/streams/revenue/events?field=userId").status, 400, "a field needs a value");
}

#[test]
fn an_erasure_removes_one_person_everywhere_and_changes_nobody_else() {
    let mut app = TestApp::start();
    let client = app.client();
    let person = "someone@example.com";
    let ids: Vec<String> = (1..=5).map(|value| send(&client, person, &value.to_string())).collect();
    send(&client, "other", "7.5");
    let corrected = client
        .post(APPLIED, &json!({ "takesBack": ids[0], "reason": format!("{person} said so") }).to_string());
    assert_eq!(corrected.status, 200);
    let hinted = app.command(&["person", "erase", "revenue", person]);
    assert!(String::from_utf8_lossy(&hinted.stdout).starts_with("5 events would be erased"), "{hinted:?}");

    let record = erase(&client, person);
    assert_eq!((&record["events"], record["doneAt"].is_string()), (&json!(5), true), "{record}");
    assert!(!record.to_string().contains(person), "the record does not contain the person's key");
    assert_eq!(app.balance(person), None, "the row is deleted");
    assert_eq!(app.balance("other").as_deref(), Some("7.5"));
    let receipt = client.get(&format!("/v1/events/{}", ids[1])).json();
    assert_eq!((&receipt["erased"], &receipt["event"]), (&json!(true), &Value::Null), "{receipt}");
    assert_eq!(client.get(&format!("/v1/streams/revenue/events?value={person}")).json()["events"], json!([]));
    assert!(!occurs(&app.data(), person), "bytes of the person are left in the data folder");
    assert!(occurs(&app.data(), "about other"), "bytes of another person are missing");

    app.restart();
    let client = app.client();
    assert_eq!(app.balance("other").as_deref(), Some("7.5"));
    assert_eq!(client.post("/v1/views/revenue/reconcile", "").json()["differenceCount"], 0);
    assert_eq!(client.post("/v1/views/revenue/rebuild", "").json()["differenceCount"], 0);
    assert_eq!(client.get("/v1/erasures").json()["erasures"].as_array().unwrap().len(), 1);
    // A person who comes back starts with an empty balance.
    send(&client, person, "2");
    assert_eq!(app.balance(person).as_deref(), Some("2"));
}

#[test]
fn an_erasure_covers_dead_letters_earlier_rows_and_other_fields() {
    let app = TestApp::start();
    let client = app.client();
    let before = "CREATE TABLE users_revenue (user_id {key} PRIMARY KEY, revenue {amount} NOT NULL); \
                  INSERT INTO users_revenue VALUES ('ann', '100'), ('bob', '1')";
    app.sql(before);
    send(&client, "ann", "5");
    app.stored.refuse("users_revenue", "user_id", "ann");
    send(&client, "ann", "6");
    app.stored.stop_refusing("users_revenue");
    assert_eq!(client.get("/v1/dead-letters?status=open").json()["deadLetters"].as_array().unwrap().len(), 1);
    assert_eq!(erase(&client, "ann")["events"], 2);
    assert_eq!((app.balance("ann"), app.balance("bob").as_deref()), (None, Some("1")));
    assert_eq!(client.get("/v1/dead-letters?status=open").json()["deadLetters"], json!([]));
    assert!(!occurs(&app.data(), "about ann"));

    let visit = json!({ "site_id": "shop", "event_type": "page_view", "user_id": "ann" }).to_string();
    assert_eq!(client.post("/v1/streams/site_events/events?wait=applied", &visit).status, 200);
    let asked = json!({ "value": "ann", "field": "user_id" }).to_string();
    let answer = client.post("/v1/streams/site_events/erasures", &asked);
    assert_eq!((answer.status, &answer.json()["events"]), (200, &json!(1)), "{}", answer.text());
    let asked = json!({ "value": "ann", "field": "nothing" }).to_string();
    assert_eq!(client.post("/v1/streams/site_events/erasures", &asked).status, 400);
    assert_eq!(app.anonymous().post("/v1/streams/revenue/erasures", &asked).status, 401);
}

/// The failpoint delays the erasure after its search of the log, so that the retry comes in between.
#[test]
fn a_dead_letter_retried_during_an_erasure_is_erased_with_its_reason() {
    let environment = vec![("MILLRACE_FAILPOINTS".to_owned(), "erasure.noted=sleep:3000".to_owned())];
    let app = TestApp::with(Start { environment, ..Start::default() });
    let client = app.client();
    let person = "someone@example.com";
    app.sql("CREATE TABLE users_revenue (user_id {key} PRIMARY KEY, revenue {amount} NOT NULL)");
    app.stored.refuse("users_revenue", "user_id", person);
    send(&client, person, "5");
    let dead_letters = client.get("/v1/dead-letters?status=open").json();
    let dead_letter = &dead_letters["deadLetters"][0];
    // Also if a trigger writes the value into its message.
    assert!(!dead_letter["reason"].as_str().unwrap().contains(person), "{dead_letter}");
    std::thread::scope(|scope| {
        let erased = scope.spawn(|| erase(&client, person));
        let noted = "SELECT count(*) FROM millrace_erasures";
        wait_for("the erasure", || app.sql(noted) == "1");
        app.stored.stop_refusing("users_revenue");
        let retry = format!("/v1/dead-letters/{}/retry", dead_letter["id"].as_str().unwrap());
        let retried = app.client().post(&retry, "");
        assert_eq!(retried.status, 200, "{}", retried.text());
        assert_eq!(erased.join().unwrap()["events"], 1);
    });
    app.settle();
    assert_eq!(app.balance(person), None);
    assert!(!occurs(&app.data(), person), "bytes of the person are left in the data folder");
}

#[test]
fn an_erasure_interrupted_at_its_last_step_deletes_no_other_row() {
    let mut app = TestApp::start();
    let before = "CREATE TABLE users_revenue (user_id {key} PRIMARY KEY, revenue {amount} NOT NULL); \
                  INSERT INTO users_revenue VALUES ('', '7')";
    app.sql(before);
    send(&app.client(), "ann", "5");
    erase(&app.client(), "ann");
    app.stop();
    // Undo only the last step, as if the server had been killed before it.
    app.sql("UPDATE millrace_erasures SET done = NULL");
    app.restart();
    let done = || app.client().get("/v1/erasures").json()["erasures"][0]["doneAt"].is_string();
    wait_for("the erasure to end", done);
    let row = "SELECT revenue FROM users_revenue WHERE user_id = ''";
    assert!(["7", "7.0000"].contains(&app.sql(row).as_str()));
}

/// A plain hash of an e-mail address could be found by hashing many addresses.
#[test]
fn an_erasure_record_has_a_hash_that_only_this_server_can_compare() {
    let mut app = TestApp::start();
    let person = "someone@example.com";
    // The SHA-256 of other@example.com.
    let plain = "5b71ed5f946240dc76f3b7c24bdcbbc3528284ec5f4519249fb702686f0df5b8";
    send(&app.client(), person, "5");
    let hash = |record: &Value| record["valueHash"].as_str().unwrap().to_owned();
    let first = hash(&erase(&app.client(), person));
    assert!(first.starts_with("hmac-sha256:") && first.len() == 76, "{first}");
    assert_eq!(hash(&erase(&app.client(), person)), first);
    let other = hash(&erase(&app.client(), "other@example.com"));
    assert_ne!(other, first);
    let found = |app: &TestApp, value: &str| {
        let found = app.client().get(&format!("/v1/erasures?value={value}")).json();
        found["erasures"].as_array().unwrap().len()
    };
    assert_eq!((found(&app, person), found(&app, "nobody")), (2, 0));
    let elsewhere = TestApp::start();
    assert_ne!(hash(&erase(&elsewhere.client(), person)), first, "each data folder has its own key");

    // A record of an earlier version has a plain hash, which is replaced at the start.
    app.stop();
    app.sql(&format!("UPDATE millrace_erasures SET value_hash = '{plain}' WHERE value_hash = '{other}'"));
    app.restart();
    let hashes = "SELECT count(*) FROM millrace_erasures WHERE value_hash LIKE 'hmac-sha256:%'";
    wait_for("keyed hashes", || app.sql(hashes) == "3");
    wait_for("the old hash to be scrubbed", || !occurs(&app.data(), plain));
    assert_eq!((found(&app, person), found(&app, "other@example.com")), (2, 1));
}

/// An erasure that is recorded does not need the key of the records.
#[test]
fn an_erasure_ends_although_the_key_of_the_records_is_damaged() {
    let mut app = TestApp::start();
    send(&app.client(), "ann", "5");
    erase(&app.client(), "ann");
    let key = app.data().join("erasure-key");
    let sound = std::fs::read(&key).unwrap();
    app.stop();
    // The record has the plain hash of an earlier version, and its last step is not done.
    app.sql("UPDATE millrace_erasures SET done = NULL, value_hash = 'of an earlier version'");
    std::fs::write(&key, "damaged").unwrap();
    app.restart();
    let record = || app.client().get("/v1/erasures").json()["erasures"][0].clone();
    wait_for("the erasure to end", || record()["doneAt"].is_string());
    let failed = "erasures or their records could not be completed; this will be tried again";
    wait_for("the damage to be logged", || app.log_line(failed).is_some());
    assert_eq!(app.sql("SELECT count(*) FROM millrace_erasures WHERE value_hash LIKE 'hmac-sha256:%'"), "0");
    std::fs::write(&key, sound).unwrap();
    wait_for("the keyed hash", || record()["valueHash"].as_str().unwrap().starts_with("hmac-sha256:"));
}

#[test]
fn a_missing_key_of_earlier_erasure_records_is_reported_before_a_new_one_is_made() {
    const MISSING: &str = "the key of earlier erasure records is missing, so they are not found by their value; restore the file from the old data folder";
    let mut app = TestApp::start();
    send(&app.client(), "ann", "5");
    erase(&app.client(), "ann");
    assert!(app.log_line(MISSING).is_none(), "the first key of a data folder");
    let (key, aside) = (app.data().join("erasure-key"), app.data().join("aside"));
    app.stop();
    std::fs::rename(&key, &aside).unwrap();
    app.restart();
    wait_for("the warning", || app.log_line(MISSING).is_some());
    assert_eq!(app.log_line(MISSING).unwrap()["level"], "WARN");
    assert!(!key.exists(), "the old file can still be restored");
    std::fs::rename(&aside, &key).unwrap();
    let found = app.client().get("/v1/erasures?value=ann").json();
    assert_eq!(found["erasures"].as_array().unwrap().len(), 1, "{found}");
}
