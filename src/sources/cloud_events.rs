//! CloudEvents 1.0 over HTTP at the native source: one event, a batch, or attributes in headers and data in the body.
//! The stored event is the data, with the attributes under `cloudevent`. `source` and `id` name it, so that a repeat
//! counts once.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderValue};
use base64::prelude::{BASE64_STANDARD, Engine};
use event::limits::{CLOUD_ATTRIBUTE_CHARS_MAX, JSON_KEYS_MAX};
use event::{Field, FieldError, FieldErrors, Kind, Value, kind_of, percent_decode, walk_object};

use crate::http::{ApiError, body};

const ONE: &str = "application/cloudevents+json";
const MANY: &str = "application/cloudevents-batch+json";
const HEADER: &str = "ce-";
const REQUIRED: [&str; 4] = ["specversion", "id", "source", "type"];
/// The key of the attributes in the stored event.
const KEY: &str = "cloudevent";

/// How a request carries CloudEvents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloudEventMode {
    /// One event, with attributes and data in one object.
    Structured,
    /// An array of such objects.
    Batch,
    /// Attributes in headers, data in the body.
    Binary,
}

/// A CloudEvent, converted to the event that is stored.
#[derive(Debug, PartialEq, Eq)]
pub struct CloudEvent {
    pub text: String,
    /// The name that its sender gave it: `source` and `id`.
    pub name: String,
    pub id: String,
}

impl CloudEventMode {
    /// Returns how a request carries CloudEvents; `None` if it carries none.
    pub fn of(headers: &HeaderMap, content_type: &str) -> Result<Option<Self>, ApiError> {
        let is = |kind: &str| content_type.eq_ignore_ascii_case(kind);
        if is(ONE) {
            return Ok(Some(Self::Structured));
        }
        if is(MANY) {
            return Ok(Some(Self::Batch));
        }
        let some = ["ce-specversion", "ce-id", "ce-source", "ce-type"].map(|name| headers.contains_key(name));
        match (some.contains(&true), is_json(content_type)) {
            (false, _) => Ok(None),
            (true, true) => Ok(Some(Self::Binary)),
            (true, false) => Err(ApiError::ContentType { expected: body::JSON }),
        }
    }

    /// Reads the CloudEvent in `text`, which is a body or an item of a batch.
    pub fn read(self, headers: &HeaderMap, text: &str) -> Result<CloudEvent, FieldErrors> {
        let event = match self {
            Self::Structured | Self::Batch => structured(text),
            Self::Binary => binary(headers, text),
        };
        Ok(event?)
    }
}

fn is_json(content_type: &str) -> bool {
    let lower_case = content_type.to_ascii_lowercase();
    let other_json = lower_case.ends_with("+json") && !lower_case.starts_with("application/cloudevents");
    lower_case == body::JSON || other_json
}

fn wrong(field: &str, reason: impl Into<String>) -> FieldError {
    FieldError { field: field.chars().take(100).collect(), reason: reason.into() }
}

fn structured(text: &str) -> Result<CloudEvent, FieldError> {
    let (mut attributes, mut error) = (Attributes::default(), None);
    let (mut data, mut data_base64) = (None, None);
    let walked = walk_object(text, |key, raw| {
        let taken = match key.as_ref() {
            _ if raw == "null" => Ok(()),
            "data" => once("data", data.replace(raw)),
            "data_base64" => once("data_base64", data_base64.replace(raw)),
            name => attributes.add(name, raw),
        };
        taken.map_err(|wrong| {
            error = Some(wrong);
            String::new()
        })
    });
    walked.map_err(|reason| error.take().unwrap_or(FieldError { field: String::new(), reason }))?;
    attributes.check_required()?;
    match (data, data_base64) {
        (Some(_), Some(_)) => Err(wrong("data_base64", "is given together with `data`")),
        (Some(data), None) => attributes.into_event(data),
        (None, Some(coded)) => attributes.into_event(&decoded(coded)?),
        (None, None) => Err(wrong("data", "is missing")),
    }
}

