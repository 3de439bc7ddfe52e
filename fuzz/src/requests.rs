//! Whole requests to every door and route. An input is a text: requests one after the other, divided by
//! lines of `%%`, each with its first line, its headers, an empty line and its body.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, Uri};

use super::coded_body::compressed;
use super::stage::{Answer, Stage};

/// Between two requests of an input.
pub const DIVIDER: &[u8] = b"\n%%\n";
/// More would make an input slow, and no answer different.
const REQUESTS_MAX: usize = 8;
/// In an input: the id that an answer gave last, of an event, of a key or of an erasure.
const LAST_ID: &[u8] = b"@ID";
/// In an input: a header of ours that has the body compressed, which mutations would hardly do.
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
        let expected = judge(&method, &path, &answer, stage.still);
        if let Err(reason) = expected {
            let body = String::from_utf8_lossy(&answer.body);
            panic!("{method} {path}: {reason}; {} {body}, log moved by {}", answer.status, answer.moved);
        }
        // An erasure that is not done yet goes on to move the log.
        stage.still &= answer.status != StatusCode::ACCEPTED || !path.path().ends_with("/erasures");
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

/// Whether this answer may be given, and the log moved as it says.
fn judge(method: &Method, uri: &Uri, answer: &Answer, still: bool) -> Result<(), String> {
    let status = answer.status;
    if status.is_server_error() && ![503, 507].contains(&status.as_u16()) {
        return Err("a status that no request may bring about".to_owned());
    }
    has_its_form(method, uri, answer)?;
    // A door of a contract may be spelled with a slash at the end.
    let path = uri.path().strip_suffix('/').unwrap_or(uri.path());
    let steps: Vec<&str> = path.split('/').skip(1).collect();
    let body = answer.json();
    let expected = match steps.as_slice() {
        ["v1", "streams", _, "erasures"] => return Ok(()),
        _ if method != Method::POST => 0,
        // Lines that came before the one that was refused are kept, and so are the others of a partial one.
        ["v1", "streams", _, "events"] if !status.is_success() => {
            body["durableLines"].as_u64().unwrap_or(0).min(answer.moved)
        }
        ["v1", "streams", _, "events"] => body["accepted"].as_u64().ok_or("does not say how many")?,
        ["liveEvent" | "event"] | ["events", "ingest"] | ["v1", "dead-letters", _, "retry"]
            if status.is_success() =>
        {
            1
        }
        _ => 0,
    };
    match answer.moved == expected || (!still && answer.moved > expected) {
        true => Ok(()),
        false => Err(format!("the log is to move by {expected}")),
    }
}

/// JSON, or what the route is known to answer; problem details where no contract has words of its own.
fn has_its_form(method: &Method, uri: &Uri, answer: &Answer) -> Result<(), String> {
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
        return if may { Ok(()) } else { Err("an answer without a body".to_owned()) };
    }
    let sound = serde_json::from_slice::<&serde_json::value::RawValue>(&answer.body).is_ok();
    match kind {
        "application/json" if sound => Ok(()),
        "application/problem+json" if sound => {
            let known = answer.json()["type"].as_str().is_some_and(|kind| kind.starts_with(REFUSALS));
            if known { Ok(()) } else { Err("problem details without their type".to_owned()) }
        }
        _ => Err(format!("an answer that is no JSON, but `{kind}`")),
    }
}

/// The id of what was made, or of the first in a list.
fn id_of(answer: &Answer) -> Option<String> {
    const PLACES: [&str; 7] = [
        "/eventId",
        "/eventIds/0",
        "/id",
        "/events/0/id",
        "/deadLetters/0/id",
        "/notifications/0/id",
        "/erasures/0/id",
    ];
    let body = answer.json();
    PLACES.iter().find_map(|place| body.pointer(place)?.as_str()).map(str::to_owned)
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
