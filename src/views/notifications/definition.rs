//! The rules of notifications in the form in which the store keeps them.

use event::Fields;
use serde::{Deserialize, Serialize};

use super::{MessagePart, NotificationFields, Notifications};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationsDefinition {
    to: String,
    r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    message: Vec<PartDefinition>,
    channel: String,
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
            to: name(self.reads.to),
            r#type: name(self.reads.event_type),
            payload: self.reads.payload.map(name),
            message: self.reads.message.iter().map(part).collect(),
            channel: self.reads.channel.clone(),
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
            to: fields.index_of(&self.to)?,
            event_type: fields.index_of(&self.r#type)?,
            payload,
            message: self.message.iter().map(part).collect::<Option<_>>()?,
            channel: self.channel.clone(),
        };
        Some(Notifications { reads, ..notifications.clone() })
    }
}
