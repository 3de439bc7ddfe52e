//! The database settings of the replaced services, as the URL of a store: `DB_URL` and `DATABASE` of those with
//! PostgreSQL, the `MYSQL_...` variables of those with MySQL.

use event::percent_encode;

const MYSQL: [&str; 5] = ["MYSQL_HOST", "MYSQL_PORT", "MYSQL_USER", "MYSQL_PASSWORD", "MYSQL_DATABASE"];

/// The URL of a store, and the variables that it was made from.
pub struct LegacyStore {
    pub url: String,
    pub used: Vec<&'static str>,
}

/// Returns the store that the variables name, or why they name none; `None` if no such variable is set. The second
/// value says which of the variables are ignored, and why.
pub fn from_variables(
    set: impl Fn(&str) -> Option<String>,
) -> (Option<Result<LegacyStore, String>>, Option<String>) {
    match (from_url(&set), from_parts(&set)) {
        (Some(Ok(first)), Some(Ok(second))) => {
            let names = (second.used.join(", "), first.used[0]);
            let ignored = format!("{} are ignored: `{}` names the store already", names.0, names.1);
            (Some(Ok(first)), Some(ignored))
        }
        (Some(Ok(store)), Some(Err(reason))) | (Some(Err(reason)), Some(Ok(store))) => {
            (Some(Ok(store)), Some(reason))
        }
        (first, second) => (first.or(second), None),
    }
}

fn from_url(set: &impl Fn(&str) -> Option<String>) -> Option<Result<LegacyStore, String>> {
    let url = set("DB_URL")?;
    let schemes = ["postgres://", "postgresql://", "mysql://", "mariadb://"];
    if !schemes.iter().any(|scheme| url.starts_with(scheme)) {
        let form = "such as postgres://user:password@host:5432";
        return Some(Err(format!("`DB_URL` is not a database URL {form}")));
    }
    let (base, options) = url.split_once('?').map_or((url.as_str(), None), |(base, rest)| (base, Some(rest)));
    let (scheme, address) = base.split_at(base.find("://").map_or(0, |at| at + 3));
    let (server, in_url) = address.split_once('/').unwrap_or((address, ""));
    let (database, used) = match set("DATABASE") {
        Some(name) => (percent_encode(&name), vec!["DB_URL", "DATABASE"]),
        None if !in_url.is_empty() => (in_url.to_owned(), vec!["DB_URL"]),
        // PostgreSQL clients use the name of the user as well.
        None => match user_in(server) {
            Some(user) if scheme.starts_with("postgres") => (user.to_owned(), vec!["DB_URL"]),
            _ => return Some(Err("`DB_URL` names no database, and `DATABASE` is not set".to_owned())),
        },
    };
    let options = options.map(|options| format!("?{options}")).unwrap_or_default();
    Some(Ok(LegacyStore { url: format!("{scheme}{server}/{database}{options}"), used }))
}

fn user_in(server: &str) -> Option<&str> {
    let (account, _) = server.rsplit_once('@')?;
    account.split(':').next().filter(|user| !user.is_empty())
}

