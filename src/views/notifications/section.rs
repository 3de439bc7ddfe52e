//! `[view.NAME]` with `kind = "notifications"`: the recipient and the message of an event's notification.

use event::limits::KEY_CHARS_MAX;
use event::{Kind, SettingErrors};
use serde::Deserialize;

use super::{MessagePart, NotificationFields, Notifications};
use crate::views::batch_rule::BatchSection;
use crate::views::section::{StreamFields, table_name};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotificationsSection {
    pub from: String,
    table: Option<String>,
    to: String,
    r#type: String,
    payload: Option<String>,
    message: String,
    channel: Option<String>,
    pub batch: Option<BatchSection>,
}

/// Notifications of this channel are written to the log, which needs no other service.
const CHANNEL_DEFAULT: &str = "log";

impl NotificationsSection {
    /// Builds view `name` on a stream.
    pub fn build(
        &self,
        name: &str,
        stream: StreamFields<'_>,
        errors: &mut SettingErrors,
    ) -> Option<Notifications> {
        let to = errors.take(&["to"], text(stream, "takes its recipient from", &self.to));
        let event_type = errors.take(&["type"], text(stream, "takes its type from", &self.r#type));
        if to.is_some() && to == event_type {
            let reason = format!("takes its recipient and its type from the same field `{}`", self.to);
            errors.add(&["type"], reason);
        }
        let payload = match &self.payload {
            None => Some(None),
            Some(payload) => errors.take(&["payload"], any(stream, payload)).map(Some),
        };
        let channel = self.channel.as_deref().unwrap_or(CHANNEL_DEFAULT);
        if channel != CHANNEL_DEFAULT {
            let reason = format!("uses channel `{channel}`; the only channel is `{CHANNEL_DEFAULT}`");
            errors.add(&["channel"], reason);
        }
        let (message, channel) = (self.message(stream, errors), channel.to_owned());
        let table = errors.take(&["table"], table_name(self.table.as_deref(), name));
        let reads = NotificationFields {
            to: to?,
            event_type: event_type?,
            payload: payload?,
            message: message?,
            channel,
        };
        Some(Notifications::new(&table?, reads))
    }

    /// Parses the message: `{field}` stands for the field's value, and a doubled brace for a literal one.
    fn message(&self, stream: StreamFields<'_>, errors: &mut SettingErrors) -> Option<Vec<MessagePart>> {
        let (mut parts, mut words, mut rest) = (Vec::new(), String::new(), self.message.as_str());
        while let Some(at) = rest.find(['{', '}']) {
            words.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                words.push_str(brace);
                rest = after;
                continue;
            }
            let Some((name, after)) = rest.split_once('}').filter(|_| brace == "{") else {
                let reason =
                    format!("has a message with an unmatched `{brace}`; write a literal brace twice");
                errors.add(&["message"], reason);
                return None;
            };
            if !words.is_empty() {
                parts.push(MessagePart::Words(std::mem::take(&mut words)));
            }
            let field = errors.take(&["message"], stream.index("has a message with", name));
            parts.extend(field.map(MessagePart::Field));
            rest = after;
        }
        words.push_str(rest);
        if !words.is_empty() {
            parts.push(MessagePart::Words(words));
        }
        Some(parts)
    }
}

fn text(stream: StreamFields<'_>, use_of_it: &str, name: &str) -> Result<usize, String> {
    let index = stream.index(use_of_it, name)?;
    let field = stream.fields.get(index);
    match field.kind {
        Kind::Text { chars_max, .. } if field.required && chars_max <= KEY_CHARS_MAX => Ok(index),
        _ => Err(format!(
            "{use_of_it} field `{name}`, which must be required text of at most {KEY_CHARS_MAX} characters"
        )),
    }
}

fn any(stream: StreamFields<'_>, name: &str) -> Result<usize, String> {
    let index = stream.index("takes its payload from", name)?;
    match stream.fields.get(index).kind {
        Kind::Any => Ok(index),
        _ => Err(format!("takes its payload from field `{name}`, which must be of type \"any\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Overrides};

    fn load(view: &str) -> Result<Notifications, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.toml");
        let text = format!(
            r#"
            [stream.orders]
            key = "mail"
            fields.mail = {{ type = "text", required = true }}
            fields.sort = {{ type = "text", required = true }}
            fields.sum = {{ type = "decimal" }}
            fields.more = {{ type = "any" }}
            [view.orders]
            kind = "notifications"
            from = "orders"
            {view}"#
        );
        std::fs::write(&path, text).expect("written");
        let config = Config::load(Some(&path), &Overrides::default()).map_err(|error| error.to_string())?;
        Ok(config.views["orders"].notifications().expect("view `orders` is of kind `notifications`").clone())
    }

    #[test]
    fn a_message_has_text_fields_and_doubled_braces() {
        let notifications =
            load("to = \"mail\"\ntype = \"sort\"\nmessage = \"{{{sum}}} for {mail}!\"").expect("valid");
        // Indices count the fields in the order of their names.
        let (words, field) = (|text: &str| MessagePart::Words(text.to_owned()), MessagePart::Field);
        assert_eq!(
            notifications.reads.message,
            [words("{"), field(3), words("} for "), field(0), words("!")]
        );
        assert_eq!((notifications.reads.payload, notifications.table.name.as_str()), (None, "orders"));
        let notifications =
            load("to = \"mail\"\ntype = \"sort\"\npayload = \"more\"\nmessage = \"Thanks\"").expect("valid");
        assert_eq!(
            (notifications.reads.message, notifications.reads.payload),
            (vec![words("Thanks")], Some(1))
        );
    }

    #[test]
    fn invalid_notifications_are_errors() {
        let rest = "type = \"sort\"\nmessage = \"m\"";
        let cases = [
            (
                format!("to = \"who\"\n{rest}"),
                "takes its recipient from field `who`, which stream `orders` does not declare",
            ),
            (format!("to = \"sort\"\n{rest}"), "takes its recipient and its type from the same field `sort`"),
            (
                format!("to = \"sum\"\n{rest}"),
                "takes its recipient from field `sum`, which must be required text",
            ),
            (format!("to = \"mail\"\npayload = \"sort\"\n{rest}"), "which must be of type \"any\""),
            (
                format!("to = \"mail\"\nchannel = \"pigeon\"\n{rest}"),
                "uses channel `pigeon`; the only channel is `log`",
            ),
            (
                "to = \"mail\"\ntype = \"sort\"\nmessage = \"Hello {name}\"".to_owned(),
                "has a message with field `name`, which stream `orders` does not declare",
            ),
            ("to = \"mail\"\ntype = \"sort\"\nmessage = \"Hello {mail\"".to_owned(), "an unmatched `{`"),
            ("to = \"mail\"\ntype = \"sort\"\nmessage = \"Hello mail}\"".to_owned(), "an unmatched `}`"),
            ("type = \"sort\"\nmessage = \"m\"".to_owned(), "needs the setting `to`"),
        ];
        for (text, message) in cases {
            let error = load(&text).expect_err(&text);
            assert!(error.contains(message), "{text}\n  says {error}\n  not {message}");
        }
    }
}
