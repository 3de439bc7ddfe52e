//! Parses the URL of a MySQL or MariaDB server, in the form that the database's own tools use.

use std::fmt;

use event::percent_decode_strict;

const PORT: u16 = 3306;

/// The parts of `mysql://user:password@host:port/database?option=value`.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
    pub socket: Option<String>,
    pub user: String,
    pub password: Option<String>,
    pub database: String,
    pub encryption: Encryption,
    /// A file with the certificates that must have signed the server's certificate.
    pub ca_file: Option<String>,
}

/// The values of `ssl-mode`, ordered by strictness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Encryption {
    Disabled,
    /// Encrypts if the server offers it.
    Preferred,
    Required,
    /// Requires encryption and verifies the certificate, but not the name in it.
    VerifyCa,
    VerifyIdentity,
}

impl Address {
    pub fn parse(url: &str) -> Result<Self, String> {
        let (_, rest) = url.split_once("://").ok_or("must begin with `mysql://`")?;
        let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match user.split_once(':') {
            Some((user, password)) => (user, Some(decoded(password, "password")?)),
            None => (user, None),
        };
        let (host, port) = host_and_port(host)?;
        let database = decoded(without_account(database)?, "name of the database")?;
        if database.is_empty() {
            return Err("names no database; write its name after the last `/`".to_owned());
        }
        let mut address = Self {
            host,
            port,
            socket: None,
            user: decoded(user, "user")?,
            password,
            database,
            encryption: Encryption::Preferred,
            ca_file: None,
        };
        address.take_options(options)?;
        Ok(address)
    }

    fn take_options(&mut self, options: &str) -> Result<(), String> {
        let mut encryption = None;
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let value = decoded(value, "option")?;
            match name {
                "ssl-mode" => encryption = Some(Encryption::named(&value)?),
                "ssl-ca" => self.ca_file = Some(value),
                "socket" => self.socket = Some(value),
                _ => {
                    // The message does not show the option: after a `?` in a password, it is a part of the password.
                    return Err("has an unknown option; use `ssl-mode`, `ssl-ca` or `socket`".to_owned());
                }
            }
        }
        self.encryption = match (encryption, &self.ca_file) {
            (Some(encryption), _) => encryption,
            // `ssl-ca` alone means that the certificate is to be verified.
            (None, Some(_)) => Encryption::VerifyCa,
            (None, None) => Encryption::Preferred,
        };
        Ok(())
    }

    /// Returns whether the connection stays on this machine.
    pub fn is_local(&self) -> bool {
        let address = self.host.parse::<std::net::IpAddr>();
        self.socket.is_some()
            || self.host == "localhost"
            || address.is_ok_and(|address| address.is_loopback())
    }
}

/// For messages: without user and password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.socket, self.host.contains(':')) {
            (Some(socket), _) => write!(f, "mysql:{socket}/{}", self.database),
            (None, true) => write!(f, "mysql://[{}]:{}/{}", self.host, self.port, self.database),
            (None, false) => write!(f, "mysql://{}:{}/{}", self.host, self.port, self.database),
        }
    }
}

impl Encryption {
    fn named(name: &str) -> Result<Self, String> {
        match name.to_ascii_uppercase().as_str() {
            "DISABLED" => Ok(Self::Disabled),
            "PREFERRED" => Ok(Self::Preferred),
            "REQUIRED" => Ok(Self::Required),
            "VERIFY_CA" => Ok(Self::VerifyCa),
            "VERIFY_IDENTITY" => Ok(Self::VerifyIdentity),
            _ => Err(format!(
                "has the unknown option `ssl-mode={name}`; use DISABLED, PREFERRED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY"
            )),
        }
    }
}

fn host_and_port(address: &str) -> Result<(String, u16), String> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("has a `[` without a `]`")?;
            (host, after.strip_prefix(':'))
        }
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    let port = match port.filter(|port| !port.is_empty()) {
        Some(port) => port.parse().map_err(|_| "has a port that is not a number up to 65535".to_owned())?,
        None => PORT,
    };
    let host = if host.is_empty() { "localhost" } else { host };
    Ok((decoded(host, "host")?, port))
}

/// Fails if the name of the database contains an `@`. It then follows a password with a `/` or `?`, so the message
/// shows nothing of it.
fn without_account(database: &str) -> Result<&str, String> {
    if database.contains('@') {
        Err("has an `@` after its first `/`; in a password, write `%2F` for `/` and `%3F` for `?`".to_owned())
    } else {
        Ok(database)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Address {
        Address::parse(url).expect(url)
    }

    #[test]
    fn a_url_is_split_into_its_parts() {
        let plain = parsed("mysql://app:p%40ss%2Fw@db.example:3307/shop");
        assert_eq!((plain.host.as_str(), plain.port, plain.user.as_str()), ("db.example", 3307, "app"));
        assert_eq!(plain.password.as_deref(), Some("p@ss/w"));
        assert_eq!(plain.to_string(), "mysql://db.example:3307/shop");
        let short = parsed("mariadb://app@[::1]/shop");
        assert_eq!((short.host.as_str(), short.port, short.password.as_deref()), ("::1", PORT, None));
        assert!(short.is_local() && !plain.is_local());
        let local = parsed("mysql://root@/shop?socket=%2Frun%2Fmysqld.sock");
        assert_eq!(local.to_string(), "mysql:/run/mysqld.sock/shop");
    }

    #[test]
    fn options_have_the_names_that_the_databases_tools_use() {
        assert_eq!(parsed("mysql://h/d").encryption, Encryption::Preferred);
        assert_eq!(parsed("mysql://h/d?ssl-mode=verify_identity").encryption, Encryption::VerifyIdentity);
        let with_ca = parsed("mysql://h/d?ssl-ca=/etc/ca.pem");
        assert_eq!(
            (with_ca.encryption, with_ca.ca_file.as_deref()),
            (Encryption::VerifyCa, Some("/etc/ca.pem"))
        );
    }

    #[test]
    fn a_refused_url_is_reported_without_its_password() {
        for (url, said) in [
            ("mysql://u:secret@h/d?tls=yes", "`ssl-mode`"),
            ("mysql://u:12/secret@h/d", "`%2F`"),
            ("mysql://u:secret@h/d?ssl-mode=maybe", "ssl-mode=maybe"),
            ("mysql://u:secret@h", "no database"),
            ("mysql://u:secret@h:0x/d", "a port that is not a number"),
            ("mysql://u:secr%zzet@h/d", "password"),
            ("mysql://u:secret@[::1/d", "`[`"),
            ("mysql:secret", "mysql://"),
        ] {
            let refusal = Address::parse(url).err().expect(url);
            assert!(refusal.contains(said) && !refusal.contains("secr"), "{url}: {refusal}");
        }
    }
}
