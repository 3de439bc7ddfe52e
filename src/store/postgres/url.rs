//! Parses the URL of a PostgreSQL server, in the form that its other clients use.

use std::fmt;
use std::path::PathBuf;

use event::percent_decode_strict;

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
        let (_, rest) = url.split_once("://").ok_or("has no `://` after `postgres`")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (account, addresses) = match authority.rsplit_once('@') {
            Some((account, addresses)) => (Some(account), addresses),
            None => (None, authority),
        };
        let (user, password) = match account.map(|account| account.split_once(':').unwrap_or((account, ""))) {
            Some((user, password)) => (decoded(user)?, decoded(password)?),
            None => (String::new(), String::new()),
        };
        // An `@` in the path follows a password with a `/` or `?`, so the message shows nothing of it.
        if path.contains('@') {
            return Err(
                "has an `@` after its first `/`; in a password, write `%2F` for `/` and `%3F` for `?`"
                    .to_owned(),
            );
        }
        let given = |text: String| (!text.is_empty()).then_some(text);
        let database =
            given(decoded(path)?).ok_or("names no database; write `postgres://user@host:5432/name`")?;
        let mut hosts: Vec<Host> = match addresses {
            "" => Vec::new(),
            addresses => addresses.split(',').map(network).collect::<Result<_, _>>()?,
        };
        let options = Options::parse(query)?;
        hosts.extend(options.get("host").map(|host| host_option(host)));
        if hosts.is_empty() {
            return Err("names no host; write `postgres://user@host:5432/name`".to_owned());
        }
        Ok(Self {
            hosts,
            user: given(user),
            password: given(password),
            database,
            encryption: options.encryption()?,
            options: options.get("options").cloned(),
        })
    }
}

/// Parses `host`, `host:port` or `[::1]:port`.
fn network(address: &str) -> Result<Host, String> {
    let (name, port) = match address.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or("has a `[` in its host without a `]`")?,
        None => address.find(':').map_or((address, ""), |at| address.split_at(at)),
    };
    let port = match port.strip_prefix(':') {
        None | Some("") => PORT,
        Some(digits) => {
            digits.parse().map_err(|_| "has a port that is not a number up to 65535".to_owned())?
        }
    };
    let name = decoded(name)?;
    match name.starts_with('/') {
        true => Ok(Host::Folder { path: name.into(), port }),
        false if name.is_empty() => Err("has a host without a name".to_owned()),
        false => Ok(Host::Network { name, port }),
    }
}

fn host_option(host: &str) -> Host {
    if host.starts_with('/') {
        Host::Folder { path: host.into(), port: PORT }
    } else {
        Host::Network { name: host.to_owned(), port: PORT }
    }
}

struct Options(Vec<(String, String)>);

impl Options {
    fn parse(query: &str) -> Result<Self, String> {
        let mut options = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decoded(name)?;
            if !OPTIONS.contains(&name.as_str()) {
                // The message does not show the option: after a `?` in a password, it is a part of the password.
                return Err(format!("has an unknown option; use one of `{}`", OPTIONS.join("`, `")));
            }
            options.push((name, decoded(value)?));
        }
        Ok(Self(options))
    }

    fn get(&self, name: &str) -> Option<&String> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Returns the encryption. `require` with a file of root certificates verifies the certificate.
    fn encryption(&self) -> Result<Encryption, String> {
        let roots = self.get("sslrootcert").map(PathBuf::from);
        let needed = |mode: &str| {
            format!(
                "has `sslmode={mode}` without root certificates; add `sslrootcert=FILE`, for example with those of the system"
            )
        };
        match (self.get("sslmode").map_or("prefer", String::as_str), roots) {
            ("disable", None) => Ok(Encryption::Disable),
            ("prefer", None) => Ok(Encryption::Prefer),
            ("require", None) => Ok(Encryption::Require),
            ("require" | "verify-ca", Some(roots)) => Ok(Encryption::VerifyCa(roots)),
            ("verify-full", Some(roots)) => Ok(Encryption::VerifyFull(roots)),
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

/// Decodes percent-encoding, such as `%40` for `@`.
fn decoded(text: &str) -> Result<String, String> {
    let wrong =
        || "has a `%` that is not followed by two hexadecimal digits, or does not encode UTF-8".to_owned();
    percent_decode_strict(text).ok_or_else(wrong)
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
            ("postgres:u:secret@h/d", "has no `://` after `postgres`"),
            ("postgres://u:secret@h", "names no database; write `postgres://user@host:5432/name`"),
            ("postgres://u:secret@/d", "names no host; write `postgres://user@host:5432/name`"),
            ("postgres://u:secret@h:x/d", "has a port that is not a number up to 65535"),
            (
                "postgres://u:secret%4@h/d",
                "has a `%` that is not followed by two hexadecimal digits, or does not encode UTF-8",
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
