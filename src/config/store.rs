//! `[store]`: the database of the views, and where its password comes from.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use crate::store::{PasswordFrom, password_in};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSection {
    pub url: Option<String>,
    password_file: Option<PathBuf>,
}

/// The address of a store and its password. The URL may contain a password, too, so neither is ever shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoreAt {
    pub url: String,
    pub password: PasswordFrom,
}

impl fmt::Debug for StoreAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.split_inclusive(':').next().unwrap_or_default())
    }
}

impl StoreSection {
    /// `url_in` names the setting or variable that the URL comes from. With a `password` from the environment, the file
    /// is not read. Fails if the file cannot be used.
    pub fn check(&self, url_in: &str, password: Option<&str>) -> Result<StoreAt, String> {
        let password = match (password, &self.password_file) {
            (Some(password), _) => PasswordFrom::Environment(password.to_owned()),
            (None, Some(path)) => {
                let wrong = |reason: String| format!("{reason} (file `{}`)", path.display());
                PasswordFrom::File { path: path.clone(), password: password_in(path).map_err(wrong)? }
            }
            (None, None) => PasswordFrom::Url(url_in.to_owned()),
        };
        Ok(StoreAt { url: self.url.clone().unwrap_or_default(), password })
    }
}

/// Options of a URL whose values are not secret.
const HARMLESS_OPTIONS: [&str; 6] = ["host", "socket", "sslmode", "ssl-mode", "sslrootcert", "ssl-ca"];

/// Returns a store's URL as it may be shown: `***` replaces the password, and every part that may contain one.
pub fn without_password(url: &str) -> String {
    if url.is_empty() || url.starts_with("sqlite:") {
        return url.to_owned();
    }
    let (scheme, rest) = match url.split_once(':') {
        Some((scheme, rest)) if ["postgres", "postgresql", "mysql", "mariadb"].contains(&scheme) => {
            (scheme, rest)
        }
        _ => return "***".to_owned(),
    };
    redacted(rest).map_or_else(|| format!("{scheme}:***"), |shown| format!("{scheme}://{shown}"))
}

/// Returns the URL without its scheme and password; `None` if it is not certain which part is the password.
fn redacted(rest: &str) -> Option<String> {
    let rest = rest.strip_prefix("//")?;
    let (address, query) =
        rest.split_once('?').map_or((rest, None), |(address, query)| (address, Some(query)));
    let (authority, path) = address.split_once('/').unwrap_or((address, ""));
    if path.contains('@') || query.is_some_and(|query| query.contains('@')) {
        return None;
    }
    let (account, hosts) =
        authority.rsplit_once('@').map_or((None, authority), |(a, hosts)| (Some(a), hosts));
    let port = |host: &str| match host.rsplit_once(':') {
        Some((_, port)) => host.ends_with(']') || port.bytes().all(|byte| byte.is_ascii_digit()),
        None => true,
    };
    if !hosts.split(',').all(port) {
        return None;
    }
    let mut shown = match account.map(|account| account.split_once(':').ok_or(account)) {
        Some(Ok((user, _))) => format!("{user}:***@"),
        Some(Err(user)) => format!("{user}@"),
        None => String::new(),
    };
    shown.push_str(&address[authority.len() - hosts.len()..]);
    for (at, option) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        let name = option.split_once('=').map_or("", |(name, _)| name);
        shown.push(if at == 0 { '?' } else { '&' });
        if HARMLESS_OPTIONS.contains(&name) { shown.push_str(option) } else { shown.push_str("***") }
    }
    Some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_comes_from_the_environment_or_a_file_and_is_not_shown() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("password");
        std::fs::write(&file, "secret\nmore\n").expect("written");
        let url = "postgres://u:hidden@h/d".to_owned();
        let section = StoreSection { url: Some(url), password_file: Some(file.clone()) };
        let check = |password| section.check("`DB_URL`", password);
        let store = check(None).expect("valid");
        let in_file = PasswordFrom::File { path: file.clone(), password: "secret".to_owned() };
        assert!(store.url == "postgres://u:hidden@h/d" && store.password == in_file);
        assert_eq!(format!("{store:?}"), "postgres:");
        let given = check(Some("given")).expect("valid").password;
        assert!(given == PasswordFrom::Environment("given".to_owned()));
        let in_url = StoreSection::default().check("`DB_URL`", None).expect("valid");
        assert!(in_url.password == PasswordFrom::Url("`DB_URL`".to_owned()));
        for (text, reason) in [("", "has no password"), ("\nsecret", "has no password")] {
            std::fs::write(&file, text).expect("written");
            let refusal = check(None).expect_err(text);
            assert!(refusal.contains(reason) && !refusal.contains("secret"), "{refusal}");
        }
        std::fs::remove_file(&file).expect("gone");
        let refusal = check(None).expect_err("no file");
        assert!(refusal.contains("`password_file` cannot be read"), "{refusal}");
    }
    #[test]
    fn a_url_is_shown_without_what_may_be_its_password() {
        for (url, shown) in [
            ("sqlite:", "sqlite:"),
            ("sqlite:/srv/a@b.db", "sqlite:/srv/a@b.db"),
            ("postgres://h/d", "postgres://h/d"),
            ("postgres://u@h:5432/d?sslmode=require", "postgres://u@h:5432/d?sslmode=require"),
            ("postgres://u:secret@h/d?sslmode=require", "postgres://u:***@h/d?sslmode=require"),
            ("mysql://u:@h/d", "mysql://u:***@h/d"),
            ("mysql://u:se:cr@et@h/d", "mysql://u:***@h/d"),
            ("mysql://u:sec/ret@h/d", "mysql:***"),
            ("mysql://u:sec?ret@h/d", "mysql:***"),
            ("mysql://:secret@h/d", "mysql://:***@h/d"),
            ("mysql://u:secret", "mysql:***"),
            ("mysql:u:secret@h/d", "mysql:***"),
            ("postgres:/u:secret@h/d", "postgres:***"),
            ("postgres://u:secret@[::1]:5432,h2/d", "postgres://u:***@[::1]:5432,h2/d"),
            ("postgres://u@[::1]/d?host=/run/pg", "postgres://u@[::1]/d?host=/run/pg"),
            ("postgres://h/d?pwd=secret&sslmode=require", "postgres://h/d?***&sslmode=require"),
            ("postgres://h/d?%70assword=secret", "postgres://h/d?***"),
            ("secret", "***"),
            ("pa$$word@host:5432/db", "***"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}
