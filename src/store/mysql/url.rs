//! Parses the URL of a MySQL or MariaDB server, in the form that the database's own tools use.

use std::fmt;

use crate::store::remote::url::{ServerUrl, host_and_port};

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

const OPTIONS: [&str; 3] = ["ssl-mode", "ssl-ca", "socket"];

impl Address {
    pub fn parse(url: &str) -> Result<Self, String> {
        let url = ServerUrl::parse(url, &OPTIONS)?;
        if url.database.is_empty() {
            return Err("names no database; write its name after the last `/`".to_owned());
        }
        let (host, port) = host_and_port(url.hosts, PORT)?;
        let ca_file = url.option("ssl-ca").map(str::to_owned);
        let encryption = match (url.option("ssl-mode"), &ca_file) {
            (Some(mode), _) => Encryption::named(mode)?,
            // `ssl-ca` alone means that the certificate is to be verified.
            (None, Some(_)) => Encryption::VerifyCa,
            (None, None) => Encryption::Preferred,
        };
        Ok(Self {
            host: if host.is_empty() { "localhost".to_owned() } else { host },
            port,
            socket: url.option("socket").map(str::to_owned),
            encryption,
            ca_file,
            user: url.user,
            password: url.password,
            database: url.database,
        })
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
            ("mysql:secret", "no `://`"),
        ] {
            let refusal = Address::parse(url).err().expect(url);
            assert!(refusal.contains(said) && !refusal.contains("secr"), "{url}: {refusal}");
        }
    }
}
