//! Secrets in the configuration: written there, in a file, or in an environment variable. They are never shown.

use std::fmt;
use std::path::{Path, PathBuf};

use event::SettingErrors;
use serde::Deserialize;

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretText(pub String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The three settings of a secret, of which a section has at most one.
pub struct SecretSettings<'a> {
    /// The name of the setting that has the secret itself; the others are called after it.
    pub name: &'static str,
    pub written: Vec<String>,
    pub file: Option<&'a PathBuf>,
    pub variable: Option<&'a String>,
}

impl SecretSettings<'_> {
    /// Returns the secrets: of a file or a variable one in each line. Adds an error if they cannot be read.
    pub fn read(self, errors: &mut SettingErrors) -> Vec<String> {
        let (file, variable) = (format!("{}_file", self.name), format!("{}_env", self.name));
        let given = [!self.written.is_empty(), self.file.is_some(), self.variable.is_some()];
        if given.iter().filter(|given| **given).count() > 1 {
            let reason = format!("has more than one of `{}`, `{file}` and `{variable}`; keep one", self.name);
            errors.add(&[self.name], reason);
        }
        let lines = |text: String| -> Vec<String> {
            text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
        };
        match (self.file, self.variable) {
            (Some(path), _) => errors.take(&[&file], text_of(path, &file).map(lines)).unwrap_or_default(),
            (None, Some(name)) => {
                let missing = |_| format!("has `{variable}`, but the variable `{name}` is not set");
                errors.take(&[&variable], std::env::var(name).map_err(missing).map(lines)).unwrap_or_default()
            }
            (None, None) => self.written,
        }
    }
}

fn text_of(path: &Path, setting: &str) -> Result<String, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("has `{setting}`, but `{shown}` cannot be read: {error}"))?;
    if text.trim().is_empty() { Err(format!("has `{setting}`, but `{shown}` is empty")) } else { Ok(text) }
}
