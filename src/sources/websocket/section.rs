//! `[source.NAME]` with `kind = "websocket"`.

use event::{SettingErrors, WrittenDuration};
use serde::Deserialize;

use crate::admission::ScopeName;
use crate::http::{Access, ContractPath, Origins, Wording};
use crate::sources::id_settings::IdSettings;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebSocketSource {
    pub path: ContractPath,
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
    /// The web pages that may connect.
    #[serde(default)]
    pub origins: Origins,
}

impl WebSocketSource {
    /// Adds an error for each setting that contradicts another.
    pub fn check(&self, errors: &mut SettingErrors) {
        let ids = IdSettings {
            access: self.access,
            ids: self.ids,
            has_id_scope: self.id_scope.is_some(),
            has_window: self.window.is_some(),
        };
        ids.check(errors);
    }

    pub fn wording(&self) -> Wording {
        Wording::under("error")
    }
}
