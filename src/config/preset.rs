//! Presets: the contracts of the services that millrace replaces, as configuration files that are built in.

use super::ConfigError;
use super::location::Declared;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    pub name: &'static str,
    pub text: &'static str,
}

impl Preset {
    pub const ALL: [Self; 4] = [
        Self { name: "revenue", text: include_str!("presets/revenue.toml") },
        Self { name: "analytics", text: include_str!("presets/analytics.toml") },
        Self { name: "notifications", text: include_str!("presets/notifications.toml") },
        Self { name: "inventory", text: include_str!("presets/inventory.toml") },
    ];

    /// Returns the presets with these names, in a fixed order.
    pub fn named(names: &Declared<Vec<String>>) -> Result<Vec<Self>, ConfigError> {
        let Declared { value: names, location } = names;
        let is_unknown = |name: &&String| Self::ALL.iter().all(|preset| preset.name != name.as_str());
        if let Some(unknown) = names.iter().find(is_unknown) {
            let all = Self::ALL.map(|preset| preset.name).join(", ");
            let reason = format!("`presets` lists `{unknown}`, which does not exist; the presets are {all}");
            return Err(ConfigError::at(location, reason));
        }
        Ok(Self::ALL.into_iter().filter(|preset| names.iter().any(|name| name == preset.name)).collect())
    }

    /// Returns the name of the preset's file in errors.
    pub fn file_name(self) -> String {
        format!("preset {}", self.name)
    }

    /// Returns the preset that declares a section such as `source.ingest`.
    pub fn declaring(section: &str) -> Option<Self> {
        let header = format!("[{section}]");
        Self::ALL.into_iter().find(|preset| preset.text.lines().any(|line| line == header))
    }

    /// Returns why a section that the preset declares is incomplete.
    pub fn is_not_on(self) -> String {
        let name = self.name;
        format!("belongs to preset `{name}`, which is not on; add `{name}` to `presets`")
    }
}
