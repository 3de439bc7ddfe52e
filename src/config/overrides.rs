//! Settings from the command line and the environment.

use super::LegacyEnv;

/// Settings that win over files. There is no `Debug`, because a URL may contain a password.
#[derive(Clone, Default)]
pub struct Overrides {
    pub listen: Vec<String>,
    pub log_url: Option<String>,
    pub store_url: Option<String>,
    pub store_password: Option<String>,
    /// The variables of the replaced services. Their port wins over the user's file, but their store does not.
    pub legacy_env: LegacyEnv,
}
