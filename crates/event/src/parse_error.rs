//! Errors of the JSON parser in plain words: what was expected, what was found, and where.

use crate::suggestion;

/// Each message of the JSON parser about syntax, and the sentence that replaces it.
const SYNTAX: &[(&str, &str)] = &[
    ("EOF while parsing a list", "the JSON ends inside an array"),
    ("EOF while parsing an object", "the JSON ends inside an object"),
    ("EOF while parsing a string", "the JSON ends inside a text"),
    ("EOF while parsing a value", "the JSON ends where a value is expected"),
    ("expected `:`", "expected `:` after a key"),
    ("expected `,` or `]`", "expected `,` or `]` after an item of an array"),
    ("expected `,` or `}`", "expected `,` or `}` after a value of an object"),
    ("expected ident", "expected a JSON value; the only words are `true`, `false` and `null`"),
    ("expected value", "expected a JSON value; a text must be in double quotes"),
    ("expected `\"`", "expected a text in double quotes"),
    ("key must be a string", "a key must be in double quotes"),
    ("invalid escape", "a text contains an unknown escape; write `\\\\` for a backslash"),
    ("invalid unicode code point", "a text contains an invalid `\\u` escape, or is not UTF-8"),
    ("lone leading surrogate in hex escape", "a text contains half of a pair of `\\u` escapes"),
    ("unexpected end of hex escape", "a text contains half of a pair of `\\u` escapes"),
    ("control character", "a text contains a control character; write it as an escape, such as `\\n`"),
    ("invalid number", "a number is not written as JSON requires, such as `1` or `-2.5`"),
    ("number out of range", "a number is too large"),
    ("trailing comma", "there is a `,` after the last item"),
    ("trailing characters", "there is more text after the end of the JSON"),
    ("recursion limit exceeded", "arrays and objects are nested too deeply"),
    ("data did not match any variant", "a value has none of its possible forms"),
];

/// The kinds of values as the parser names them, and as a client knows them.
const KINDS: &[(&str, &str)] = &[
    ("boolean", "a boolean"),
    ("a boolean", "a boolean"),
    ("integer", "a number"),
    ("floating point", "a number"),
    ("string", "text"),
    ("a string", "text"),
    ("character", "text"),
    ("variant identifier", "text"),
    ("null", "null"),
    ("unit", "null"),
    ("sequence", "an array"),
    ("a sequence", "an array"),
    ("map", "an object"),
    ("a map", "an object"),
    ("struct ", "an object"),
    ("internally tagged enum", "an object"),
    ("u8", "a whole number from 0 on"),
    ("u16", "a whole number from 0 on"),
    ("u32", "a whole number from 0 on"),
    ("u64", "a whole number from 0 on"),
    ("usize", "a whole number from 0 on"),
    ("i64", "a whole number"),
    ("f64", "a number"),
];

/// Names in a message are cut after this many characters: the client chooses their length.
const NAME_CHARS_MAX: usize = 100;

/// Rewrites a message of `serde_json` about a client's text. Other messages are millrace's own, and stay as they are.
pub fn json_in_plain_words(message: &str) -> String {
    let (reason, place) = split_place(message);
    match (
        name_in_plain_words(reason),
        about_value(reason),
        place.and_then(|place| place.split_once(" column ")),
    ) {
        (Some(plain), _, _) => plain,
        // A value that is built in steps has no place.
        (None, Some(plain), Some((line, column))) if line != "0" => {
            format!("line {line}, column {column}: {plain}")
        }
        (None, Some(plain), _) => plain,
        (None, None, _) => reason.to_owned(),
    }
}

/// The same for the text of one event, of which the line and column would help nobody.
pub fn event_in_plain_words(message: &str) -> String {
    let (reason, _) = split_place(message);
    name_in_plain_words(reason).or_else(|| about_value(reason)).unwrap_or_else(|| reason.to_owned())
}

fn split_place(message: &str) -> (&str, Option<&str>) {
    message.rsplit_once(" at line ").map_or((message, None), |(reason, place)| (reason, Some(place)))
}

