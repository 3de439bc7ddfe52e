//! Presets: the contracts of the services that millrace replaces, as configuration files that are built in.

use super::ConfigError;
use super::location::Declared;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    Revenue,
    Analytics,
    Notifications,
    Inventory,
}

impl Preset {
    pub const ALL: [Self; 4] = [Self::Revenue, Self::Analytics, Self::Notifications, Self::Inventory];

    pub fn name(self) -> &'static str {
        match self {
            Self::Revenue => "revenue",
            Self::Analytics => "analytics",
            Self::Notifications => "notifications",
            Self::Inventory => "inventory",
        }
    }

    pub fn text(self) -> &'static str {
        match self {
            Self::Revenue => include_str!("presets/revenue.toml"),
            Self::Analytics => include_str!("presets/analytics.toml"),
            Self::Notifications => include_str!("presets/notifications.toml"),
            Self::Inventory => include_str!("presets/inventory.toml"),
        }
    }

    /// Returns the presets with these names, in a fixed order.
    pub fn named(names: &Declared<Vec<String>>) -> Result<Vec<Self>, ConfigError> {
        let Declared { value: names, location } = names;
        let is_unknown = |name: &&String| Self::ALL.iter().all(|preset| preset.name() != name.as_str());
        if let Some(unknown) = names.iter().find(is_unknown) {
            let all = Self::ALL.map(Self::name).join(", ");
            let reason = format!("`presets` lists `{unknown}`, which does not exist; the presets are {all}");
            return Err(ConfigError::at(location, reason));
        }
        Ok(Self::ALL.into_iter().filter(|preset| names.iter().any(|name| name == preset.name())).collect())
    }

    /// Returns why a section such as `source.ingest` is incomplete, if a preset declares it: that preset is not on, or the
    /// section would have the rest of its settings.
    pub fn not_on(section: &str) -> Option<String> {
        let header = format!("[{section}]");
        let declares = |preset: &Self| preset.text().lines().any(|line| line == header);
        let preset = Self::ALL.into_iter().find(declares)?.name();
        Some(format!("belongs to preset `{preset}`, which is not on; add `{preset}` to `presets`"))
    }
}