fn once(name: &str, before: Option<&str>) -> Result<(), FieldError> {
    before.map_or(Ok(()), |_| Err(wrong(name, "is given twice")))
}

fn decoded(raw: &str) -> Result<String, FieldError> {
    let text = serde_json::from_str::<String>(raw)
        .map_err(|_| wrong("data_base64", format!("expected text, got {}", kind_of(raw))))?;
    let bytes = BASE64_STANDARD.decode(text).map_err(|_| wrong("data_base64", "is not base64"))?;
    String::from_utf8(bytes).map_err(|_| wrong("data_base64", "does not contain JSON"))
}

fn binary(headers: &HeaderMap, text: &str) -> Result<CloudEvent, FieldError> {
    let mut attributes = Attributes::default();
    for (header, value) in headers {
        let Some(name) = header.as_str().strip_prefix(HEADER) else { continue };
        let value = header_text(value).ok_or_else(|| wrong(header.as_str(), "is not valid UTF-8"))?;
        if !value.is_empty() {
            attributes.add(name, &json(&value))?;
        }
    }
    attributes.check_required()?;
    attributes.into_event(text)
}

/// Decodes the value of a header: removes quotes first, then percent-encoding.
fn header_text(value: &HeaderValue) -> Option<String> {
    let text = value.to_str().ok()?;
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let unquoted = match inner {
        None => text.to_owned(),
        Some(inner) => {
            let mut escaped = false;
            let kept = |c: &char| {
                escaped = *c == '\\' && !escaped;
                !escaped
            };
            inner.chars().filter(kept).collect()
        }
    };
    String::from_utf8(percent_decode(&unquoted)).ok()
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Attributes by name, as JSON.
#[derive(Default)]
struct Attributes(BTreeMap<String, String>);

impl Attributes {
    fn add(&mut self, name: &str, raw: &str) -> Result<(), FieldError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if name.is_empty() || name == "data" || !name.bytes().all(plain) {
            return Err(wrong(name, "is not an attribute; names have lower-case letters and digits only"));
        }
        if self.0.len() == JSON_KEYS_MAX {
            return Err(wrong("", format!("has more than {JSON_KEYS_MAX} attributes")));
        }
        let read = |kind: Kind| {
            let field = Field { name: name.to_owned(), kind, required: false, one_of: Vec::new() };
            field.read(Some(raw)).map(|value| match value {
                Value::Text(text) => json(&text),
                // An absent value is dropped, and a time is kept as it was written.
                value => {
                    if value == Value::Absent {
                        String::new()
                    } else {
                        raw.to_owned()
                    }
                }
            })
        };
        let is_text = raw.starts_with('"');
        let value = match name {
            "time" if is_text => read(Kind::Time)?,
            "specversion" | "id" | "source" | "type" | "subject" | "time" | "dataschema"
            | "datacontenttype" => read(Kind::text(CLOUD_ATTRIBUTE_CHARS_MAX))?,
            // Extensions may be integers and booleans.
            _ if !is_text && (raw == "true" || raw == "false" || raw.parse::<i64>().is_ok()) => {
                raw.to_owned()
            }
            _ => read(Kind::text(CLOUD_ATTRIBUTE_CHARS_MAX))?,
        };
        if value.is_empty() {
            return Ok(());
        }
        once(name, self.0.insert(name.to_owned(), value).as_deref())
    }

    /// Returns the text of a required attribute.
    fn text(&self, name: &str) -> Result<String, FieldError> {
        let value = self.0.get(name).ok_or_else(|| wrong(name, "is missing"))?;
        serde_json::from_str(value).map_err(|_| wrong(name, "expected text"))
    }

    fn check_required(&self) -> Result<(), FieldError> {
        for name in REQUIRED {
            self.text(name)?;
        }
        match self.text("specversion")?.as_str() {
            "1.0" => Ok(()),
            _ => Err(wrong("specversion", "must be 1.0")),
        }
    }

    /// Returns the event: `data` with these attributes in it. The stream's own check validates the data.
    fn into_event(mut self, data: &str) -> Result<CloudEvent, FieldError> {
        // It only says that the data is JSON. Without it, an event is the same in every mode.
        if let Some(kind) = self.0.remove("datacontenttype") {
            let kind = serde_json::from_str::<String>(&kind).unwrap_or_default();
            if !is_json(kind.split(';').next().unwrap_or_default().trim()) {
                return Err(wrong("datacontenttype", "must be application/json"));
            }
        }
        let id = self.text("id")?;
        let name = format!("{}\0\0{id}", self.text("source")?);
        let data = data.trim_ascii();
        let Some(members) = data.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            let reason = if data.is_empty() {
                "is missing".to_owned()
            } else {
                format!("expected an object, got {}", kind_of(data))
            };
            return Err(wrong("data", reason));
        };
        let comma = if members.trim_ascii().is_empty() { "" } else { "," };
        let attributes: Vec<String> =
            self.0.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        let text = format!("{{{members}{comma}\"{KEY}\":{{{}}}}}", attributes.join(","));
        Ok(CloudEvent { text, name, id })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SALE: &str =
        r#"{"specversion":"1.0","id":"7","source":"/shop","type":"sale","data":{"userId":"u"}}"#;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("a value"));
        }
        headers
    }

    fn read(text: &str) -> Result<CloudEvent, String> {
        CloudEventMode::Structured.read(&HeaderMap::new(), text).map_err(|error| error.to_string())
    }

    #[test]
    fn the_event_is_the_data_with_its_attributes() {
        let event = read(SALE).expect("an event");
        let expected =
            r#"{"userId":"u","cloudevent":{"id":"7","source":"/shop","specversion":"1.0","type":"sale"}}"#;
        assert_eq!((event.text.as_str(), event.name.as_str()), (expected, "/shop\0\x007"));
        let more = SALE.replace(
            r#""type""#,
            r#""partition":3,"sampled":true,"none":null,"subject":"","time":"2025-11-01T10:00:00Z","datacontenttype":"application/json; charset=utf-8","type""#,
        );
        let value: serde_json::Value =
            serde_json::from_str(&read(&more).expect("an event").text).expect("JSON");
        assert_eq!(
            value["cloudevent"],
            serde_json::json!({ "id": "7", "source": "/shop", "specversion": "1.0", "type": "sale",
                "partition": 3, "sampled": true, "time": "2025-11-01T10:00:00Z" })
        );
        let empty = read(&SALE.replace(r#"{"userId":"u"}"#, "{ }")).expect("an event").text;
        assert!(empty.starts_with(r#"{ "cloudevent":{"#), "{empty}");
        let coded = SALE.replace(r#""data":{"userId":"u"}"#, r#""data_base64":"eyJ1c2VySWQiOiJ1In0=""#);
        assert_eq!(read(&coded), read(SALE));
    }

    #[test]
    fn invalid_cloud_events_are_refused_with_field_and_reason() {
        for (part, other, reason) in [
            (r#""specversion":"1.0","#, "", "specversion: is missing"),
            ("1.0", "0.3", "specversion: must be 1.0"),
            (r#""id":"7","#, "", "id: is missing"),
            (r#""7""#, r#""""#, "id: is missing"),
            (r#""7""#, "null", "id: is missing"),
            (r#""7""#, "{}", "id: expected text, got an object"),
            (r#""/shop""#, r#""/shop","source":"x""#, "source: is given twice"),
            ("sale", "", "type: is missing"),
            ("sale", "\\u0000", "type: contains a NUL character"),
            (r#","data":{"userId":"u"}"#, "", "data: is missing"),
            (r#"{"userId":"u"}"#, "null", "data: is missing"),
            (r#"{"userId":"u"}"#, "[1]", "data: expected an object, got an array"),
            (r#"{"userId":"u"}"#, r#"{},"data":{}"#, "data: is given twice"),
            (r#"{"userId":"u"}"#, r#"{},"data_base64":"e30=""#, "data_base64: is given together with `data`"),
            (r#""data":{"userId":"u"}"#, r#""data_base64":"?""#, "data_base64: is not base64"),
            (r#""data":{"userId":"u"}"#, r#""data_base64":7"#, "data_base64: expected text, got a number"),
            (r#""data":{"userId":"u"}"#, r#""data_base64":"/w==""#, "data_base64: does not contain JSON"),
            (r#""data":{"userId":"u"}"#, r#""data_base64":"NQ==""#, "data: expected an object, got a number"),
            (r#""type""#, r#""time":"soon","type""#, "time: expected a time such as"),
            (r#""type""#, r#""traceParent":"x","type""#, "traceParent: is not an attribute"),
            (r#""type""#, r#""ratio":1.5,"type""#, "ratio: expected text, got a number"),
            (
                r#""type""#,
                r#""datacontenttype":"text/xml","type""#,
                "datacontenttype: must be application/json",
            ),
        ] {
            let error = read(&SALE.replacen(part, other, 1)).expect_err(part);
            assert!(error.starts_with(reason), "{part} {other}: {error}");
        }
        assert_eq!(read("[]"), Err("expected a JSON object, got an array".to_owned()));
        let many: String = (0..300).map(|n| format!(r#""a{n}":1,"#)).collect();
        assert_eq!(
            read(&SALE.replacen('{', &format!("{{{many}"), 1)),
            Err("has more than 256 attributes".to_owned())
        );
    }

    #[test]
    fn headers_and_an_object_give_the_same_event() {
        let head = [("ce-specversion", "1.0"), ("ce-id", "7"), ("ce-source", "/shop"), ("ce-type", "sale")];
        let binary = |more: &[(&'static str, &str)], body: &str| {
            CloudEventMode::Binary
                .read(&headers(&[&head[..], more].concat()), body)
                .map_err(|error| error.to_string())
        };
        assert_eq!(binary(&[("ce-subject", "")], r#" {"userId":"u"} "#), read(SALE));
        let text = binary(&[("ce-subject", r#""a \"b\" \\ %E2%82%AC %zz""#)], "{}").expect("an event").text;
        assert!(text.contains(r#""subject":"a \"b\" \\ € %zz""#), "{text}");
        for (more, body, reason) in [
            (("ce-subject", "%FF"), "{}", "ce-subject: is not valid UTF-8"),
            (("ce-subject", "%00"), "{}", "subject: contains a NUL character"),
            (("ce-id", "8"), "{}", "id: is given twice"),
            (("ce-some-thing", "8"), "{}", "some-thing: is not an attribute"),
            (("ce-subject", "x"), "", "data: is missing"),
            (("ce-subject", "x"), "[]", "data: expected an object, got an array"),
        ] {
            let error = binary(&[more], body).expect_err(reason);
            assert!(error.starts_with(reason), "{error}");
        }
        let mode =
            |pairs: &[(&'static str, &str)], kind| CloudEventMode::of(&headers(pairs), kind).map_err(|_| ());
        assert_eq!(mode(&[], "application/json"), Ok(None));
        assert_eq!(mode(&[], "Application/CloudEvents+JSON"), Ok(Some(CloudEventMode::Structured)));
        assert_eq!(mode(&[], MANY), Ok(Some(CloudEventMode::Batch)));
        assert_eq!(mode(&[("ce-id", "7")], "application/json"), Ok(Some(CloudEventMode::Binary)));
        assert_eq!(mode(&[("ce-id", "7")], "application/vnd.shop+json"), Ok(Some(CloudEventMode::Binary)));
        assert_eq!(mode(&[("ce-id", "7")], "application/x-ndjson"), Err(()));
        assert_eq!(mode(&[("ce-id", "7")], "application/cloudevents+avro"), Err(()));
    }

    proptest! {
        #[test]
        fn events_have_the_same_name_only_if_source_and_id_are_the_same(source in "[a:0]{1,4}", id in "[a:0]{1,4}", other_source in "[a:0]{1,4}", other_id in "[a:0]{1,4}") {
            let name = |source: &str, id: &str| {
                let text = SALE.replace("/shop", source).replace("\"7\"", &json(id));
                read(&text).map(|event| event.name)
            };
            let same = source == other_source && id == other_id;
            prop_assert_eq!(name(&source, &id) == name(&other_source, &other_id), same);
        }
    }
}
