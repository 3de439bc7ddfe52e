//! The rules of notifications in the form in which the store keeps them.

use event::{Fields, FilterSection};
use serde::{Deserialize, Serialize};

use super::{MessagePart, NotificationFields, Notifications, Recipient};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationsDefinition {
    to: RecipientDefinition,
    r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    message: Vec<PartDefinition>,
    channel: String,
    #[serde(default, rename = "where", skip_serializing_if = "FilterSection::is_empty")]
    filter: FilterSection,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum RecipientDefinition {
    Field(String),
    Fixed { fixed: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PartDefinition {
    Words(String),
    Field(String),
}

impl Notifications {
    pub fn definition(&self, fields: &Fields) -> NotificationsDefinition {
        let name = |field: usize| fields.get(field).name.clone();
        let part = |part: &MessagePart| match part {
            MessagePart::Words(words) => PartDefinition::Words(words.clone()),
            MessagePart::Field(field) => PartDefinition::Field(name(*field)),
        };
        NotificationsDefinition {
            to: match &self.reads.to {
                Recipient::Field(field) => RecipientDefinition::Field(name(*field)),
                Recipient::Fixed(fixed) => RecipientDefinition::Fixed { fixed: fixed.clone() },
            },
            r#type: name(self.reads.event_type),
            payload: self.reads.payload.map(name),
            message: self.reads.message.iter().map(part).collect(),
            channel: self.channel(),
            filter: self.reads.filter.written().clone(),
        }
    }

    /// Returns the fields that the notifications read.
    pub fn fields_read(&self) -> Vec<usize> {
        self.wanted()
    }
}

impl NotificationsDefinition {
    /// Returns notifications with these rules and the table of `notifications`.
    pub fn build(&self, fields: &Fields, notifications: &Notifications) -> Option<Notifications> {
        let part = |part: &PartDefinition| match part {
            PartDefinition::Words(words) => Some(MessagePart::Words(words.clone())),
            PartDefinition::Field(field) => fields.index_of(field).map(MessagePart::Field),
        };
        let payload = match &self.payload {
            Some(payload) => Some(fields.index_of(payload)?),
            None => None,
        };
        let reads = NotificationFields {
            to: match &self.to {
                RecipientDefinition::Field(field) => Recipient::Field(fields.index_of(field)?),
                RecipientDefinition::Fixed { fixed } => Recipient::Fixed(fixed.clone()),
            },
            event_type: fields.index_of(&self.r#type)?,
            payload,
            message: self.message.iter().map(part).collect::<Option<_>>()?,
            filter: self.filter.build("", fields).ok()?,
        };
        Some(Notifications { reads, ..notifications.clone() })
    }
}
