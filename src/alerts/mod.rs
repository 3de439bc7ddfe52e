//! Alerts: messages for the people who run the server. The server checks a few conditions, and tells a destination when one
//! begins and when it is over. Alerts do not depend on the store: their state is a file in the data folder.

mod condition;
mod message;
mod section;
mod state;
mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use event::Millis;

use crate::destinations::Outcome;

use message::AlertMessage;

pub use section::{AlertSection, AlertSettings};
pub use state::{RaisedAlert, Told};
pub use watch::AlertWatch;

/// The alerts of this server, for the API. Clones share them.
#[derive(Clone)]
pub struct Alerts(Arc<Shared>);

struct Shared {
    /// `None` if the configuration names no destination for alerts.
    settings: Option<AlertSettings>,
    shown: Mutex<ShownAlerts>,
}

/// The alerts that hold or that are not sent yet.
#[derive(Clone, Debug, Default)]
pub struct ShownAlerts {
    /// By condition.
    pub raised: BTreeMap<String, RaisedAlert>,
    /// Why the last attempt to send one failed, if it did.
    pub last_error: Option<String>,
}

impl Alerts {
    pub fn new(settings: Option<AlertSettings>) -> Self {
        Self(Arc::new(Shared { settings, shown: Mutex::default() }))
    }

    pub fn settings(&self) -> Option<&AlertSettings> {
        self.0.settings.as_ref()
    }

    pub fn shown(&self) -> ShownAlerts {
        event::lock(&self.0.shown).clone()
    }

    fn show(&self, shown: ShownAlerts) {
        *event::lock(&self.0.shown) = shown;
    }

    /// Sends a test alert now. Returns `None` if the configuration names no destination.
    pub async fn send_test(&self) -> Option<Outcome> {
        Some(self.settings()?.send(&AlertMessage::test(Millis::now())).await)
    }
}
