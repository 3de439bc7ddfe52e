//! A line of an export: an event in its envelope. The event keeps its text, and its id becomes its name, so that a
//! line counts once even if it is sent several times.

use std::borrow::Cow;

use event::limits::EVENT_BYTES_MAX;
use event::{EventId, FieldError, FieldErrors};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    only_for: Option<Cow<'a, str>>,
    #[serde(borrow)]
    left_out: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event: &'a RawValue,
}

/// An event that was exported.
#[derive(Debug, PartialEq, Eq)]
pub struct ExportedEvent<'a> {
    pub id: String,
    pub text: &'a str,
}

/// Returns the event of a line; `None` if no view counted the event.
pub fn event<'a>(line: &'a str, stream: &str) -> Result<Option<ExportedEvent<'a>>, FieldErrors> {
    let refused = |field: &str, reason: String| Err(FieldError { field: field.to_owned(), reason }.into());
    let envelope: Envelope<'a> = match serde_json::from_str(line) {
        Ok(envelope) => envelope,
        Err(error) => {
            let message = error.to_string();
            let reason = message.split(" at line ").next().unwrap_or_default();
            return refused("", format!("is not a line of an export: {reason}"));
        }
    };
    if envelope.stream != stream {
        return refused("stream", format!("is not `{stream}`"));
    }
    if envelope.left_out.is_some() {
        return Ok(None);
    }
    if let Some(view) = envelope.only_for {
        return refused(
            "onlyFor",
            format!(
                "is a dead letter that was sent again for view `{view}` only, but would count for all views here; retry the dead letter of its event on this server instead"
            ),
        );
    }
    let Ok(id) = envelope.id.parse::<EventId>() else {
        return refused("id", "is not an event id".to_owned());
    };
    let text = envelope.event.get();
    if text.len() > EVENT_BYTES_MAX {
        refused("event", format!("is larger than {EVENT_BYTES_MAX} bytes"))
    } else {
        Ok(Some(ExportedEvent { id: id.to_string(), text }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0a07016d-003a-8000-8000-000000000007";

    fn of(line: &str) -> Result<Option<ExportedEvent<'_>>, String> {
        event(line, "s").map_err(|error| error.to_string())
    }

    #[test]
    fn an_event_keeps_its_text_and_its_id() {
        let line = format!(r#"{{"id":"{ID}","stream":"s","position":7,"event": {{"v":1.10,"id":[3]}} }}"#);
        let text = r#"{"v":1.10,"id":[3]}"#;
        assert_eq!(of(&line), Ok(Some(ExportedEvent { id: ID.to_owned(), text })));
    }

    #[test]
    fn events_that_did_not_count_are_skipped_and_other_lines_are_refused() {
        let line = |more: &str| format!(r#"{{"id":"{ID}","stream":"s","event":null{more}}}"#);
        assert_eq!(of(&line(r#","leftOut":"erased""#)), Ok(None));
        assert!(of(&line(r#","onlyFor":"v""#)).is_err_and(|error| error.starts_with("onlyFor: ")));
        assert!(of(&line("").replace("\"s\"", "\"t\"")).is_err_and(|error| error == "stream: is not `s`"));
        assert!(of(&line("").replace(ID, "7")).is_err_and(|error| error == "id: is not an event id"));
        assert!(of(r#"{"userId":"u"}"#).is_err_and(|error| error.contains("not a line of an export")));
    }
}
