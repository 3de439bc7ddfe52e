//! `[source.NAME]` with `kind = "socketio"`: one event of one namespace, and its answers.

use std::time::Duration;

use event::{SettingErrors, WrittenDuration};
use serde::Deserialize;

use super::packet::MAIN_NAMESPACE;
use crate::admission::{Refusal, ScopeName};
use crate::http::{Access, ApiError, ContractPath, ErrorTexts, Origins, Wording};
use crate::sources::id_settings::IdSettings;
use crate::sources::template::{AnswerTemplate, GreetingTemplate};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SocketIoSource {
    #[serde(default = "default_path")]
    pub path: ContractPath,
    #[serde(default)]
    pub namespace: Namespace,
    /// The name under which clients send this source's events.
    pub event: EventWord,
    pub stream: String,
    #[serde(default)]
    pub access: Access,
    /// Confirms that an open source may be reached from other machines.
    #[serde(default)]
    pub public: bool,
    /// The `id` of an event names it, so that a client may send it again. Otherwise `id` is data.
    #[serde(default)]
    pub ids: bool,
    /// The scope of the ids. Without it, that of the sender's key.
    pub id_scope: Option<ScopeName>,
    /// How long ids are remembered. Without it, as long as `[dedup]` says.
    pub window: Option<WrittenDuration>,
    /// The answer to an accepted event, for the client's callback and for `answer_event`.
    pub answer: AnswerTemplate,
    /// The name under which the client also gets the answer as an event.
    pub answer_event: Option<EventWord>,
    /// The name under which the client gets refusals.
    #[serde(default = "error_event")]
    pub error_event: EventWord,
    #[serde(default)]
    pub errors: ErrorTexts,
    /// What a client gets when it connects, and under which name.
    pub welcome: Option<GreetingTemplate>,
    pub welcome_event: Option<EventWord>,
    /// The web pages that may connect.
    #[serde(default)]
    pub origins: Origins,
    #[serde(default = "ping_interval")]
    pub ping_interval: WrittenDuration,
    /// How long the answer to a ping may take.
    #[serde(default = "ping_timeout")]
    pub ping_timeout: WrittenDuration,
}

fn default_path() -> ContractPath {
    ContractPath::try_from("/socket.io".to_owned()).expect("a valid path")
}

fn error_event() -> EventWord {
    EventWord("error".to_owned())
}

fn ping_interval() -> WrittenDuration {
    WrittenDuration(Duration::from_secs(25))
}

fn ping_timeout() -> WrittenDuration {
    WrittenDuration(Duration::from_secs(60))
}

/// The namespace of a source: `/`, or a name such as `/shop`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Namespace(String);

impl Default for Namespace {
    fn default() -> Self {
        Self(MAIN_NAMESPACE.to_owned())
    }
}

impl TryFrom<String> for Namespace {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let valid = text.starts_with('/') && !text.contains(|c: char| ",?".contains(c) || c.is_control());
        if valid { Ok(Self(text)) } else { Err(format!("`{text}` is not a namespace such as `/shop`")) }
    }
}

impl Namespace {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of an event of Socket.IO.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct EventWord(String);

/// The names that clients use for their own events.
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

impl TryFrom<String> for EventWord {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() || RESERVED.contains(&text.as_str()) {
            return Err(format!("`{text}` cannot be the name of an event; Socket.IO clients do not send it"));
        }
        Ok(Self(text))
    }
}

impl EventWord {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const PING_DURATION_MIN: Duration = Duration::from_secs(1);
const PING_DURATION_MAX: Duration = Duration::from_secs(600);

impl SocketIoSource {
    /// Adds an error for each setting that contradicts another.
    pub fn check(&self, errors: &mut SettingErrors) {
        let ids = IdSettings {
            access: self.access,
            ids: self.ids,
            has_id_scope: self.id_scope.is_some(),
            has_window: self.window.is_some(),
        };
        ids.check(errors);
        match (&self.welcome, &self.welcome_event) {
            (Some(_), None) => {
                errors.add(&["welcome"], "needs the setting `welcome_event`, the name of the event");
            }
            (None, Some(_)) => {
                errors.add(&["welcome_event"], "needs the setting `welcome`, the content of the event");
            }
            _ => {}
        }
        for (setting, duration) in
            [("ping_interval", self.ping_interval), ("ping_timeout", self.ping_timeout)]
        {
            if !(PING_DURATION_MIN..=PING_DURATION_MAX).contains(&duration.0) {
                errors.add(&[setting], format!("`{setting}` must be between 1s and 10m"));
            }
        }
    }

    /// Returns why these two sources cannot be at one path, if they cannot. A session belongs to a path, and its pings
    /// to all sources there.
    pub fn conflict_at_path(&self, other: &Self) -> Option<String> {
        let (path, event, namespace) = (self.path.as_str(), self.event.as_str(), self.namespace.as_str());
        if (&self.namespace, &self.event) == (&other.namespace, &other.event) {
            return Some(format!("both take event `{event}` in namespace `{namespace}` at path `{path}`"));
        }
        let pings = |source: &Self| (source.ping_interval, source.ping_timeout);
        (pings(self) != pings(other))
            .then(|| format!("have path `{path}`, but not the same `ping_interval` and `ping_timeout`"))
    }

    pub fn wording(&self) -> Wording {
        Wording { key: "message".to_owned(), errors: self.errors.clone() }
    }

    /// Returns the message for a client whose event is refused.
    pub fn words(&self, error: &ApiError) -> String {
        self.wording().own_words(error).unwrap_or_else(|| match error {
            ApiError::Refused(Refusal::Unauthorized { fault, .. }) => {
                format!("{}; send a key as `token` in `auth`", fault.as_str())
            }
            other => other.detail(),
        })
    }
}
