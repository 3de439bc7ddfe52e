//! The settings of a source about the ids of its events, which several kinds of sources have.

use event::SettingErrors;

use crate::http::Access;

/// Which of these settings a source has.
pub struct IdSettings {
    pub access: Access,
    /// `ids = true`: an event's own `id` names it.
    pub ids: bool,
    pub has_id_scope: bool,
    pub has_window: bool,
}

impl IdSettings {
    /// Adds an error for each setting that contradicts another.
    pub fn check(&self, errors: &mut SettingErrors) {
        for (setting, is_set) in [("id_scope", self.has_id_scope), ("window", self.has_window)] {
            if !self.ids && is_set {
                errors.add(&[setting], format!("has no `ids = true`, so `{setting}` would have no effect"));
            }
        }
        if self.access == Access::Open && self.has_id_scope {
            let reason = "is open and has an `id_scope`: anybody could use up the ids of others; set `access = \"key\"`";
            errors.add(&["id_scope"], reason);
        }
    }
}