fn about_value(reason: &str) -> Option<String> {
    // A message of millrace's own may begin with a key that a client chose, and then goes on with a colon.
    let says = |theirs: &str| {
        reason.strip_prefix(theirs).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    };
    let plain = SYNTAX.iter().find(|(theirs, _)| says(theirs));
    plain.map(|(_, plain)| (*plain).to_owned()).or_else(|| about_kind(reason))
}

/// Rewrites a message about a name that is missing, repeated or unknown, or about a word that is not among those allowed.
pub fn name_in_plain_words(reason: &str) -> Option<String> {
    if let Some(name) = quoted(reason, "missing field `") {
        return Some(format!("`{name}` is missing"));
    }
    if let Some(name) = quoted(reason, "duplicate field `") {
        return Some(format!("`{name}` is given twice"));
    }
    let (what, rest) = match reason.strip_prefix("unknown variant `") {
        Some(rest) => ("values", rest),
        None => ("names", reason.strip_prefix("unknown field `")?),
    };
    let (written, known) = rest
        .rsplit_once("`, expected ")
        .or_else(|| rest.rsplit_once("`, there are no "))
        .unwrap_or((rest, ""));
    let written: String = written.chars().take(NAME_CHARS_MAX).collect();
    let known = known.split('`').skip(1).step_by(2);
    Some(format!("`{written}` does not exist{}", suggestion(&written, what, known)))
}

/// Returns the name in a message that consists of `begin`, the name and a backtick.
fn quoted<'a>(reason: &'a str, begin: &str) -> Option<&'a str> {
    reason.strip_prefix(begin)?.strip_suffix('`')
}