fn from_parts(set: &impl Fn(&str) -> Option<String>) -> Option<Result<LegacyStore, String>> {
    let used: Vec<&'static str> = MYSQL.into_iter().filter(|name| set(name).is_some()).collect();
    if used.is_empty() {
        return None;
    }
    let Some(database) = set("MYSQL_DATABASE") else {
        return Some(Err(format!("`MYSQL_DATABASE` is not set, but {} are", used.join(", "))));
    };
    let host = set("MYSQL_HOST").unwrap_or_else(|| "localhost".to_owned());
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let port = set("MYSQL_PORT").unwrap_or_else(|| "3306".to_owned());
    if port.parse::<u16>().is_err() {
        return Some(Err("`MYSQL_PORT` is not a valid port number".to_owned()));
    }
    let user = percent_encode(&set("MYSQL_USER").unwrap_or_else(|| "root".to_owned()));
    let password = set("MYSQL_PASSWORD").map(|password| format!(":{}", percent_encode(&password)));
    let account = user + &password.unwrap_or_default();
    let url = format!("mysql://{account}@{host}:{port}/{}", percent_encode(&database));
    Some(Ok(LegacyStore { url, used }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named_by(variables: &[(&str, &str)]) -> (Option<Result<String, String>>, Option<String>) {
        let (store, unusable) = from_variables(|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        });
        (store.map(|store| store.map(|store| store.url)), unusable)
    }

    #[test]
    fn legacy_variables_become_the_url_of_a_store() {
        let cases: [(&[(&str, &str)], &str); 8] = [
            (&[("DB_URL", "postgres://a:b@h:5432"), ("DATABASE", "sales")], "postgres://a:b@h:5432/sales"),
            (
                &[("DB_URL", "postgresql://a:b@h:5432/"), ("DATABASE", "my sales")],
                "postgresql://a:b@h:5432/my%20sales",
            ),
            (&[("DB_URL", "postgres://ann:b@h:5432")], "postgres://ann:b@h:5432/ann"),
            (&[("DB_URL", "postgres://h/one?sslmode=require")], "postgres://h/one?sslmode=require"),
            (
                &[("DB_URL", "postgres://h/postgres?sslmode=require"), ("DATABASE", "two")],
                "postgres://h/two?sslmode=require",
            ),
            (&[("MYSQL_DATABASE", "d")], "mysql://root@localhost:3306/d"),
            (
                &[
                    ("MYSQL_HOST", "db"),
                    ("MYSQL_PORT", "3307"),
                    ("MYSQL_USER", "u@x"),
                    ("MYSQL_PASSWORD", "p:/?#ä"),
                    ("MYSQL_DATABASE", "d"),
                ],
                "mysql://u%40x:p%3A%2F%3F%23%C3%A4@db:3307/d",
            ),
            (&[("MYSQL_HOST", "::1"), ("MYSQL_DATABASE", "d")], "mysql://root@[::1]:3306/d"),
        ];
        for (variables, url) in cases {
            assert_eq!(named_by(variables), (Some(Ok(url.to_owned())), None), "{variables:?}");
        }
        assert_eq!(named_by(&[("DATABASE", "d")]), (None, None));
    }

    #[test]
    fn errors_in_legacy_variables_do_not_show_their_values() {
        let cases: [(&[(&str, &str)], &str); 5] = [
            (
                &[("DB_URL", "h:5432 secret")],
                "`DB_URL` is not a database URL such as postgres://user:password@host:5432",
            ),
            (&[("DB_URL", "postgres://h:5432/")], "`DB_URL` names no database, and `DATABASE` is not set"),
            (&[("DB_URL", "mysql://secret@h")], "`DB_URL` names no database, and `DATABASE` is not set"),
            (
                &[("MYSQL_HOST", "secret"), ("MYSQL_USER", "u")],
                "`MYSQL_DATABASE` is not set, but MYSQL_HOST, MYSQL_USER are",
            ),
            (&[("MYSQL_PORT", "secret"), ("MYSQL_DATABASE", "d")], "`MYSQL_PORT` is not a valid port number"),
        ];
        for (variables, reason) in cases {
            assert_eq!(named_by(variables), (Some(Err(reason.to_owned())), None), "{variables:?}");
        }
        let both = [("DB_URL", "postgres://h/d"), ("MYSQL_HOST", "h"), ("MYSQL_DATABASE", "e")];
        let ignored = "MYSQL_HOST, MYSQL_DATABASE are ignored: `DB_URL` names the store already";
        assert_eq!(named_by(&both), (Some(Ok("postgres://h/d".to_owned())), Some(ignored.to_owned())));
        let one = [("DB_URL", "postgres://h"), ("MYSQL_DATABASE", "e")];
        let ignored = "`DB_URL` names no database, and `DATABASE` is not set";
        let url = "mysql://root@localhost:3306/e";
        assert_eq!(named_by(&one), (Some(Ok(url.to_owned())), Some(ignored.to_owned())));
    }
}
