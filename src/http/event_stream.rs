//! Server-Sent Events: messages as lines of text in an answer that does not end.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;

/// Marks an answer without an end. Its connection does not count among those of requests any more.
#[derive(Clone, Copy)]
pub struct EndlessAnswer;

/// Returns an answer that sends these pieces as they come.
pub fn event_stream(
    pieces: impl Stream<Item = Result<Bytes, std::convert::Infallible>> + Send + 'static,
) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // Some proxies would wait for the end of the answer.
        (header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    let mut answer = (headers, Body::from_stream(pieces)).into_response();
    answer.extensions_mut().insert(EndlessAnswer);
    answer
}

/// Writes the lines of a message before its content.
pub fn begin_event(to: &mut String, name: Option<&str>, id: &str) {
    for (field, text) in [("event", name.unwrap_or_default()), ("id", id)] {
        if !text.is_empty() {
            to.extend([field, ": ", text, "\n"]);
        }
    }
}

/// Returns whether a content needs only one line.
pub fn is_one_line(content: &str) -> bool {
    memchr::memchr2(b'\n', b'\r', content.as_bytes()).is_none()
}

/// Writes a message. Without a name, `onmessage` gets it. Without content, nobody does, and only the id counts.
pub fn write_event(to: &mut String, name: Option<&str>, id: &str, content: &str) {
    begin_event(to, name, id);
    // A line break in the content would end its line.
    if !content.is_empty() {
        for line in content.split(['\n', '\r']) {
            to.extend(["data: ", line, "\n"]);
        }
    }
    to.push('\n');
}

/// Writes how long the reader waits before it connects again.
pub fn write_retry(to: &mut String, delay: Duration) {
    to.extend(["retry: ", &delay.as_millis().to_string(), "\n\n"]);
}

/// Writes a comment, which shows that the connection works.
pub fn write_heartbeat(to: &mut String) {
    to.push_str(":\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(name: Option<&str>, id: &str, content: &str) -> String {
        let mut text = String::new();
        write_event(&mut text, name, id, content);
        text
    }

    #[test]
    fn a_message_has_a_line_for_each_part() {
        assert_eq!(written(None, "5", r#"{"a":1}"#), "id: 5\ndata: {\"a\":1}\n\n");
        assert_eq!(written(Some("reset"), "", "{}"), "event: reset\ndata: {}\n\n");
        assert_eq!(
            written(None, "5", "{\n  \"a\": 1\r\n}"),
            "id: 5\ndata: {\ndata:   \"a\": 1\ndata: \ndata: }\n\n"
        );
        assert_eq!(written(None, "5", ""), "id: 5\n\n");
    }
}
