//! `[view.NAME]` with `kind = "notifications"`: the recipient and the message of an event's notification.

use std::sync::Arc;

use event::limits::{DESTINATIONS_OF_VIEW_MAX, KEY_CHARS_MAX};
use event::{FilterSection, Kind, SettingErrors, suggestion};
use serde::Deserialize;

use super::{MessagePart, NotificationFields, Notifications, Recipient};
use crate::destinations::{DeclaredDestinations, Destinations, LOG_DESTINATION};
use crate::views::batch_rule::BatchSection;
use crate::views::section::{StreamFields, table_name};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotificationsSection {
    pub from: String,
    table: Option<String>,
    to: RecipientSection,
    r#type: String,
    payload: Option<String>,
    message: String,
    /// The names of the destinations. Without it, notifications are written to the program log.
    deliver: Option<Vec<String>>,
    #[serde(default)]
    r#where: FilterSection,
    pub batch: Option<BatchSection>,
}

/// `to = "FIELD"` or `to = { fixed = "somebody@example.com" }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum RecipientSection {
    Field(String),
    Fixed { fixed: String },
}

impl NotificationsSection {
    /// Builds view `name` on a stream. `destinations` are all that the configuration declares; one with errors has no
    /// value.
    pub fn build(
        &self,
        name: &str,
        stream: StreamFields<'_>,
        destinations: &DeclaredDestinations,
        errors: &mut SettingErrors,
    ) -> Option<Notifications> {
        let to = errors.take(&["to"], self.recipient(stream));
        let event_type = errors.take(&["type"], text(stream, "takes its type from", &self.r#type));
        if let (Some(Recipient::Field(to)), Some(event_type)) = (&to, event_type)
            && *to == event_type
        {
            let reason = format!("takes its recipient and its type from the same field `{}`", self.r#type);
            errors.add(&["type"], reason);
        }
        let payload = match &self.payload {
            None => Some(None),
            Some(payload) => errors.take(&["payload"], any(stream, payload)).map(Some),
        };
        let message = self.message(stream, errors);
        let filter = self.r#where.build(stream.name, stream.fields);
        let filter = filter.map_err(|faults| {
            faults.into_iter().for_each(|(field, reason)| errors.add(&["where", &field], reason));
        });
        let destinations = self.destinations(destinations, errors);
        let table = errors.take(&["table"], table_name(self.table.as_deref(), name));
        let reads = NotificationFields {
            to: to?,
            event_type: event_type?,
            payload: payload?,
            message: message?,
            filter: filter.ok()?,
        };
        Some(Notifications::new(&table?, reads, destinations?))
    }

    fn recipient(&self, stream: StreamFields<'_>) -> Result<Recipient, String> {
        match &self.to {
            RecipientSection::Field(field) => {
                text(stream, "takes its recipient from", field).map(Recipient::Field)
            }
            RecipientSection::Fixed { fixed }
                if fixed.is_empty() || fixed.chars().count() > KEY_CHARS_MAX as usize =>
            {
                Err(format!("has a recipient that is empty or longer than {KEY_CHARS_MAX} characters"))
            }
            RecipientSection::Fixed { fixed } => Ok(Recipient::Fixed(fixed.clone())),
        }
    }

    fn destinations(
        &self,
        declared: &DeclaredDestinations,
        errors: &mut SettingErrors,
    ) -> Option<Destinations> {
        let log = [LOG_DESTINATION.to_owned()];
        let names = self.deliver.as_deref().unwrap_or(&log);
        if names.is_empty() {
            errors.add(
                &["deliver"],
                format!("delivers to no destination; without `deliver`, it is `{LOG_DESTINATION}`"),
            );
        }
        if names.len() > DESTINATIONS_OF_VIEW_MAX {
            errors
                .add(&["deliver"], format!("delivers to more than {DESTINATIONS_OF_VIEW_MAX} destinations"));
        }
        let mut found = Some(Vec::new());
        for (index, name) in names.iter().enumerate() {
            let path = index.to_string();
            if names[..index].contains(name) {
                errors.add(&["deliver", &path], format!("delivers to destination `{name}` twice"));
            }
            match declared.get(name) {
                Some(Some(destination)) => {
                    found.iter_mut().for_each(|list| list.push(Arc::clone(destination)));
                }
                Some(None) => found = None,
                None => {
                    let names = suggestion(name, "destinations", declared.keys().map(String::as_str));
                    errors.add(
                        &["deliver", &path],
                        format!("delivers to destination `{name}`, which is not declared{names}"),
                    );
                    found = None;
                }
            }
        }
        found
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
        assert_eq!((notifications.reads.payload, notifications.table().name.as_str()), (None, "orders"));
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
                format!("to = \"mail\"\ndeliver = [\"lgo\"]\n{rest}"),
                "delivers to destination `lgo`, which is not declared; did you mean `log`?",
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
