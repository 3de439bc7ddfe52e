//! Destinations are paused, resumed and drained, and refuse addresses inside the network.

use crate::harness::receiver::{Behaviour, Receiver};
use crate::harness::{Start, TestApp, wait_for};
use crate::{STORES, config, config_errors, notification, order, wait_for_status};

fn section(url: &str, more: &str) -> String {
    config("[\"partner\"]", &format!("[destination.partner]\nkind = \"webhook\"\nurl = \"{url}\"\n{more}\n"))
}

#[test]
fn a_paused_destination_sends_nothing_and_a_drained_one_does_not_wait_for_retries() {
    for store_kind in STORES {
        let receiver = Receiver::start();
        let config = section(&receiver.url("/"), "allow_private = true\nretry = [\"1h\"]");
        let app =
            TestApp::with(Start { config: Some(config), store_kind: Some(store_kind), ..Start::default() });
        let client = app.client();
        assert_eq!(client.post("/v1/destinations/partner/pause", r#"{"reason":"holiday"}"#).status, 200);
        let id = order(&client, "a@x.example", "");
        app.settle();
        let listed = client.get("/v1/destinations").json()["destinations"][1].clone();
        assert_eq!(
            (&listed["state"], &listed["reason"], &listed["waiting"]),
            (&"paused".into(), &"holiday".into(), &1.into())
        );
        assert_eq!(client.post("/v1/destinations/partner/drain", "").status, 409);
        assert_eq!((receiver.count(), notification(&app, &id)["status"].as_str()), (0, Some("QUEUED")));
        receiver.behave("/", Behaviour::Answer(500));
        assert_eq!(client.post("/v1/destinations/partner/resume", "").status, 200);
        wait_for_status(&app, &id, "FAILED_RETRYING");
        receiver.behave("/", Behaviour::Answer(200));
        let drained = app.command(&["destination", "drain", "partner"]);
        assert_eq!(drained.status.code(), Some(0), "{drained:?}");
        assert_eq!(notification(&app, &id)["status"], "SENT");
        assert_eq!(client.post("/v1/destinations/nobody/pause", "{}").status, 404);
        assert_eq!(app.anonymous().get("/v1/destinations").status, 401);
    }
}

#[test]
fn a_correction_cancels_what_is_not_attempted() {
    for store_kind in STORES {
        let receiver = Receiver::start();
        let config = section(&receiver.url("/"), "allow_private = true");
        let app =
            TestApp::with(Start { config: Some(config), store_kind: Some(store_kind), ..Start::default() });
        let client = app.client();
        let sent = order(&client, "sent@x.example", "");
        wait_for_status(&app, &sent, "SENT");
        receiver.behave("/", Behaviour::Hang);
        let running = order(&client, "running@x.example", "");
        wait_for("the attempt", || receiver.count() == 2);
        assert_eq!(notification(&app, &running)["status"], "QUEUED");
        assert_eq!(client.post("/v1/destinations/partner/pause", "{}").status, 200);
        let waiting = order(&client, "waiting@x.example", "");
        for id in [&sent, &running, &waiting] {
            let event = id.trim_start_matches("notif-");
            let body = format!(r#"{{"takesBack":"{event}"}}"#);
            let answer = client.post("/v1/streams/orders/events?wait=applied", &body);
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        assert!(notification(&app, &waiting).is_null());
        assert_eq!(notification(&app, &sent)["status"], "SENT");
        receiver.behave("/", Behaviour::Answer(200));
        wait_for_status(&app, &running, "SENT");
        assert_eq!(client.post("/v1/destinations/partner/resume", "").status, 200);
        let last = order(&client, "last@x.example", "");
        wait_for_status(&app, &last, "SENT");
        assert_eq!(receiver.count(), 3, "the corrected one is not sent");
    }
}

#[test]
fn addresses_inside_the_network_are_refused_at_start_and_for_each_event() {
    for url in [
        "http://127.0.0.1:9000/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://169.254.169.254/latest",
        "http://localhost/",
        "http://user:secret@example.com/",
        "ftp://example.com/",
        "http://example.com:25/",
    ] {
        let errors = config_errors(&section(url, ""));
        assert!(errors.contains("destination `partner` has a `url` that cannot be used"), "{url}: {errors}");
        assert!(!errors.contains("secret"), "{errors}");
    }
    let receiver = Receiver::start();
    let app = TestApp::configured(&section("http://127.0.0.1:{{ event.port }}/", ""));
    app.client().post(
        "/v1/streams/orders/events",
        &format!(r#"{{"mail":"a@x.example","sort":"s","port":{}}}"#, receiver.port()),
    );
    app.settle();
    let letters = app.client().get("/v1/dead-letters").json();
    let reason = letters["deadLetters"][0]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("loopback"), "{reason}");
    assert_eq!(receiver.count(), 0);
}

#[test]
fn secrets_are_in_no_output() {
    let receiver = Receiver::start();
    receiver.behave("/", Behaviour::Answer(500));
    let folder = std::sync::Arc::new(tempfile::tempdir().unwrap());
    std::fs::write(folder.path().join("secrets"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    let more = "allow_private = true\nretry = []\nsecrets_file = \"secrets\"\nheaders = { Authorization = \"Bearer hidden-token\" }";
    let start = Start { config: Some(section(&receiver.url("/"), more)), ..Start::default() };
    let app = TestApp::with_folder(start, folder);
    let id = order(&app.client(), "a@x.example", "");
    wait_for_status(&app, &id, "FAILED_DLQ");
    assert_eq!(receiver.requests()[0].headers["authorization"], "Bearer hidden-token");
    assert!(receiver.requests()[0].headers.contains_key("webhook-signature"));
    wait_for("the log line", || app.log_text().contains("became a dead letter"));
    let shown = app.command(&["config", "show"]);
    let texts = [
        String::from_utf8_lossy(&shown.stdout).into_owned(),
        app.client().get("/v1/destinations").text(),
        app.client().get(&format!("/v1/notifications/{id}?view=mails")).text(),
        app.client().get("/v1/dead-letters").text(),
        app.log_text(),
    ];
    for text in texts {
        assert!(!text.contains("hidden-token") && !text.contains("MfKQ9r8"), "{text}");
    }
}

#[test]
fn a_token_in_the_url_of_an_event_is_shown_to_no_reader() {
    let receiver = Receiver::start();
    receiver.behave("/", Behaviour::Answer(500));
    let url = "http://127.0.0.1:{{ event.port }}/hidden-path?token=hidden-token";
    let app = TestApp::configured(&section(url, "allow_private = true\nretry = []"));
    let id = order(&app.client(), "a@x.example", &format!(",\"port\":{}", receiver.port()));
    wait_for_status(&app, &id, "FAILED_DLQ");
    assert_eq!(receiver.requests()[0].path, "/hidden-path?token=hidden-token");
    let letters = app.client().get("/v1/dead-letters");
    let path = format!("/v1/dead-letters/{}", letters.json()["deadLetters"][0]["id"].as_str().unwrap());
    let edited = format!(r#"{{"mail":"b@x.example","sort":"s","port":{}}}"#, receiver.port());
    let texts = [
        letters.text(),
        app.client().get(&path).text(),
        app.client().post(&format!("{path}/retry?dryRun=true"), "").text(),
        app.client().post(&format!("{path}/retry?dryRun=true"), &edited).text(),
        app.client().post("/v1/views/mails/preview", &edited).text(),
        app.client().get(&format!("/v1/notifications/{id}?view=mails")).text(),
        app.log_text(),
    ];
    for text in texts {
        assert!(!text.contains("hidden"), "{text}");
    }
    let host = format!("http://127.0.0.1:{}/...", receiver.port());
    assert_eq!(letters.json()["deadLetters"][0]["content"]["url"], host);
}
