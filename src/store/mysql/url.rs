//! Where a MySQL or MariaDB server is and as whom to speak to it, out of a URL as its own tools write it.

use std::fmt;

use event::part_of_url;

const PORT: u16 = 3306;

/// What `mysql://user:password@host:port/database?option=value` says.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    pub host: String,
    pub port: u16,
    pub socket: Option<String>,
    pub user: String,
    pub password: Option<String>,
    pub database: String,
    pub encryption: Encryption,
    /// A file with the certificates that the server's own is to come from.
    pub authority: Option<String>,
}

/// `ssl-mode`, in the order of strictness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Encryption {
    Disabled,
    /// Where the server offers it.
    Preferred,
    Required,
    /// Required, and the certificate is checked, but not whose it is.
    VerifyCa,
    VerifyIdentity,
}

impl Address {
    pub fn parse(url: &str) -> Result<Self, String> {
        let (_, rest) = url.split_once("://").ok_or("is to begin with `mysql://`")?;
        let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, place) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = match user.split_once(':') {
            Some((user, password)) => (user, Some(decoded(password, "password")?)),
            None => (user, None),
        };
        let (host, port) = host_and_port(place)?;
        let database = decoded(without_account(database)?, "name of the database")?;
        if database.is_empty() {
            return Err("names no database; it stands after the last `/`".to_owned());
        }
        let mut address = Self {
            host,
            port,
            socket: None,
            user: decoded(user, "user")?,
            password,
            database,
            encryption: Encryption::Preferred,
            authority: None,
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
                "ssl-ca" => self.authority = Some(value),
                "socket" => self.socket = Some(value),
                _ => {
                    // It is not named: a `?` in a password would have it be a part of that.
                    return Err(
                        "has an option that is not known; `ssl-mode`, `ssl-ca` and `socket` are".to_owned()
                    );
                }
            }
        }
        self.encryption = match (encryption, &self.authority) {
            (Some(encryption), _) => encryption,
            // Whoever names an authority wants to be shown its certificate.
            (None, Some(_)) => Encryption::VerifyCa,
            (None, None) => Encryption::Preferred,
        };
        Ok(())
    }

    /// Whether what is sent stays on this machine.
    pub fn is_local(&self) -> bool {
        let address = self.host.parse::<std::net::IpAddr>();
        self.socket.is_some()
            || self.host == "localhost"
            || address.is_ok_and(|address| address.is_loopback())
    }
}

/// For people, without user and password.
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
                "has `ssl-mode={name}`; DISABLED, PREFERRED, REQUIRED, VERIFY_CA and VERIFY_IDENTITY are known"
            )),
        }
    }
}

fn host_and_port(place: &str) -> Result<(String, u16), String> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("has a `[` without a `]`")?;
            (host, after.strip_prefix(':'))
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let port = match port.filter(|port| !port.is_empty()) {
        Some(port) => port.parse().map_err(|_| "has a port that is no number up to 65535".to_owned())?,
        None => PORT,
    };
    let host = if host.is_empty() { "localhost" } else { host };
    Ok((decoded(host, "host")?, port))
}

/// An `@` this late stands behind a password with a `/` or `?` in it, of which nothing is to be shown.
fn without_account(database: &str) -> Result<&str, String> {
    match database.contains('@') {
        true => {
            Err("has an `@` behind its first `/`: in a password `/` is written `%2F`, `?` `%3F`".to_owned())
        }
        false => Ok(database),
    }
}

/// `%40` stands for `@`, and so on.
fn decoded(text: &str, what: &str) -> Result<String, String> {
    let wrong = || format!("has a `%` in its {what} that is not followed by two hexadecimal digits of UTF-8");
    part_of_url(text).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Address {
        Address::parse(url).expect(url)
    }

    #[test]
    fn a_url_says_where_and_as_whom() {
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
    fn options_are_those_of_the_databases_own_tools() {
        assert_eq!(parsed("mysql://h/d").encryption, Encryption::Preferred);
        assert_eq!(parsed("mysql://h/d?ssl-mode=verify_identity").encryption, Encryption::VerifyIdentity);
        let named = parsed("mysql://h/d?ssl-ca=/etc/ca.pem");
        assert_eq!(
            (named.encryption, named.authority.as_deref()),
            (Encryption::VerifyCa, Some("/etc/ca.pem"))
        );
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (url, said) in [
            ("mysql://u:secret@h/d?tls=yes", "`ssl-mode`"),
            ("mysql://u:12/secret@h/d", "`%2F`"),
            ("mysql://u:secret@h/d?ssl-mode=maybe", "ssl-mode=maybe"),
            ("mysql://u:secret@h", "no database"),
            ("mysql://u:secret@h:0x/d", "a port that is no number"),
            ("mysql://u:secr%zzet@h/d", "password"),
            ("mysql://u:secret@[::1/d", "`[`"),
            ("mysql:secret", "mysql://"),
        ] {
            let refusal = Address::parse(url).err().expect(url);
            assert!(refusal.contains(said) && !refusal.contains("secr"), "{url}: {refusal}");
        }
    }
}
