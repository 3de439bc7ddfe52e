//! Parses the URL of a PostgreSQL server, in the form that its other clients use.

use std::fmt;
use std::path::PathBuf;

use crate::store::remote::url::{ServerUrl, host_and_port};

const PORT: u16 = 5432;
const OPTIONS: [&str; 4] = ["sslmode", "sslrootcert", "host", "options"];

/// The parts of a URL. It has no `Debug` because it contains a password.
pub struct Target {
    pub hosts: Vec<Host>,
    pub user: Option<String>,
    pub password: Option<String>,
    pub database: String,
    pub encryption: Encryption,
    /// Options in the form of PostgreSQL's own programs, such as `-c search_path=events`.
    pub options: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Network {
        name: String,
        port: u16,
    },
    /// The folder of a Unix socket.
    Folder {
        path: PathBuf,
        port: u16,
    },
}

/// The values of `sslmode`, with the file of root certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encryption {
    Disable,
    /// Encrypts if the server offers it; accepts any certificate.
    Prefer,
    /// Requires encryption; accepts any certificate.
    Require,
    VerifyCa(PathBuf),
    VerifyFull(PathBuf),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network { name, port } if name.contains(':') => write!(f, "[{name}]:{port}"),
            Self::Network { name, port } => write!(f, "{name}:{port}"),
            Self::Folder { path, .. } => write!(f, "{}", path.display()),
        }
    }
}

impl Target {
    pub fn parse(url: &str) -> Result<Self, String> {
        let url = ServerUrl::parse(url, &OPTIONS)?;
        let form = "write `postgres://user@host:5432/name`";
        if url.database.is_empty() {
            return Err(format!("names no database; {form}"));
        }
        let in_hosts = url.hosts.split(',').filter(|_| !url.hosts.is_empty());
        let mut hosts: Vec<Host> = in_hosts.map(Host::parse).collect::<Result<_, _>>()?;
        hosts.extend(url.option("host").map(|host| Host::new(host.to_owned(), PORT)));
        if hosts.is_empty() {
            return Err(format!("names no host; {form}"));
        }
        let given = |text: String| (!text.is_empty()).then_some(text);
        Ok(Self {
            hosts,
            encryption: Encryption::of(&url)?,
            options: url.option("options").map(str::to_owned),
            user: given(url.user),
            password: url.password.and_then(given),
            database: url.database,
        })
    }
}

impl Host {
    fn parse(address: &str) -> Result<Self, String> {
        let (name, port) = host_and_port(address, PORT)?;
        if name.is_empty() { Err("has a host without a name".to_owned()) } else { Ok(Self::new(name, port)) }
    }

    fn new(name: String, port: u16) -> Self {
        if name.starts_with('/') {
            Self::Folder { path: name.into(), port }
        } else {
            Self::Network { name, port }
        }
    }
}

impl Encryption {
    /// Returns the encryption. `require` with a file of root certificates verifies the certificate.
    fn of(url: &ServerUrl<'_>) -> Result<Self, String> {
        let roots = url.option("sslrootcert").map(PathBuf::from);
        let needed = |mode: &str| {
            format!(
                "has `sslmode={mode}` without root certificates; add `sslrootcert=FILE`, for example with those of the system"
            )
        };
        match (url.option("sslmode").unwrap_or("prefer"), roots) {
            ("disable", None) => Ok(Self::Disable),
            ("prefer", None) => Ok(Self::Prefer),
            ("require", None) => Ok(Self::Require),
            ("require" | "verify-ca", Some(roots)) => Ok(Self::VerifyCa(roots)),
            ("verify-full", Some(roots)) => Ok(Self::VerifyFull(roots)),
            (mode @ ("verify-ca" | "verify-full"), None) => Err(needed(mode)),
            (mode @ ("disable" | "prefer"), Some(_)) => {
                Err(format!("has `sslrootcert`, which `sslmode={mode}` ignores; use `sslmode=verify-full`"))
            }
            (mode, _) => Err(format!(
                "has the unknown option `sslmode={mode}`; use `disable`, `prefer`, `require`, `verify-ca` or `verify-full`"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, port: u16) -> Host {
        Host::Network { name: name.to_owned(), port }
    }

    #[test]
    fn a_url_is_split_into_its_parts() {
        let url = "postgres://some%40one:pa%3Ass@db.example:6543/the%20events?sslmode=verify-full&sslrootcert=%2Froots.pem";
        let target = Target::parse(url).expect("a URL");
        assert_eq!(target.hosts, [network("db.example", 6543)]);
        assert_eq!(
            (target.user.as_deref(), target.password.as_deref(), target.database.as_str()),
            (Some("some@one"), Some("pa:ss"), "the events")
        );
        assert_eq!(target.encryption, Encryption::VerifyFull("/roots.pem".into()));
        for (url, hosts) in [
            ("postgres://u@[::1]:1/d", vec![network("::1", 1)]),
            ("postgresql://u@one,two:7/d", vec![network("one", 5432), network("two", 7)]),
            ("postgres:///d?host=/run/pg", vec![Host::Folder { path: "/run/pg".into(), port: 5432 }]),
            ("postgres://u@%2Frun%2Fpg:7/d", vec![Host::Folder { path: "/run/pg".into(), port: 7 }]),
        ] {
            assert_eq!(Target::parse(url).map(|target| target.hosts), Ok(hosts), "{url}");
        }
    }

    #[test]
    fn a_refused_url_is_reported_without_its_password() {
        for (url, reason) in [
            ("postgres:u:secret@h/d", "has no `://` after its scheme"),
            ("postgres://u:secret@h", "names no database; write `postgres://user@host:5432/name`"),
            ("postgres://u:secret@/d", "names no host; write `postgres://user@host:5432/name`"),
            ("postgres://u:secret@h:x/d", "has a port that is not a number up to 65535"),
            (
                "postgres://u:secret%4@h/d",
                "has a `%` in its password that is not followed by two hexadecimal digits, or does not encode UTF-8",
            ),
            (
                "postgres://u:secret@h/d?ssl=on",
                "has an unknown option; use one of `sslmode`, `sslrootcert`, `host`, `options`",
            ),
            (
                "postgres://u:secret@h/d?sslmode=allow",
                "has the unknown option `sslmode=allow`; use `disable`, `prefer`, `require`, `verify-ca` or `verify-full`",
            ),
        ] {
            assert_eq!(Target::parse(url).err().as_deref(), Some(reason), "{url}");
        }
        assert!(Target::parse("postgres://h/d?sslmode=verify-ca").is_err());
    }
}
