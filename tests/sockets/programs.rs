//! What the tests of both kinds of sources share.

use serde_json::{Value, json};

use crate::harness::TestApp;
use crate::harness::node::NodeProgram;

/// Starts one of the client programs for a server.
pub fn program(name: &str, app: &TestApp, variables: &[(&str, &str)]) -> NodeProgram {
    let server = format!("http://{}", app.address);
    let variables: Vec<_> = variables.iter().copied().chain([("SERVER", server.as_str())]).collect();
    NodeProgram::start(&format!("tests/sockets/clients/{name}.mjs"), &variables)
}

/// Creates a key, and returns it.
pub fn key(app: &TestApp, name: &str, scope: &str, more: Value) -> String {
    let mut body = json!({ "name": name, "scopes": [scope] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = app.client().post("/v1/keys", &body.to_string()).json();
    answer["key"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// Returns the events of a stream as the native API shows them.
pub fn events(app: &TestApp, stream: &str) -> Vec<Value> {
    let (mut events, mut from) = (Vec::new(), 0);
    loop {
        let page = app.client().get(&format!("/v1/streams/{stream}/events?from={from}&limit=1000")).json();
        let found = page["events"].as_array().unwrap();
        if found.is_empty() {
            return events;
        }
        events.extend(found.iter().cloned());
        from = page["next"].as_u64().unwrap();
    }
}

/// Returns the value of a metric.
pub fn metric(app: &TestApp, name: &str) -> f64 {
    let text = app.client().get("/metrics").text();
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    let line = line.unwrap_or_else(|| panic!("no metric {name} in {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Returns the memory of the server, in MiB.
pub fn memory_mib(app: &TestApp) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", app.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}
