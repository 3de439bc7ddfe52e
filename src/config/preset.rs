//! Presets: the contracts of the services that millrace replaces, as configuration files that are built in.

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

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.name == name)
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
