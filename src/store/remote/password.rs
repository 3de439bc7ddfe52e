//! The password for a database server, and where it comes from. Its file is read again at SIGHUP and when the server
//! refuses the login, so a changed password needs no restart.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// Identifies where the store's password comes from. A password in the environment or in a file wins over one in the
/// URL.
#[derive(Clone, PartialEq, Eq)]
pub enum PasswordFrom {
    /// The URL. The text names the setting or variable that the URL comes from, for messages.
    Url(String),
    Environment(String),
    /// A file, with the password that it contained when the configuration was loaded. The file may be read again
    /// later.
    File {
        path: PathBuf,
        password: String,
    },
}

impl Default for PasswordFrom {
    fn default() -> Self {
        Self::Url("`[store] url`".to_owned())
    }
}

/// A shared handle: all clones see the same password. It has no `Debug` because it is a secret. The default is the
/// password in the URL.
#[derive(Clone, Default)]
pub struct Password(Arc<Shared>);

#[derive(Default)]
struct Shared {
    from: Mutex<PasswordFrom>,
    /// The reason why the file could not be read the last time. The same reason is logged only once.
    unreadable: Mutex<Option<String>>,
}

impl Password {
    pub fn new(from: PasswordFrom) -> Self {
        Self(Arc::new(Shared { from: Mutex::new(from), unreadable: Mutex::default() }))
    }

    /// Returns the password; `in_url` is the one in the URL.
    pub fn or(&self, in_url: Option<&str>) -> Option<String> {
        match &*self.lock() {
            PasswordFrom::Url(_) => in_url.map(str::to_owned),
            PasswordFrom::Environment(password) | PasswordFrom::File { password, .. } => {
                Some(password.clone())
            }
        }
    }

    /// Describes where the password comes from, for messages; `in_url` is the one in the URL.
    pub fn describe(&self, in_url: Option<&str>) -> String {
        match &*self.lock() {
            PasswordFrom::Url(url) if in_url.is_some() => format!("the password in {url}"),
            PasswordFrom::Url(_) => {
                "no password; set `password_file` under `[store]`, or `MILLRACE_STORE_PASSWORD`".to_owned()
            }
            PasswordFrom::Environment(_) => "the password in `MILLRACE_STORE_PASSWORD`".to_owned(),
            PasswordFrom::File { path, .. } => {
                format!("the password in `password_file` = `{}`", path.display())
            }
        }
    }

    /// Reads the password file again, if there is one. Keeps the current password if the file cannot be read.
    pub async fn read_again(&self) {
        let PasswordFrom::File { path, .. } = self.lock().clone() else { return };
        let file = path.clone();
        let Ok(read) = tokio::task::spawn_blocking(move || password_in(&file)).await else { return };
        let unreadable = read.as_ref().err().cloned();
        let logged_before = std::mem::replace(&mut *self.unreadable(), unreadable.clone());
        match (read, &mut *self.lock()) {
            (Ok(new), PasswordFrom::File { password, .. }) if new != *password => {
                *password = new;
                tracing::info!(file = %path.display(), "the store's password has changed");
            }
            (Err(reason), _) if logged_before.as_ref() != Some(&reason) => {
                tracing::warn!(file = %path.display(), reason, "cannot read the store's password; using the previous one");
            }
            _ => {}
        }
    }

    /// Reads the file again after the server refused the password `refused`. Returns whether there is now another one
    /// to try; a concurrent call may have read the file already.
    pub async fn reload_differs_from(&self, refused: Option<&str>) -> bool {
        self.read_again().await;
        match &*self.lock() {
            PasswordFrom::File { password, .. } => refused != Some(password),
            PasswordFrom::Url(_) | PasswordFrom::Environment(_) => false,
        }
    }

    fn unreadable(&self) -> MutexGuard<'_, Option<String>> {
        event::lock(&self.0.unreadable)
    }

    fn lock(&self) -> MutexGuard<'_, PasswordFrom> {
        event::lock(&self.0.from)
    }
}

/// Returns the first line of the password file.
pub fn password_in(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("the store's `password_file` cannot be read: {error}"))?;
    match text.lines().next() {
        Some(password) if !password.is_empty() => Ok(password.to_owned()),
        _ => Err("the store's `password_file` has no password in its first line".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_read_again_and_an_unreadable_one_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("password");
        std::fs::write(&path, "new\n").expect("written");
        let from = PasswordFrom::File { path: path.clone(), password: "old".to_owned() };
        let password = Password::new(from);
        assert_eq!(password.or(Some("in the url")).as_deref(), Some("old"));
        assert!(password.reload_differs_from(Some("old")).await);
        assert!(password.reload_differs_from(Some("old")).await, "the new file has been read before");
        assert!(!password.reload_differs_from(Some("new")).await);
        std::fs::remove_file(&path).expect("removed");
        assert!(!password.reload_differs_from(Some("new")).await);
        assert_eq!(password.or(None).as_deref(), Some("new"));
        assert!(password.describe(None).contains(&path.display().to_string()));
        assert!(!password.describe(None).contains("new`"));
    }

    #[tokio::test]
    async fn a_password_in_the_url_is_described_by_where_the_url_is_set() {
        let password = Password::new(PasswordFrom::Url("`DB_URL`".to_owned()));
        assert_eq!(password.or(Some("secret")).as_deref(), Some("secret"));
        assert_eq!(password.describe(Some("secret")), "the password in `DB_URL`");
        assert!(password.describe(None).starts_with("no password"));
        assert!(!password.reload_differs_from(Some("other")).await);
    }
}
