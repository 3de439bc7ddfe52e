//! Rules for every response to any request: it is not an internal error, and it has a documented form.

use std::collections::BTreeSet;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::wire::{Request, Response};

const DOCUMENTED: &str = include_str!("../../docs/API.md");
const TYPES: &str = "urn:millrace:problem:";

pub struct Judge {
    /// The documented problem types with their statuses.
    problems: BTreeSet<(String, u16)>,
}

impl Judge {
    /// Reads the table of errors from `docs/API.md`.
    pub fn new() -> Self {
        let table = DOCUMENTED.split("## Errors").nth(1).unwrap();
        let mut problems = BTreeSet::new();
        for row in table.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let status: u16 = cells[2].parse().unwrap();
            problems.extend(cells[1].split('`').skip(1).step_by(2).map(|kind| (kind.to_owned(), status)));
        }
        assert!(problems.len() > 15, "too few documented problems: {}", problems.len());
        Self { problems }
    }

    pub fn check(&self, request: &Request, response: &Response) -> Result<(), String> {
        let status = response.status;
        match status {
            503 | 507 if response.header("retry-after").is_none() && request.route() != "/ready" => {
                return Err("no Retry-After header".to_owned());
            }
            500.. if ![503, 507].contains(&status) => return Err("an internal error".to_owned()),
            _ => {}
        }
        if response.body.is_empty() {
            let is_malformed = request.malformed && [400, 414, 431].contains(&status);
            let may_be_empty =
                is_malformed || request.method == "HEAD" || request.method == "OPTIONS" || status == 204;
            return if may_be_empty { Ok(()) } else { Err("no body".to_owned()) };
        }
        let is_json = serde_json::from_slice::<&RawValue>(&response.body).is_ok();
        match response.header("content-type") {
            Some("application/problem+json") if is_json => self.check_problem(status, &response.json()),
            Some("application/json") if is_json && status < 400 => Ok(()),
            Some("application/json") if is_json => check_message(&response.json()),
            Some(kind) if status == 200 && kind.starts_with(content_type(request.route())) => Ok(()),
            other => Err(format!("unexpected content type {other:?}, or a body that does not match it")),
        }
    }

    fn check_problem(&self, status: u16, body: &Value) -> Result<(), String> {
        let kind = body["type"].as_str().and_then(|kind| kind.strip_prefix(TYPES)).unwrap_or_default();
        if self.problems.contains(&(kind.to_owned(), status))
            && body["status"] == status
            && body["detail"].is_string()
        {
            Ok(())
        } else {
            Err(format!("`{kind}` with {status} is not documented"))
        }
    }
}

/// Returns the content type of a route's successful response.
fn content_type(route: &str) -> &'static str {
    match route {
        "/metrics" => "text/plain",
        "/v1/backup" => "application/x-tar",
        _ => "application/json",
    }
}

/// Expects a contract's refusal: a key with a message that is not empty.
fn check_message(body: &Value) -> Result<(), String> {
    let message = body["error"].as_str().or(body["message"].as_str()).or(body["status"].as_str());
    if message.is_some_and(|text| !text.is_empty()) { Ok(()) } else { Err("no message".to_owned()) }
}
