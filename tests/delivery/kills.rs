//! The process dies between every two steps of a delivery. Afterwards each notification was delivered at least once, always
//! with the same id and body, and no retry was spent on a crash.

use std::collections::BTreeMap;

use crate::harness::receiver::Receiver;
use crate::harness::{Start, StoreKind, TestApp};
use crate::{STORES, config, order, wait_for_status};

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
