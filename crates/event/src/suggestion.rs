//! Suggestions for names that do not exist: the nearest existing name, and the list of all of them.

use strsim::damerau_levenshtein;

/// Words of other systems, with the word that has the same meaning here.
const SYNONYMS: [(&str, &str); 12] = [
    ("string", "text"),
    ("varchar", "text"),
    ("int", "integer"),
    ("number", "decimal"),
    ("float", "decimal"),
    ("numeric", "decimal"),
    ("bool", "boolean"),
    ("date", "time"),
    ("datetime", "time"),
    ("timestamp", "time"),
    ("json", "any"),
    ("object", "any"),
];

/// Returns the existing name that was probably meant.
pub fn nearest<'n>(written: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let wrong_letters_max = written.chars().count().div_ceil(3).min(3);
    let close = |name: &&'n str| {
        let wrong_letters = distance(written, name);
        wrong_letters <= wrong_letters_max && wrong_letters < written.chars().count()
    };
    let names: Vec<&str> = names.into_iter().filter(|name| *name != written).collect();
    let by_letters = names.iter().copied().filter(close).min_by_key(|name| distance(written, name));
    let synonym = SYNONYMS.iter().find(|(word, _)| word.eq_ignore_ascii_case(written)).map(|(_, ours)| ours);
    let synonym = names.iter().copied().find(|name| Some(name) == synonym);
    synonym.or(by_letters).or_else(|| {
        // `email` for `payload.email`, or `password` for `password_file`, if only one name fits.
        let contains =
            |name: &&&str| name.split(['.', '_', '-']).any(|part| part.eq_ignore_ascii_case(written));
        let mut containing = names.iter().filter(contains);
        let first = containing.next().copied();
        first.filter(|_| containing.next().is_none())
    })
}

fn distance(written: &str, name: &str) -> usize {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    damerau_levenshtein(&plain(written), &plain(name))
}

/// Returns the end of an error about a name that does not exist, such as ``; did you mean `amount`? (fields: `amount`,
/// `userId`)``. `what` names the list.
pub fn suggestion<'n>(written: &str, what: &str, names: impl IntoIterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let meant = nearest(written, names.iter().copied());
    let meant = meant.map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
    let list = if names.is_empty() { "none".to_owned() } else { format!("`{}`", names.join("`, `")) };
    format!("{meant} ({what}: {list})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_gets_the_nearest_one() {
        let fields = ["amount", "customer.id", "payload.email", "payload.username"];
        for (written, name) in [
            ("amout", Some("amount")),
            ("Amount", Some("amount")),
            ("amuont", Some("amount")),
            ("customer-id", Some("customer.id")),
            ("email", Some("payload.email")),
            ("payload", None),
            ("total", None),
            ("a", None),
        ] {
            assert_eq!(nearest(written, fields), name, "{written}");
        }
        assert_eq!(nearest("string", ["integer", "text", "time"]), Some("text"));
        assert_eq!(nearest("password", ["url", "password_file"]), Some("password_file"));
        assert_eq!(nearest("page_path", ["page-path"]), Some("page-path"));
        assert_eq!(
            suggestion("amout", "fields", ["amount", "id"]),
            "; did you mean `amount`? (fields: `amount`, `id`)"
        );
        assert_eq!(suggestion("x", "views", []), " (views: none)");
    }
}
