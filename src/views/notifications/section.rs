//! `[view.NAME]` with `kind = "notifications"`: the recipient and the message of an event's notification.

use event::limits::KEY_CHARS_MAX;
use event::{Fields, Kind};
use serde::Deserialize;

use super::{MessagePart, NotificationFields, Notifications};
use crate::views::section::{field_index, table_name};

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
}

/// Notifications of this channel are written to the log, which needs no other service.
const CHANNEL_DEFAULT: &str = "log";

impl NotificationsSection {
    /// Builds view `name` on a stream with these fields.
    pub fn build(&self, name: &str, fields: &Fields) -> Result<Notifications, String> {
        let to = self.text(fields, "takes its recipient from", &self.to)?;
        let event_type = self.text(fields, "takes its type from", &self.r#type)?;
        if to == event_type {
            return Err(format!("takes its recipient and its type from the same field `{}`", self.to));
        }
        let payload = match &self.payload {
            None => None,
            Some(payload) => {
                let field = field_index(fields, &self.from, "takes its payload from", payload)?;
                if fields.get(field).kind != Kind::Any {
                    return Err(format!(
                        "takes its payload from field `{payload}`, which must be of type \"any\""
                    ));
                }
                Some(field)
            }
        };
        let channel = self.channel.as_deref().unwrap_or(CHANNEL_DEFAULT);
        if channel != CHANNEL_DEFAULT {
            return Err(format!("uses channel `{channel}`; the only channel is `{CHANNEL_DEFAULT}`"));
        }
        let (message, channel) = (self.message(fields)?, channel.to_owned());
        let reads = NotificationFields { to, event_type, payload, message, channel };
        Ok(Notifications::new(&table_name(self.table.as_deref(), name)?, reads))
    }

    fn text(&self, fields: &Fields, use_of_it: &str, name: &str) -> Result<usize, String> {
        let index = field_index(fields, &self.from, use_of_it, name)?;
        let field = fields.get(index);
        match field.kind {
            Kind::Text { chars_max, .. } if field.required && chars_max <= KEY_CHARS_MAX => Ok(index),
            _ => Err(format!(
                "{use_of_it} field `{name}`, which must be required text of at most {KEY_CHARS_MAX} characters"
            )),
        }
    }

    /// Parses the message: `{field}` stands for the field's value, and a doubled brace for a literal one.
    fn message(&self, fields: &Fields) -> Result<Vec<MessagePart>, String> {
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
            let name = rest.split_once('}').filter(|_| brace == "{");
            let (name, after) = name.ok_or_else(|| {
                format!("has a message with an unmatched `{brace}`; write a literal brace twice")
            })?;
            let field = field_index(fields, &self.from, "has a message with", name)?;
            if !words.is_empty() {
                parts.push(MessagePart::Words(std::mem::take(&mut words)));
            }
            parts.push(MessagePart::Field(field));
            rest = after;
        }
        words.push_str(rest);
        if !words.is_empty() {
            parts.push(MessagePart::Words(words));
        }
        Ok(parts)
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
            ("type = \"sort\"\nmessage = \"m\"".to_owned(), "missing field `to`"),
        ];
        for (text, message) in cases {
            let error = load(&text).expect_err(&text);
            assert!(error.contains(message), "{text}\n  says {error}\n  not {message}");
        }
    }
}
