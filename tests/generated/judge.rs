//! What any answer has to be, whatever was asked: no fault of the server, and in a documented form.

use std::collections::BTreeSet;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::wire::{Answered, Asked};

const DOCUMENTED: &str = include_str!("../../docs/API.md");
const TYPES: &str = "urn:millrace:problem:";

pub struct Judge {
    /// Types of problems with their statuses.
    problems: BTreeSet<(String, u16)>,
}

impl Judge {
    /// Reads the table of errors in `docs/API.md`.
    pub fn new() -> Self {
        let table = DOCUMENTED.split("## Errors").nth(1).unwrap();
        let mut problems = BTreeSet::new();
        for row in table.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let status: u16 = cells[2].parse().unwrap();
            problems.extend(cells[1].split('`').skip(1).step_by(2).map(|kind| (kind.to_owned(), status)));
        }
        assert!(problems.len() > 15, "the documented problems are found");
        Self { problems }
    }

    pub fn expect_sound(&self, asked: &Asked, answered: &Answered) -> Result<(), String> {
        let status = answered.status;
        match status {
            503 | 507 if answered.header("retry-after").is_none() && asked.route() != "/ready" => {
                return Err("does not say when to try again".to_owned());
            }
            500.. if ![503, 507].contains(&status) => return Err("a fault of the server".to_owned()),
            _ => {}
        }
        if answered.body.is_empty() {
            let bare = asked.broken && [400, 414, 431].contains(&status);
            let may = bare || asked.method == "HEAD" || asked.method == "OPTIONS" || status == 204;
            return if may { Ok(()) } else { Err("no body".to_owned()) };
        }
        let sound = serde_json::from_slice::<&RawValue>(&answered.body).is_ok();
        match answered.header("content-type") {
            Some("application/problem+json") if sound => self.expect_problem(status, &answered.json()),
            Some("application/json") if sound && status < 400 => Ok(()),
            Some("application/json") if sound => expect_words(&answered.json()),
            Some(kind) if status == 200 && kind.starts_with(declared(asked.route())) => Ok(()),
            other => Err(format!("neither JSON nor declared, but {other:?}")),
        }
    }

    fn expect_problem(&self, status: u16, body: &Value) -> Result<(), String> {
        let kind = body["type"].as_str().and_then(|kind| kind.strip_prefix(TYPES)).unwrap_or_default();
        match self.problems.contains(&(kind.to_owned(), status)) {
            true if body["status"] == status && body["detail"].is_string() => Ok(()),
            _ => Err(format!("`{kind}` with {status} is not documented")),
        }
    }
}

/// What a route answers that is no JSON.
fn declared(route: &str) -> &'static str {
    match route {
        "/metrics" => "text/plain",
        "/v1/backup" => "application/x-tar",
        _ => "application/json",
    }
}

/// A contract's refusal: one key with the words.
fn expect_words(body: &Value) -> Result<(), String> {
    let words = body["error"].as_str().or(body["message"].as_str()).or(body["status"].as_str());
    if words.is_some_and(|words| !words.is_empty()) { Ok(()) } else { Err("no words".to_owned()) }
}
