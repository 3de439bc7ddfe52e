//! The database that the originals were told of, as the URL of a store: `DB_URL` and `DATABASE` of those with
//! PostgreSQL, `MYSQL_HOST` and its like of those with MySQL.

use event::as_part_of_url;

const MYSQL: [&str; 5] = ["MYSQL_HOST", "MYSQL_PORT", "MYSQL_USER", "MYSQL_PASSWORD", "MYSQL_DATABASE"];

/// Of a variable that is set, and the names that it was made of.
pub struct OriginalStore {
    pub url: String,
    pub used: Vec<&'static str>,
}

/// The store that the variables name, if they name one, and what of them cannot be used.
pub fn named(set: impl Fn(&str) -> Option<String>) -> (Option<OriginalStore>, Vec<String>) {
    let (mut store, mut unusable) = (None, Vec::new());
    for named in [of_url(&set), of_parts(&set)].into_iter().flatten() {
        match (named, &store) {
            (Ok(named), None) => store = Some(named),
            (Ok(named), Some(first)) => {
                let names = (named.used.join(", "), first.used[0]);
                unusable.push(format!("{} name a second database; {} names the store", names.0, names.1));
            }
            (Err(reason), _) => unusable.push(reason),
        }
    }
    (store, unusable)
}

fn of_url(set: &impl Fn(&str) -> Option<String>) -> Option<Result<OriginalStore, String>> {
    let url = set("DB_URL")?;
    let schemes = ["postgres://", "postgresql://", "mysql://", "mariadb://"];
    if !schemes.iter().any(|scheme| url.starts_with(scheme)) {
        let form = "such as postgres://user:password@host:5432";
        return Some(Err(format!("DB_URL is no URL of a database, {form}")));
    }
    let (place, options) =
        url.split_once('?').map_or((url.as_str(), None), |(place, rest)| (place, Some(rest)));
    let (scheme, place) = place.split_at(place.find("://").map_or(0, |at| at + 3));
    let (server, in_url) = place.split_once('/').unwrap_or((place, ""));
    let (database, used) = match set("DATABASE") {
        Some(name) => (as_part_of_url(&name), vec!["DB_URL", "DATABASE"]),
        None if in_url.is_empty() => {
            return Some(Err("DB_URL names no database, nor does DATABASE".to_owned()));
        }
        None => (in_url.to_owned(), vec!["DB_URL"]),
    };
    let options = options.map(|options| format!("?{options}")).unwrap_or_default();
    Some(Ok(OriginalStore { url: format!("{scheme}{server}/{database}{options}"), used }))
}

fn of_parts(set: &impl Fn(&str) -> Option<String>) -> Option<Result<OriginalStore, String>> {
    let used: Vec<&'static str> = MYSQL.into_iter().filter(|name| set(name).is_some()).collect();
    if used.is_empty() {
        return None;
    }
    let Some(database) = set("MYSQL_DATABASE") else {
        return Some(Err(format!("{} without MYSQL_DATABASE: no database is named", used.join(", "))));
    };
    let host = set("MYSQL_HOST").unwrap_or_else(|| "localhost".to_owned());
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let port = set("MYSQL_PORT").unwrap_or_else(|| "3306".to_owned());
    if port.parse::<u16>().is_err() {
        return Some(Err("MYSQL_PORT is no port".to_owned()));
    }
    let user = as_part_of_url(&set("MYSQL_USER").unwrap_or_else(|| "root".to_owned()));
    let password = set("MYSQL_PASSWORD").map(|password| format!(":{}", as_part_of_url(&password)));
    let account = user + &password.unwrap_or_default();
    let url = format!("mysql://{account}@{host}:{port}/{}", as_part_of_url(&database));
    Some(Ok(OriginalStore { url, used }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named_by(variables: &[(&str, &str)]) -> (Option<String>, Vec<String>) {
        let (store, unusable) = named(|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        });
        (store.map(|store| store.url), unusable)
    }

    #[test]
    fn a_database_is_named_as_the_originals_named_it() {
        let cases: [(&[(&str, &str)], &str); 7] = [
            (&[("DB_URL", "postgres://a:b@h:5432"), ("DATABASE", "sales")], "postgres://a:b@h:5432/sales"),
            (
                &[("DB_URL", "postgresql://a:b@h:5432/"), ("DATABASE", "my sales")],
                "postgresql://a:b@h:5432/my%20sales",
            ),
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
            assert_eq!(named_by(variables), (Some(url.to_owned()), Vec::new()), "{variables:?}");
        }
        assert_eq!(named_by(&[("DATABASE", "d")]), (None, Vec::new()));
    }

    #[test]
    fn what_names_no_database_is_said_without_its_values() {
        let cases: [(&[(&str, &str)], &str); 4] = [
            (
                &[("DB_URL", "h:5432 secret")],
                "DB_URL is no URL of a database, such as postgres://user:password@host:5432",
            ),
            (&[("DB_URL", "postgres://secret@h")], "DB_URL names no database, nor does DATABASE"),
            (
                &[("MYSQL_HOST", "secret"), ("MYSQL_USER", "u")],
                "MYSQL_HOST, MYSQL_USER without MYSQL_DATABASE: no database is named",
            ),
            (&[("MYSQL_PORT", "secret"), ("MYSQL_DATABASE", "d")], "MYSQL_PORT is no port"),
        ];
        for (variables, reason) in cases {
            assert_eq!(named_by(variables), (None, vec![reason.to_owned()]), "{variables:?}");
        }
        let both = [("DB_URL", "postgres://h/d"), ("MYSQL_HOST", "h"), ("MYSQL_DATABASE", "e")];
        let (url, unusable) = named_by(&both);
        assert_eq!(url.as_deref(), Some("postgres://h/d"));
        assert_eq!(unusable, ["MYSQL_HOST, MYSQL_DATABASE name a second database; DB_URL names the store"]);
    }
}
