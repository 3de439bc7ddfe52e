//! Delivery of notifications to real counterparts: an HTTP receiver and a mail server.

#![allow(clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;

mod alerts;
mod dead_letters;
mod destinations;
mod email;
mod kills;
mod webhooks;

use harness::http::Client;
use harness::{StoreKind, TestApp, configure, wait_for};
use serde_json::Value;

const STORES: [StoreKind; 3] = [StoreKind::Sqlite, StoreKind::Postgres, StoreKind::Mariadb];

/// Returns the configuration of a view `mails` that delivers to the destinations in `sections`.
fn config(deliver: &str, sections: &str) -> String {
    format!(
        r#"
        presets = []
        [stream.orders]
        key = "mail"
        fields.mail = {{ type = "text", required = true }}
        fields.sort = {{ type = "text", required = true }}
        fields.port = {{ type = "integer" }}
        fields.sum = {{ type = "decimal" }}
        [view.mails]
        kind = "notifications"
        from = "orders"
        to = "mail"
        type = "sort"
        message = "Thanks for {{sum}}"
        deliver = {deliver}
        {sections}
        "#
    )
}

/// Returns the errors that `config check` finds. Panics if there are none.
fn config_errors(config: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    configure(folder.path(), config);
    let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_millrace"));
    let output = check.current_dir(folder.path()).args(["config", "check"]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(8), "{config}: {errors}");
    errors
}

/// Sends an event and returns the id of its notification.
fn order(client: &Client, mail: &str, more: &str) -> String {
    let body = format!(r#"{{"mail":"{mail}","sort":"paid","sum":10.50{more}}}"#);
    let answer = client.post("/v1/streams/orders/events", &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    format!("notif-{}", answer.json()["eventId"].as_str().unwrap())
}

fn notification(app: &TestApp, id: &str) -> Value {
    let answer = app.client().get(&format!("/v1/notifications/{id}?view=mails"));
    if answer.status == 404 { Value::Null } else { answer.json() }
}

fn wait_for_status(app: &TestApp, id: &str, status: &str) -> Value {
    wait_for(&format!("{id} to be {status}"), || notification(app, id)["status"] == status);
    notification(app, id)
}
