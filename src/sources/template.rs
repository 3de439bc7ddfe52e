//! The JSON that a source answers with, as the configuration words it: a text with placeholders.

use std::borrow::Cow;

use event::{EventId, Millis};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::http::check_placeholders;

const EVENT_ID: &str = "{eventId}";
const TIMESTAMP: &str = "{timestamp}";

/// The JSON answer to an accepted event. `{eventId}` stands for the event's id, and `{timestamp}` for the present time
/// in milliseconds.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct AnswerTemplate(Template);

/// The JSON that greets a new client, in which `{timestamp}` stands for the present time in milliseconds.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct GreetingTemplate(Template);

#[derive(Clone, Debug)]
enum Template {
    /// Without placeholders.
    Fixed(String),
    Parts(Vec<Part>),
}

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    EventId,
    Timestamp,
}

impl Template {
    fn parse(text: &str, placeholders: &[&str]) -> Result<Self, String> {
        check_placeholders(text, placeholders)?;
        let sample = text.replace(EVENT_ID, "").replace(TIMESTAMP, "0");
        if serde_json::from_str::<IgnoredAny>(&sample).is_err() {
            return Err("the answer is not JSON".to_owned());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((at, placeholder)) = placeholders
            .iter()
            .filter_map(|placeholder| Some((rest.find(placeholder)?, *placeholder)))
            .min_by_key(|(at, _)| *at)
        {
            parts.push(Part::Text(rest[..at].to_owned()));
            parts.push(if placeholder == EVENT_ID { Part::EventId } else { Part::Timestamp });
            rest = &rest[at + placeholder.len()..];
        }
        if parts.is_empty() {
            return Ok(Self::Fixed(text.to_owned()));
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self::Parts(parts))
    }

    fn fill(&self, id: Option<EventId>) -> Cow<'_, str> {
        let parts = match self {
            Self::Fixed(text) => return text.into(),
            Self::Parts(parts) => parts,
        };
        let mut filled = String::with_capacity(160);
        for part in parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::EventId => id.iter().for_each(|id| filled.push_str(&id.to_string())),
                Part::Timestamp => filled.push_str(&Millis::now().0.to_string()),
            }
        }
        filled.into()
    }
}

impl TryFrom<String> for AnswerTemplate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Template::parse(&text, &[EVENT_ID, TIMESTAMP]).map(Self)
    }
}

impl TryFrom<String> for GreetingTemplate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Template::parse(&text, &[TIMESTAMP]).map(Self)
    }
}

impl AnswerTemplate {
    pub fn fill(&self, id: EventId) -> Cow<'_, str> {
        self.0.fill(Some(id))
    }
}

impl GreetingTemplate {
    pub fn fill(&self) -> Cow<'_, str> {
        self.0.fill(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Result<String, String> {
        let id = EventId::from_bytes([0x11; 16]);
        let template = AnswerTemplate::try_from(text.to_owned())?;
        Ok(template.fill(id).into_owned())
    }

    #[test]
    fn the_placeholders_of_an_answer_are_filled() {
        let id = "11111111-1111-1111-1111-111111111111";
        assert_eq!(answer(r#"{"a":1}"#), Ok(r#"{"a":1}"#.to_owned()));
        assert_eq!(answer(r#"["{eventId}","{eventId}"]"#), Ok(format!(r#"["{id}","{id}"]"#)));
        let filled = answer(r#"{"at":{timestamp},"id":"{eventId}","s":"success"}"#).expect("valid");
        let value: serde_json::Value = serde_json::from_str(&filled).expect("JSON");
        assert_eq!((&value["id"], &value["s"]), (&id.into(), &"success".into()));
        assert!(value["at"].as_i64().is_some_and(|at| at > 1_700_000_000_000));
        let greeting = GreetingTemplate::try_from(r#"{"t":{timestamp}}"#.to_owned()).expect("valid");
        let greeting = greeting.fill();
        assert!(greeting.starts_with(r#"{"t":1"#) && greeting.ends_with('}'));
    }

    #[test]
    fn a_misspelt_placeholder_and_a_text_that_is_not_json_are_refused() {
        let error = answer(r#"{"id":"{eventID}"}"#).expect_err("misspelt");
        assert!(error.contains("did you mean `{eventId}`?"), "{error}");
        assert_eq!(answer("{\"id\":{eventId}").expect_err("not JSON"), "the answer is not JSON");
        let error = GreetingTemplate::try_from(r#"{"id":"{eventId}"}"#.to_owned()).expect_err("no event");
        assert!(error.contains("(placeholders: `{timestamp}`)"), "{error}");
    }
}
