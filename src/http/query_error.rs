//! Errors of the parser of query strings in plain words.

use event::name_in_plain_words;

/// Rewrites a message about a query string, which may begin with the name of the parameter.
pub fn query_in_plain_words(message: &str) -> String {
    // The name before such a message may contain anything, and the message repeats it.
    if let Some(at) = ["unknown field `", "missing field `", "duplicate field `"]
        .iter()
        .filter_map(|begin| message.find(begin))
        .min()
        && let Some(reason) = name_in_plain_words(&message[at..])
    {
        return reason;
    }
    let Some((name, reason)) = message.split_once(": ") else { return message.to_owned() };
    if let Some(reason) = name_in_plain_words(reason) {
        return format!("`{name}`: {reason}");
    }
    let plain = match reason {
        "provided string was not `true` or `false`" => "must be `true` or `false`",
        "cannot parse integer from empty string" => "must be a whole number, but is empty",
        "number too large to fit in target type" => "is too large",
        "number too small to fit in target type" => "is too small",
        "invalid digit found in string" => "must be a whole number",
        own => own,
    };
    format!("`{name}` {plain}")
}

#[cfg(test)]
mod tests {
    use axum::extract::rejection::QueryRejection;
    use axum::http::Uri;
    use serde::Deserialize;

    use crate::http::ApiError;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only read by the parser")]
    struct Parameters {
        group: String,
        limit: Option<usize>,
        after: Option<i64>,
        #[serde(default)]
        settled: bool,
        wait: Option<Wait>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Wait {
        Applied,
    }

    #[test]
    fn errors_of_queries_are_in_plain_words() {
        for (query, expected) in [
            ("", "query: `group` is missing"),
            ("group=a&group=b", "query: `group` is given twice"),
            ("group=a&limit=", "query: `limit` must be a whole number, but is empty"),
            ("group=a&limit=x", "query: `limit` must be a whole number"),
            ("group=a&limit=-1", "query: `limit` must be a whole number"),
            ("group=a&limit=99999999999999999999999", "query: `limit` is too large"),
            ("group=a&after=-99999999999999999999999", "query: `after` is too small"),
            ("group=a&settled=yes", "query: `settled` must be `true` or `false`"),
            (
                "group=a&limt=1",
                "query: `limt` does not exist; did you mean `limit`? (names: `group`, `limit`, `after`, `settled`, `wait`)",
            ),
            (
                "group=a&wait=aplied",
                "query: `wait`: `aplied` does not exist; did you mean `applied`? (values: `applied`)",
            ),
            (
                "a:%20b=1",
                "query: `a: b` does not exist (names: `group`, `limit`, `after`, `settled`, `wait`)",
            ),
        ] {
            let uri: Uri = format!("/?{query}").parse().expect("a URI");
            let read: Result<axum::extract::Query<Parameters>, QueryRejection> =
                axum::extract::Query::try_from_uri(&uri);
            let error = ApiError::from(read.expect_err(query));
            assert_eq!(error.detail(), expected, "{query}");
        }
    }
}
