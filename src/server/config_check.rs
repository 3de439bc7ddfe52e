//! Checks of the configuration beyond its own words: everything that can be said before the log or the store is opened.
//! `serve` and `config check` both call this, so that they cannot differ.

use std::path::Path;

use super::tls;
use crate::admission::weak_key;
use crate::config::{Config, ConfigErrors, LegacyEnv, Loaded};
use crate::log;
use crate::store::{self, OpenError, Password, StoreInspection};

/// The options of `serve` that change what a configuration may do.
#[derive(Clone, Copy, Default)]
pub struct Exposure {
    /// No source needs a key.
    pub dev: bool,
    /// A proxy in front of the server encrypts.
    pub behind_proxy: bool,
}

/// Returns the configuration and warnings about it. Fails with all errors.
pub fn check_config(
    mut loaded: Loaded,
    legacy_env: &LegacyEnv,
    exposure: Exposure,
) -> Result<(Config, Vec<String>), ConfigErrors> {
    // Without the user's file, the rest of the configuration is not the one that the user means.
    if loaded.is_file_unread {
        return loaded.checked().map(|config| (config, Vec::new()));
    }
    // The URL is empty if it could not be read, which is an error already.
    let log_url = loaded.config.log_url.as_str();
    if !log_url.is_empty()
        && let Err(error) = log::check_url(log_url)
    {
        loaded.refuse(&["log", "url"], error.to_string());
    }
    if let Some(files) = &loaded.config.tls {
        for (setting, error) in tls::faults(files) {
            loaded.refuse(&["tls", setting], format!("`[tls]`: {error}"));
        }
    }
    check_listening(&mut loaded, legacy_env, exposure);
    let warnings = warnings(&loaded.config, exposure);
    loaded.checked().map(|config| (config, warnings))
}

/// Returns what is wrong with the existing tables of all declared views. Creates nothing in the database, not even
/// millrace's own tables. `data` is the data folder, which contains the SQLite file by default. Fails if the store
/// cannot be reached, or if millrace cannot use it at all.
pub async fn inspect_store(config: &Config, data: &Path) -> Result<StoreInspection, OpenError> {
    let password = Password::new(config.store.password.clone());
    let views: Vec<_> = config.views.iter().map(|(name, view)| (name.clone(), view.tables())).collect();
    store::inspect_store(&config.store.url, &password, data, &views).await
}

/// Refuses settings that would expose the server to other machines without protection.
fn check_listening(loaded: &mut Loaded, legacy_env: &LegacyEnv, exposure: Exposure) {
    let addresses = loaded.config.listen.iter().enumerate().filter(|(_, listen)| !listen.is_loopback());
    let addresses: Vec<(String, String, bool)> =
        addresses.map(|(index, listen)| (index.to_string(), listen.to_string(), listen.tls)).collect();
    let Some((first_index, first, _)) = addresses.first() else { return };
    if exposure.dev {
        let reason = format!(
            "`--dev` opens every source and therefore listens on loopback addresses only, not on {first}; start without `--dev`, or listen on `localhost`"
        );
        loaded.refuse(&["listen", first_index], reason);
    }
    for (index, address, _) in addresses.iter().filter(|(_, _, tls)| !tls && !exposure.behind_proxy) {
        let reason = format!(
            "{address} is reachable from other machines but not encrypted; use `https://` with a certificate under `[tls]`, or put a TLS proxy in front and start with `--behind-proxy`"
        );
        loaded.refuse(&["listen", index], reason);
    }
    let opened: Vec<(&str, String)> =
        loaded.config.opened().into_iter().map(|(kind, name)| (kind, name.to_owned())).collect();
    for (kind, name) in opened {
        let reason = format!(
            "{kind} `{name}` is open, and {first} is reachable from other machines; set `access = \"key\"`, or `public = true` to allow this"
        );
        loaded.refuse(&[kind, &name, "access"], reason);
    }
    if legacy_env.api_key.as_deref().is_some_and(weak_key) {
        let reason = format!(
            "`API_KEY` is shorter than 20 characters, and {first} is reachable from other machines; use a longer key, or create one with `millrace key add`"
        );
        loaded.refuse_outside(&legacy_env.key_from(), reason);
    }
}

fn warnings(config: &Config, exposure: Exposure) -> Vec<String> {
    let mut warnings = Vec::new();
    if exposure.dev {
        warnings.push("--dev: every source is open to this machine without a key".to_owned());
    }
    if config.streams.is_empty() {
        warnings.push("no stream is configured, so no event can be accepted; declare one, or turn on presets with a line such as `presets = [\"revenue\"]`".to_owned());
    }
    if config.tls.is_some() && !config.listen.iter().any(|listen| listen.tls) {
        warnings.push("`[tls]` is declared, but no address under `listen` is `https://`".to_owned());
    }
    warnings
}
