//! Section `[store]`: where the views live, and where the password for it is.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ConfigError;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSection {
    pub url: Option<String>,
    password_file: Option<PathBuf>,
}

/// A store's place. Its URL may hold a password, too: neither is ever shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoreAt {
    pub url: String,
    /// Wins over the one in the URL.
    pub password: Option<String>,
}

impl fmt::Debug for StoreAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.split_inclusive(':').next().unwrap_or_default())
    }
}

impl StoreSection {
    /// Line by line: a URL that is named elsewhere may have its password in the file that is named here.
    pub fn over(self, other: Self) -> Self {
        Self { url: self.url.or(other.url), password_file: self.password_file.or(other.password_file) }
    }

    /// The environment's own, if there is one, needs no file.
    pub fn check(&self, url: Option<&str>, password: Option<&str>) -> Result<StoreAt, ConfigError> {
        let password = match (password, &self.password_file) {
            (Some(password), _) => Some(password.to_owned()),
            (None, Some(file)) => Some(password_in(file)?),
            (None, None) => None,
        };
        let url = url.or(self.url.as_deref()).unwrap_or_default().to_owned();
        Ok(StoreAt { url, password })
    }
}

/// Its first line.
fn password_in(file: &Path) -> Result<String, ConfigError> {
    let unreadable = |reason: String| ConfigError::Unreadable {
        path: file.to_owned(),
        reason: format!("the store's `password_file` {reason}"),
    };
    let text =
        std::fs::read_to_string(file).map_err(|error| unreadable(format!("cannot be read: {error}")))?;
    match text.lines().next() {
        Some(password) if !password.is_empty() => Ok(password.to_owned()),
        _ => Err(unreadable("has no password in its first line".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_comes_from_the_environment_or_a_file_and_is_not_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("password");
        std::fs::write(&file, "secret\nmore\n").expect("written");
        let section =
            || StoreSection { url: Some("mysql://u@h/d".to_owned()), password_file: Some(file.clone()) };
        let store = section().check(None, None).expect("sound");
        assert_eq!((store.url.as_str(), store.password.as_deref()), ("mysql://u@h/d", Some("secret")));
        let store = section().check(Some("postgres://u:hidden@h/d"), Some("given")).expect("sound");
        assert_eq!(store.password.as_deref(), Some("given"));
        assert_eq!(format!("{store:?}"), "postgres:");
        let both = StoreSection { url: Some("sqlite:".to_owned()), password_file: None }.over(section());
        assert_eq!(
            (both.url.as_deref(), both.password_file.as_deref()),
            (Some("sqlite:"), Some(file.as_path()))
        );
        for (text, reason) in [("", "has no password"), ("\nsecret", "has no password")] {
            std::fs::write(&file, text).expect("written");
            let refusal = section().check(None, None).expect_err(text).to_string();
            assert!(refusal.contains(reason) && !refusal.contains("secret"), "{refusal}");
        }
        std::fs::remove_file(&file).expect("gone");
        let refusal = section().check(None, None).expect_err("no file").to_string();
        assert!(refusal.contains("`password_file` cannot be read"), "{refusal}");
    }
}