/// Rewrites a message about a value of another kind. The value is not shown: it may be long or private.
fn about_kind(reason: &str) -> Option<String> {
    let kind =
        |theirs: &str| KINDS.iter().find(|(begin, _)| theirs.starts_with(begin)).map(|(_, plain)| *plain);
    let (found, expected) = match reason.strip_prefix("invalid length ") {
        // The parser reads an array as an object without keys.
        Some(rest) => ("an array", rest.rsplit_once(", expected ")?.1),
        None => {
            let is_value = reason.starts_with("invalid value: ");
            let rest =
                reason.strip_prefix("invalid type: ").or_else(|| reason.strip_prefix("invalid value: "))?;
            let (found, expected) = rest.rsplit_once(", expected ")?;
            let found = kind(found).unwrap_or("another value");
            (
                if is_value && found == "a number" { "one that is negative or too large" } else { found },
                expected,
            )
        }
    };
    // Other expectations are millrace's own words.
    Some(format!("expected {}, got {found}", kind(expected).unwrap_or(expected)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde::de::DeserializeOwned;
    use serde_json::value::RawValue;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only read by the parser")]
    struct Body {
        name: String,
        scopes: Vec<String>,
        #[serde(default)]
        tags: BTreeMap<String, String>,
        #[serde(default)]
        limit: u64,
        #[serde(default)]
        open: bool,
        kind: Option<Tagged>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(tag = "kind", rename_all = "lowercase")]
    #[allow(dead_code, reason = "only read by the parser")]
    enum Tagged {
        Ledger { amount: Amount },
        Stats { group: String },
    }

    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    #[allow(dead_code, reason = "only read by the parser")]
    enum Amount {
        Always(String),
        By(BTreeMap<String, String>),
    }

    fn refused<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> String {
        json_in_plain_words(&serde_json::from_str::<T>(text).expect_err(text).to_string())
    }

    #[test]
    fn errors_of_json_are_in_plain_words() {
        for (text, expected) in [
            ("", "line 1, column 0: the JSON ends where a value is expected"),
            ("{\n\"name\": \"x\",\n", "line 3, column 0: the JSON ends where a value is expected"),
            ("{", "line 1, column 1: the JSON ends inside an object"),
            (r#"{"name":"x"#, "line 1, column 10: the JSON ends inside a text"),
            (r#"{"name" "x"}"#, "line 1, column 9: expected `:` after a key"),
            (r#"{name:"x"}"#, "line 1, column 2: a key must be in double quotes"),
            (r#"{"name":x}"#, "line 1, column 9: expected a JSON value; a text must be in double quotes"),
            (r#"{"name":"x"} {}"#, "`scopes` is missing"),
            (
                r#"{"name":"x","scopes":[]} {}"#,
                "line 1, column 26: there is more text after the end of the JSON",
            ),
            (
                r#"{"name":"\d"}"#,
                "line 1, column 11: a text contains an unknown escape; write `\\\\` for a backslash",
            ),
            ("{\"name\":\"a\nb\"}", "a text contains a control character"),
            (r#"{"name":1}"#, "line 1, column 9: expected text, got a number"),
            (r#"{"name":1.5}"#, "expected text, got a number"),
            (r#"{"name":null}"#, "expected text, got null"),
            (r#"{"name":true}"#, "expected text, got a boolean"),
            (r#"{"name":["secret"]}"#, "expected text, got an array"),
            (r#"{"name":{}}"#, "expected text, got an object"),
            (r#"{"scopes":"secret, expected u64"}"#, "expected an array, got text"),
            (r#"{"tags":[]}"#, "expected an object, got an array"),
            (r#"{"limit":"1"}"#, "expected a whole number from 0 on, got text"),
            (r#"{"limit":-1}"#, "expected a whole number from 0 on, got one that is negative or too large"),
            (r#"{"limit":1.5}"#, "expected a whole number from 0 on, got a number"),
            (r#"{"open":1}"#, "expected a boolean, got a number"),
            ("[]", "expected an object, got an array"),
            ("5", "expected an object, got a number"),
            ("\"secret\"", "expected an object, got text"),
            (r#"{"name":"x","name":"y"}"#, "`name` is given twice"),
            (r#"{"names":1}"#, "`names` does not exist; did you mean `name`? (names: `name`, `scopes`, "),
            (r#"{"`x`, expected `y":1}"#, "does not exist (names: `name`, `scopes`, "),
            (
                r#"{"kind":{"kind":"leger"}}"#,
                "`leger` does not exist; did you mean `ledger`? (values: `ledger`, `stats`)",
            ),
            (r#"{"kind":{}}"#, "`kind` is missing"),
            (r#"{"kind":{"kind":"stats"}}"#, "`group` is missing"),
            (r#"{"kind":{"kind":"ledger","amount":1}}"#, "a value has none of its possible forms"),
            (r#"{"kind":5}"#, "expected an object, got a number"),
        ] {
            let plain = refused::<Body>(text);
            assert!(plain.contains(expected), "{text}\n  says {plain}\n  not  {expected}");
            assert!(!plain.contains("secret"), "{plain}");
        }
        for (text, expected) in [
            ("[1,", "the JSON ends where a value is expected"),
            ("[1", "line 1, column 2: the JSON ends inside an array"),
            ("[1 2]", "expected `,` or `]` after an item of an array"),
            ("[1,]", "there is a `,` after the last item"),
            (r#"[{"a":1 "b":2}]"#, "expected `,` or `}` after a value of an object"),
            ("[nul]", "the only words are `true`, `false` and `null`"),
            ("[1.]", "a number is not written as JSON requires"),
            ("[\"\\ud800\"]", "`\\u` escape"),
        ] {
            let plain = match serde_json::from_str::<Vec<Box<RawValue>>>(text) {
                Err(error) => json_in_plain_words(&error.to_string()),
                // Raw text is not decoded.
                Ok(_) => refused::<Vec<String>>(text),
            };
            assert!(plain.contains(expected), "{text}\n  says {plain}\n  not  {expected}");
        }
        let long = format!("{{\"{}\":1}}", "x".repeat(1_000));
        assert!(refused::<Body>(&long).len() < 300);
        assert_eq!(
            json_in_plain_words("a name must have 1 to 100 plain characters at line 1 column 7"),
            "a name must have 1 to 100 plain characters"
        );
    }
}
