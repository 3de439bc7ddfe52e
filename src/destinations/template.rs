//! Templates of mails, URLs and bodies: compiled once at start, and bounded in their work and in the size of their
//! result. A name that does not exist is an error, so that nobody gets a mail with a gap.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use event::limits::{CONTENT_BYTES_MAX, TEMPLATE_BYTES_MAX, TEMPLATE_FUEL_MAX};
use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value};
use serde_json::value::RawValue;

use super::notice::Notice;

/// How a value is written into the text around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// As it is.
    Plain,
    Html,
    /// As JSON, text in quotes.
    Json,
    /// Percent-encoded.
    Url,
}

#[derive(Clone)]
pub struct Template(Arc<Environment<'static>>);

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.get_template(NAME) {
            Ok(template) => f.write_str(template.source()),
            Err(_) => Ok(()),
        }
    }
}

const NAME: &str = "template";

impl Template {
    /// Fails with the reason if the text is not a valid template.
    pub fn compile(text: &str, escape: Escape) -> Result<Self, String> {
        if text.len() > TEMPLATE_BYTES_MAX {
            return Err(format!("is a template of more than {TEMPLATE_BYTES_MAX} bytes"));
        }
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(TEMPLATE_FUEL_MAX));
        environment.set_recursion_limit(50);
        environment.set_auto_escape_callback(move |_| match escape {
            Escape::Html => AutoEscape::Html,
            // The formatter below writes these.
            Escape::Plain | Escape::Json | Escape::Url => AutoEscape::None,
        });
        environment.set_formatter(move |output, state, value| write_value(output, state, value, escape));
        environment
            .add_template_owned(NAME, text.to_owned())
            .map_err(|error| format!("is not a valid template: {}", described(&error)))?;
        Ok(Self(Arc::new(environment)))
    }

    /// Returns the text for a notification. Fails with the reason if the template cannot be rendered.
    pub fn render(&self, notice: &Notice<'_>) -> Result<String, String> {
        let mut text = Bounded(Vec::new());
        let template = self.0.get_template(NAME).map_err(|error| described(&error))?;
        match template.render_captured_to(context(notice), &mut text) {
            Ok(_) => String::from_utf8(text.0).map_err(|error| error.to_string()),
            Err(error) if error.kind() == ErrorKind::WriteFailure => {
                Err(format!("the result is larger than {CONTENT_BYTES_MAX} bytes"))
            }
            Err(error) if error.kind() == ErrorKind::OutOfFuel => {
                Err("the template does more work than is allowed".to_owned())
            }
            Err(error) => Err(described(&error)),
        }
    }
}

/// A text that does not grow beyond the largest content.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > CONTENT_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the values that a template can name.
fn context(notice: &Notice<'_>) -> Value {
    let text = |text: &str| Value::from(text);
    let values = [
        ("id", text(notice.id)),
        ("event_id", text(notice.event_id)),
        ("type", text(notice.event_type)),
        ("recipient", text(notice.recipient)),
        ("message", text(notice.message)),
        ("view", text(notice.view)),
        ("created", text(&notice.created.to_text())),
        ("payload", value_of(notice.payload)),
        ("event", value_of(notice.event)),
    ];
    Value::from(BTreeMap::from(values))
}

/// Converts JSON. A number that is not a small integer stays the text that was sent, with all its digits.
fn value_of(json: &str) -> Value {
    let text = json.trim_start();
    match text.as_bytes().first() {
        Some(b'{') => match serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(text) {
            Ok(members) => {
                let members = members.into_iter().map(|(name, value)| (name, value_of(value.get())));
                Value::from(members.collect::<BTreeMap<String, Value>>())
            }
            Err(_) => Value::from(()),
        },
        Some(b'[') => match serde_json::from_str::<Vec<Box<RawValue>>>(text) {
            Ok(values) => values.iter().map(|value| value_of(value.get())).collect::<Vec<_>>().into(),
            Err(_) => Value::from(()),
        },
        Some(b'"') => serde_json::from_str::<String>(text).map_or(Value::from(()), Value::from),
        Some(b't' | b'f') => Value::from(text.starts_with('t')),
        Some(b'-' | b'0'..=b'9') => match text.trim_end().parse::<i64>() {
            Ok(number) => Value::from(number),
            Err(_) => Value::from_safe_string(text.trim_end().to_owned()),
        },
        _ => Value::from(()),
    }
}

