//! The URL of a database server, split into its parts. Not by the crate `url`, which refuses several hosts and the
//! folder of a socket in the place of a host.

use event::percent_decode_strict;

/// The parts of `SCHEME://user:password@hosts/database?option=value`, decoded except for the hosts. There is no `Debug`,
/// because they contain a password.
pub struct ServerUrl<'a> {
    pub user: String,
    pub password: Option<String>,
    pub hosts: &'a str,
    pub database: String,
    options: Vec<(String, String)>,
}

impl<'a> ServerUrl<'a> {
    /// Fails if the URL has an option that is not among `options`. No message shows a part that may be the password.
    pub fn parse(url: &'a str, options: &[&str]) -> Result<Self, String> {
        let (_, rest) = url.split_once("://").ok_or("has no `://` after its scheme")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (account, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match account.split_once(':') {
            Some((user, password)) => (user, Some(decoded(password, "password")?)),
            None => (account, None),
        };
        if path.contains('@') {
            return Err(
                "has an `@` after its first `/`; in a password, write `%2F` for `/` and `%3F` for `?`"
                    .to_owned(),
            );
        }
        let (user, database) = (decoded(user, "user")?, decoded(path, "name of the database")?);
        let mut url = Self { user, password, hosts, database, options: Vec::new() };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !options.contains(&name) {
                // The message does not show the option: after a `?` in a password, it is a part of the password.
                return Err(format!("has an unknown option; use one of `{}`", options.join("`, `")));
            }
            if url.option(name).is_some() {
                return Err(format!("has the option `{name}` more than once"));
            }
            url.options.push((name.to_owned(), decoded(value, "option")?));
        }
        Ok(url)
    }

    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// Splits `host`, `host:port` or `[::1]:port`.
pub fn host_and_port(address: &str, default_port: u16) -> Result<(String, u16), String> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("has a `[` in its host without a `]`")?;
            let port = port.strip_prefix(':').or(port.is_empty().then_some(""));
            (host, port.ok_or("has text after the `]` of its host that is not `:` and a port")?)
        }
        None => address.split_once(':').unwrap_or((address, "")),
    };
    let port = if port.is_empty() { Ok(default_port) } else { port.parse() };
    let port = port.map_err(|_| "has a port that is not a number up to 65535".to_owned())?;
    Ok((decoded(host, "host")?, port))
}

/// Decodes percent-encoding, such as `%40` for `@`.
fn decoded(text: &str, what: &str) -> Result<String, String> {
    let wrong = || {
        format!(
            "has a `%` in its {what} that is not followed by two hexadecimal digits, or does not encode UTF-8"
        )
    };
    percent_decode_strict(text).ok_or_else(wrong)
}
