//! The password for a database server, and where it comes from, for messages. Its file is read again when the
//! process is told to (SIGHUP), and when the server refused it: whoever changes a password need not restart.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::{PasswordFrom, password_in};

/// Clones share it. Without `Debug`: it is a secret. By default it is the one in the URL.
#[derive(Clone, Default)]
pub struct Password(Arc<Shared>);

#[derive(Default)]
struct Shared {
    from: Mutex<PasswordFrom>,
    /// Why its file could not be read the last time, which is said once.
    unreadable: Mutex<Option<String>>,
}

impl Password {
    pub fn new(from: PasswordFrom) -> Self {
        Self(Arc::new(Shared { from: Mutex::new(from), unreadable: Mutex::default() }))
    }

    /// Returns the password; `in_url` is the one of the URL.
    pub fn or(&self, in_url: Option<&str>) -> Option<String> {
        match &*self.lock() {
            PasswordFrom::Url(_) => in_url.map(str::to_owned),
            PasswordFrom::Environment(password) | PasswordFrom::File { password, .. } => {
                Some(password.clone())
            }
        }
    }

    /// Says where it comes from; `in_url` is the one of the URL.
    pub fn place(&self, in_url: Option<&str>) -> String {
        match &*self.lock() {
            PasswordFrom::Url(url) if in_url.is_some() => format!("the password in {url}"),
            PasswordFrom::Url(_) => {
                "no password; name a `password_file` under `[store]`, or set `MILLRACE_STORE_PASSWORD`"
                    .to_owned()
            }
            PasswordFrom::Environment(_) => "the password in `MILLRACE_STORE_PASSWORD`".to_owned(),
            PasswordFrom::File { path, .. } => {
                format!("the password in `password_file` = `{}`", path.display())
            }
        }
    }

    /// Reads the file again, if it comes from one. A file that cannot be read leaves it as it was.
    pub async fn read_again(&self) {
        let PasswordFrom::File { path, .. } = self.lock().clone() else { return };
        let file = path.clone();
        let Ok(read) = tokio::task::spawn_blocking(move || password_in(&file)).await else { return };
        let unreadable = read.as_ref().err().cloned();
        let said_before = std::mem::replace(&mut *self.unreadable(), unreadable.clone());
        match (read, &mut *self.lock()) {
            (Ok(new), PasswordFrom::File { password, .. }) if new != *password => {
                *password = new;
                tracing::info!(file = %path.display(), "the store's password has changed");
            }
            (Err(reason), _) if said_before.as_ref() != Some(&reason) => {
                tracing::warn!(file = %path.display(), reason, "the previous password of the store stays in use");
            }
            _ => {}
        }
    }

    /// Reads the file again after a login was refused with `refused`. Returns whether there is another password to
    /// try, be it that somebody else has read it meanwhile.
    pub async fn another_than(&self, refused: Option<&str>) -> bool {
        self.read_again().await;
        match &*self.lock() {
            PasswordFrom::File { password, .. } => refused != Some(password),
            PasswordFrom::Url(_) | PasswordFrom::Environment(_) => false,
        }
    }

    fn unreadable(&self) -> MutexGuard<'_, Option<String>> {
        self.0.unreadable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, PasswordFrom> {
        self.0.from.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_read_again_and_what_cannot_be_read_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("password");
        std::fs::write(&path, "new\n").expect("written");
        let from = PasswordFrom::File { path: path.clone(), password: "old".to_owned() };
        let password = Password::new(from);
        assert_eq!(password.or(Some("in the url")).as_deref(), Some("old"));
        assert!(password.another_than(Some("old")).await);
        assert!(password.another_than(Some("old")).await, "somebody else has read it already");
        assert!(!password.another_than(Some("new")).await);
        std::fs::remove_file(&path).expect("removed");
        assert!(!password.another_than(Some("new")).await);
        assert_eq!(password.or(None).as_deref(), Some("new"));
        assert!(password.place(None).contains(&path.display().to_string()));
        assert!(!password.place(None).contains("new`"));
    }

    #[tokio::test]
    async fn a_password_of_the_url_is_named_by_the_place_of_the_url() {
        let password = Password::new(PasswordFrom::Url("`DB_URL`".to_owned()));
        assert_eq!(password.or(Some("secret")).as_deref(), Some("secret"));
        assert_eq!(password.place(Some("secret")), "the password in `DB_URL`");
        assert!(password.place(None).starts_with("no password"));
        assert!(!password.another_than(Some("other")).await);
    }
}
