//! Whole requests to every source and route. An input is a text with several requests, separated by lines of `%%`.
//! Each has a first line, headers, an empty line and a body.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, Uri};

use super::coded_body::compressed;
use super::stage::{Answer, Stage};

/// Separates two requests of an input.
pub const DIVIDER: &[u8] = b"\n%%\n";
/// More requests would make an input slow and test nothing new.
const REQUESTS_MAX: usize = 8;
/// In an input: the last id that an answer contained, of an event, a key or an erasure.
const LAST_ID: &[u8] = b"@ID";
/// In an input: a header that makes `parse` compress the body. Mutations would hardly create compressed bytes.
const COMPRESS: &[u8] = b"Compress";
const NO_ID: &str = "00000000-0000-0000-0000-000000000000";
const REFUSALS: &str = "urn:millrace:problem:";

pub fn run(stage: &mut Stage, bytes: &[u8]) {
    let mut id = NO_ID.to_owned();
    for part in split(bytes, DIVIDER).take(REQUESTS_MAX) {
        let part = replaced(part, LAST_ID, id.as_bytes());
        let Some(request) = parse(&part) else { continue };
        let (method, path) = (request.method().clone(), request.uri().clone());
        let Some(answer) = stage.ask(request) else { continue };
        let expected = judge(&method, &path, &answer, stage.quiet);
        if let Err(reason) = expected {
            let body = String::from_utf8_lossy(&answer.body);
            panic!("{method} {path}: {reason}; {} {body}, log grew by {}", answer.status, answer.appended);
        }
        // An unfinished erasure continues to append to the log.
        stage.quiet &= answer.status != StatusCode::ACCEPTED || !path.path().ends_with("/erasures");
        id = id_of(&answer).unwrap_or(id);
    }
}

fn parse(part: &[u8]) -> Option<Request<Body>> {
    let (head, body) = match part.windows(2).position(|two| two == b"\n\n") {
        Some(at) => (&part[..at], &part[at + 2..]),
        None => (part, &[][..]),
    };
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = lines.next()?;
    let (method, path) = first.split_at(first.iter().position(|byte| *byte == b' ')?);
    let uri: Uri = path[1..].try_into().ok()?;
    let mut request = Request::builder().method(method).uri(uri);
    let mut body = body.to_vec();
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        match name {
            COMPRESS => {
                body = compressed(&body, value);
                request = request.header("content-encoding", value);
            }
            _ => request = request.header(name, value),
        }
    }
    request.body(Body::from(body)).ok()
}

/// Fails if the answer is not allowed, or if the log did not grow by what the answer says.
fn judge(method: &Method, uri: &Uri, answer: &Answer, quiet: bool) -> Result<(), String> {
    let status = answer.status;
    if status.is_server_error() && ![503, 507].contains(&status.as_u16()) {
        return Err("no request may cause this status".to_owned());
    }
    check_form(method, uri, answer)?;
    // The path of a contract's source may end with a slash.
    let path = uri.path().strip_suffix('/').unwrap_or(uri.path());
    let steps: Vec<&str> = path.split('/').skip(1).collect();
    let body = answer.json();
    let expected = match steps.as_slice() {
        ["v1", "streams", _, "erasures"] => return Ok(()),
        _ if method != Method::POST => 0,
        // Lines before a refused one stay stored. With `?partial=true`, so do all lines that are not refused.
        ["v1", "streams", _, "events"] if !status.is_success() => {
            body["durableLines"].as_u64().unwrap_or(0).min(answer.appended)
        }
        ["v1", "streams", _, "events"] => body["accepted"].as_u64().ok_or("the answer has no `accepted`")?,
        ["liveEvent" | "event"] | ["events", "ingest"] | ["v1", "dead-letters", _, "retry"]
            if status.is_success() =>
        {
            1
        }
        _ => 0,
    };
    if answer.appended == expected || (!quiet && answer.appended > expected) {
        Ok(())
    } else {
        Err(format!("the log must grow by {expected}"))
    }
}

/// Fails unless the body is JSON, or what the route declares. A problem must have a known type.
fn check_form(method: &Method, uri: &Uri, answer: &Answer) -> Result<(), String> {
    let (status, kind) = (answer.status, answer.content_type.as_str());
    let declared = match uri.path() {
        "/metrics" => kind.starts_with("text/plain"),
        "/v1/backup" => kind == "application/x-tar",
        _ => false,
    };
    if declared && status == StatusCode::OK {
        return Ok(());
    }
    if answer.body.is_empty() {
        let may = method == Method::HEAD || status == StatusCode::NO_CONTENT || method == Method::OPTIONS;
        return if may { Ok(()) } else { Err("the answer has no body".to_owned()) };
    }
    let is_json = serde_json::from_slice::<&serde_json::value::RawValue>(&answer.body).is_ok();
    match kind {
        "application/json" if is_json => Ok(()),
        "application/problem+json" if is_json => {
            let known = answer.json()["type"].as_str().is_some_and(|kind| kind.starts_with(REFUSALS));
            if known { Ok(()) } else { Err("the problem has no known type".to_owned()) }
        }
        _ => Err(format!("the answer is not JSON, but `{kind}`")),
    }
}

/// Returns the id of what the request created, or the first id of a list.
fn id_of(answer: &Answer) -> Option<String> {
    const POINTERS: [&str; 7] = [
        "/eventId",
        "/eventIds/0",
        "/id",
        "/events/0/id",
        "/deadLetters/0/id",
        "/notifications/0/id",
        "/erasures/0/id",
    ];
    let body = answer.json();
    POINTERS.iter().find_map(|pointer| body.pointer(pointer)?.as_str()).map(str::to_owned)
}

pub fn split<'a>(bytes: &'a [u8], divider: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let at = bytes.windows(divider.len()).position(|window| window == divider);
        rest = at.map(|at| &bytes[at + divider.len()..]);
        Some(&bytes[..at.unwrap_or(bytes.len())])
    })
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    split(bytes, from).collect::<Vec<_>>().join(to)
}
