//! Frames by which a client subscribes to changes: `{"subscribe":{...}}` and `{"unsubscribe":0}`.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::http::ApiError;

/// What a client asks for.
#[derive(Debug)]
pub enum LiveFrame<'a> {
    Subscribe(&'a str),
    Unsubscribe(usize),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscribe<'a> {
    #[serde(borrow)]
    subscribe: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unsubscribe {
    unsubscribe: usize,
}

impl<'a> LiveFrame<'a> {
    pub const NAMES: [&'static str; 2] = ["subscribe", "unsubscribe"];

    /// Returns `None` for other frames, which bring events.
    pub fn parse(frame: &'a str) -> Option<Result<Self, ApiError>> {
        let first = frame.trim_ascii_start().strip_prefix('{')?.trim_ascii_start();
        let parsed = if first.starts_with(r#""subscribe""#) {
            serde_json::from_str(frame).map(|Subscribe { subscribe }| Self::Subscribe(subscribe.get()))
        } else if first.starts_with(r#""unsubscribe""#) {
            serde_json::from_str(frame).map(|Unsubscribe { unsubscribe }| Self::Unsubscribe(unsubscribe))
        } else {
            return None;
        };
        Some(parsed.map_err(|error| ApiError::Parameter {
            name: "frame",
            reason: event::json_in_plain_words(&error.to_string()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_about_subscriptions_is_told_from_events() {
        let parsed =
            |frame| LiveFrame::parse(frame).map(|parsed| parsed.map(|frame| format!("{frame:?}")).ok());
        let subscribe = r#"Subscribe("{\"stream\":\"s\"}")"#.to_owned();
        assert_eq!(parsed(r#" { "subscribe": {"stream":"s"}}"#), Some(Some(subscribe)));
        assert_eq!(parsed(r#"{"unsubscribe":3}"#), Some(Some("Unsubscribe(3)".to_owned())));
        for wrong in [r#"{"subscribe":{},"a":1}"#, r#"{"unsubscribe":-1}"#, r#"{"unsubscribe":"0"}"#] {
            assert_eq!(parsed(wrong), Some(None), "{wrong}");
        }
        for event in [r#"{"a":1,"subscribe":{}}"#, r#"{"subscribed":1}"#, r#"[{"subscribe":{}}]"#, "", "{"] {
            assert_eq!(parsed(event), None, "{event}");
        }
    }
}