fn write_value(
    output: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
    escape: Escape,
) -> Result<(), Error> {
    let written = |error: std::fmt::Error| Error::from(error);
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    if escape == Escape::Json {
        let mut text = String::new();
        push_json(&mut text, value)?;
        return output.write_str(&text).map_err(written);
    }
    if value.is_none() {
        return Ok(());
    }
    if escape == Escape::Url {
        let text = value.to_string();
        return output.write_str(&event::percent_encode(&text)).map_err(written);
    }
    minijinja::escape_formatter(output, state, value)
}

fn push_json(text: &mut String, value: &Value) -> Result<(), Error> {
    match value.kind() {
        // The digits of a number.
        ValueKind::String if value.is_safe() => text.push_str(value.as_str().unwrap_or_default()),
        ValueKind::Seq | ValueKind::Iterable => {
            text.push('[');
            for (index, one) in value.try_iter()?.enumerate() {
                text.push_str(if index > 0 { "," } else { "" });
                push_json(text, &one)?;
            }
            text.push(']');
        }
        ValueKind::Map => {
            text.push('{');
            for (index, name) in value.try_iter()?.enumerate() {
                text.push_str(if index > 0 { "," } else { "" });
                text.push_str(&serde_json::Value::from(name.to_string()).to_string());
                text.push(':');
                push_json(text, &value.get_item(&name)?)?;
            }
            text.push('}');
        }
        _ => {
            let json = serde_json::to_string(value);
            text.push_str(&json.map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?);
        }
    }
    Ok(())
}

/// Returns the reason of an error with its line, without the values of an event.
fn described(error: &Error) -> String {
    let reason = match (error.kind(), error.detail()) {
        (ErrorKind::UndefinedError, _) => "a value is missing".to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    let line = error.line().map(|line| format!(" (line {line} of the template)")).unwrap_or_default();
    reason + &line
}

#[cfg(test)]
mod tests {
    use event::Millis;

    use super::*;

    fn notice(payload: &str) -> Notice<'_> {
        Notice {
            id: "notif-1",
            event_id: "1",
            event_type: "paid & done",
            recipient: "a@b.example",
            message: "Hello <you>",
            view: "mails",
            created: Millis(1_767_225_600_000),
            payload,
            event: r#"{"a":1}"#,
        }
    }

    const PAYLOAD: &str =
        r#"{"name":"A \"B\" <c>","sum":10.50,"list":[1,2.0],"none":null,"big":12345678901234567890}"#;

    fn render(text: &str, escape: Escape) -> Result<String, String> {
        Template::compile(text, escape).expect(text).render(&notice(PAYLOAD))
    }

    #[test]
    fn values_are_escaped_for_the_text_around_them_and_keep_their_digits() {
        for (escape, text, rendered) in [
            (
                Escape::Plain,
                "{{ payload.name }} {{ payload.sum }} {{ payload.none }}|{{ payload.big }}",
                "A \"B\" <c> 10.50 |12345678901234567890",
            ),
            (
                Escape::Html,
                "<b>{{ payload.name }}</b>{{ payload.sum }}",
                "<b>A &quot;B&quot; &lt;c&gt;</b>10.50",
            ),
            (
                Escape::Json,
                r#"{"n":{{ payload.name }},"s":{{ payload.sum }},"l":{{ payload.list }},"0":{{ payload.none }}}"#,
                r#"{"n":"A \"B\" <c>","s":10.50,"l":[1,2.0],"0":null}"#,
            ),
            (
                Escape::Url,
                "https://a.example/{{ type }}?id={{ id }}",
                "https://a.example/paid%20%26%20done?id=notif-1",
            ),
            (
                Escape::Plain,
                "{% if event.a == 1 %}{{ created }}{% endif %}{% for one in payload.list %}[{{ one }}]{% endfor %}",
                "2026-01-01T00:00:00.000Z[1][2.0]",
            ),
        ] {
            assert_eq!(render(text, escape).as_deref(), Ok(rendered), "{text}");
        }
        assert_eq!(
            render("{{ payload }}", Escape::Json).as_deref(),
            Ok(r#"{"big":12345678901234567890,"list":[1,2.0],"name":"A \"B\" <c>","none":null,"sum":10.50}"#)
        );
    }

    #[test]
    fn a_missing_value_endless_work_and_a_huge_result_are_errors() {
        for (text, reason) in [
            ("{{ payload.nobody }}", "a value is missing (line 1"),
            ("{{ nobody }}", "a value is missing"),
            (
                "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
                "more work than",
            ),
            (
                "{% for a in range(9000) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}",
                "larger than",
            ),
        ] {
            let error = render(text, Escape::Plain).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
        let error = Template::compile("{{ a", Escape::Plain).expect_err("broken");
        assert!(error.contains("is not a valid template"), "{error}");
    }
}
