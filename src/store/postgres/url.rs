//! Where a PostgreSQL server is, and as whom to come to it: out of a URL as its other clients take it.

use std::fmt;
use std::path::PathBuf;

use event::part_of_url;

const PORT: u16 = 5432;
const OPTIONS: [&str; 4] = ["sslmode", "sslrootcert", "host", "options"];

/// Without `Debug`: it holds a password.
pub struct Target {
    pub hosts: Vec<Host>,
    pub user: Option<String>,
    pub password: Option<String>,
    pub database: String,
    pub encryption: Encryption,
    /// As PostgreSQL's own programs take them: `-c search_path=events`.
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

/// What PostgreSQL calls `sslmode`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encryption {
    Disable,
    /// Where the server offers it; whoever answers is believed.
    Prefer,
    /// Whoever answers is believed.
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
        let (_, rest) = url.split_once("://").ok_or("has no `://` behind `postgres`")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (account, places) = match authority.rsplit_once('@') {
            Some((account, places)) => (Some(account), places),
            None => (None, authority),
        };
        let (user, password) = match account.map(|account| account.split_once(':').unwrap_or((account, ""))) {
            Some((user, password)) => (decoded(user)?, decoded(password)?),
            None => (String::new(), String::new()),
        };
        // An `@` this late stands behind a password with a `/` or `?` in it, of which nothing is to be shown.
        if path.contains('@') {
            return Err(
                "has an `@` behind its first `/`: in a password `/` is written `%2F`, `?` `%3F`".to_owned()
            );
        }
        let given = |text: String| (!text.is_empty()).then_some(text);
        let database = given(decoded(path)?).ok_or("names no database: `postgres://user@host:5432/name`")?;
        let mut hosts: Vec<Host> = match places {
            "" => Vec::new(),
            places => places.split(',').map(network).collect::<Result<_, _>>()?,
        };
        let options = Options::parse(query)?;
        hosts.extend(options.get("host").map(|host| elsewhere(host)));
        if hosts.is_empty() {
            return Err("names no host: `postgres://user@host:5432/name`".to_owned());
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

/// `host`, `host:port`, `[::1]:port`.
fn network(place: &str) -> Result<Host, String> {
    let (name, port) = match place.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or("has a `[` in its host that nothing closes")?,
        None => place.find(':').map_or((place, ""), |at| place.split_at(at)),
    };
    let port = match port.strip_prefix(':') {
        None | Some("") => PORT,
        Some(digits) => digits.parse().map_err(|_| "has a port that is no number up to 65535".to_owned())?,
    };
    let name = decoded(name)?;
    match name.starts_with('/') {
        true => Ok(Host::Folder { path: name.into(), port }),
        false if name.is_empty() => Err("has a host without a name".to_owned()),
        false => Ok(Host::Network { name, port }),
    }
}

fn elsewhere(host: &str) -> Host {
    match host.starts_with('/') {
        true => Host::Folder { path: host.into(), port: PORT },
        false => Host::Network { name: host.to_owned(), port: PORT },
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
                // It is not named: a `?` in a password would have it be a part of that.
                return Err(format!("has an option that is not known; `{}` are", OPTIONS.join("`, `")));
            }
            options.push((name, decoded(value)?));
        }
        Ok(Self(options))
    }

    fn get(&self, name: &str) -> Option<&String> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// A file of roots without a mode that verifies says that it is to be verified by them.
    fn encryption(&self) -> Result<Encryption, String> {
        let roots = self.get("sslrootcert").map(PathBuf::from);
        let needed = |mode: &str| {
            format!(
                "says `sslmode={mode}` and not by which certificate: `sslrootcert=FILE` names it, as it may name those of this system"
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
                Err(format!("says `sslrootcert`, which `sslmode={mode}` does not look at"))
            }
            (mode, _) => Err(format!(
                "says `sslmode={mode}`; known are `disable`, `prefer`, `require`, `verify-ca`, `verify-full`"
            )),
        }
    }
}

/// Takes `%40` for `@`.
fn decoded(text: &str) -> Result<String, String> {
    let wrong = || "has a `%` that is not followed by two hexadecimal digits of UTF-8".to_owned();
    part_of_url(text).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, port: u16) -> Host {
        Host::Network { name: name.to_owned(), port }
    }

    #[test]
    fn a_url_says_where_as_whom_and_how_safely() {
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
    fn what_is_wrong_with_a_url_is_said_without_its_password() {
        for (url, reason) in [
            ("postgres:u:secret@h/d", "has no `://` behind `postgres`"),
            ("postgres://u:secret@h", "names no database: `postgres://user@host:5432/name`"),
            ("postgres://u:secret@/d", "names no host: `postgres://user@host:5432/name`"),
            ("postgres://u:secret@h:x/d", "has a port that is no number up to 65535"),
            (
                "postgres://u:secret%4@h/d",
                "has a `%` that is not followed by two hexadecimal digits of UTF-8",
            ),
            (
                "postgres://u:secret@h/d?ssl=on",
                "has an option that is not known; `sslmode`, `sslrootcert`, `host`, `options` are",
            ),
            (
                "postgres://u:secret@h/d?sslmode=allow",
                "says `sslmode=allow`; known are `disable`, `prefer`, `require`, `verify-ca`, `verify-full`",
            ),
        ] {
            assert_eq!(Target::parse(url).err().as_deref(), Some(reason), "{url}");
        }
        assert!(Target::parse("postgres://h/d?sslmode=verify-ca").is_err());
    }
}
