//! Errors of TOML syntax in plain words.

use std::collections::BTreeSet;
use std::ops::Range;

use toml::de::Error;

/// What the library says, and what it means for a user.
const IN_PLAIN_WORDS: &[(&str, &str)] = &[
    ("string values must be quoted", "a text must be in quotes, such as `name = \"value\"`"),
    ("unclosed array table", "the heading of this section has no closing `]]`"),
    ("unclosed table", "the heading of this section has no closing `]`"),
    ("unclosed array", "this list has no closing `]`"),
    ("unclosed inline table", "this table has no closing `}`"),
    ("missing comma between array elements", "a comma is missing between two elements of this list"),
    ("missing comma between key-value pairs", "a comma is missing between two settings of this table"),
    ("extra comma", "there is one comma too many here"),
    ("invalid key-value pair", "there is no name here; write `name = value`"),
    ("missing value", "there is no value after the `=`"),
    ("key with no value", "this name has no value; write `name = value`"),
    ("missing assignment", "there is no `=` between the name and its value"),
    ("extra assignment", "there is one `=` too many here"),
    ("extra `=`", "there is one `=` too many here"),
    (
        "unexpected `=` in array",
        "a list has no names; for names and values write a table such as `{ a = 1 }`",
    ),
    (
        "invalid basic string",
        "this text has no closing quote, or contains an unknown escape such as `\\d`; write `\\\\` for a backslash",
    ),
    (
        "invalid multi-line basic string",
        "this text has no closing `\"\"\"`, or contains an unknown escape such as `\\d`",
    ),
    ("invalid literal string", "this text has no closing `'`"),
    ("invalid multi-line literal string", "this text has no closing `'''`"),
    (
        "missing escaped value",
        "the escape in this text is unknown or incomplete; write `\\\\` for a backslash",
    ),
    ("missing opening quote", "this text has no quote at its beginning"),
    (
        "invalid unquoted key",
        "this name must be in quotes, because it has characters besides letters, digits, `-` and `_`",
    ),
    ("unquoted keys cannot be empty", "there is no name here; write `name = value`"),
    ("unexpected leading zero", "a number cannot begin with `0`; if this is a text, write it in quotes"),
    ("cannot extend value", "this name already has a value, so that it cannot have settings inside"),
    (
        "unexpected key or value",
        "there is text here that belongs to no setting; write each setting on its own line",
    ),
    (
        "unexpected content",
        "there is text here that belongs to no setting; write each setting on its own line",
    ),
    ("invalid comment character", "this comment contains a control character"),
    (
        "carriage return",
        "this line ends with a carriage return without a line feed; save the file with ordinary line ends",
    ),
    ("recursion limit", "lists and tables are nested too deeply here"),
    ("cannot recurse further", "lists and tables are nested too deeply here"),
];

/// Returns the first error of each line, with the part of the text that it is about. Later errors of a line usually
/// follow from the first one, and so do all errors after a list that is not closed.
pub fn in_plain_words(text: &str, errors: &[Error]) -> Vec<(Range<usize>, String)> {
    let place = |error: &Error| error.span().unwrap_or(text.len()..text.len());
    let mut plain_errors: Vec<(Range<usize>, String)> = errors
        .iter()
        .map(|error| (place(error), plain(text.get(place(error)).unwrap_or_default(), error.message())))
        .collect();
    plain_errors.sort_by_key(|(span, _)| span.start);
    let says = |error: &Error, words: &str| error.message().split(',').next() == Some(words);
    if errors.iter().any(|error| says(error, "unclosed array")) {
        let in_list = |error: &&Error| {
            says(error, "unclosed array") || says(error, "missing comma between array elements")
        };
        let end = errors.iter().filter(in_list).map(|error| place(error).start).min().unwrap_or(text.len());
        plain_errors.retain(|(span, _)| span.start < end);
        plain_errors.push((end..end, "this list has no closing `]`".to_owned()));
    }
    let mut lines = BTreeSet::new();
    plain_errors.retain(|(span, _)| {
        let before = text.as_bytes().get(..span.start).unwrap_or_default();
        lines.insert(before.iter().filter(|byte| **byte == b'\n').count())
    });
    plain_errors
}

/// `written` is the part of the text that the message is about. Values are not shown: they may be passwords.
fn plain(written: &str, message: &str) -> String {
    let reason = match message.split(", expected").next().unwrap_or_default() {
        "duplicate key" => return format!("`{written}` is set twice; remove one of them"),
        "string values must be quoted" if written.is_empty() => "there is no value after the `=`",
        "string values must be quoted" if written.starts_with(['“', '”', '„', '‘', '’']) => {
            "a text must be in straight quotes (`\"`), not in typographic ones"
        }
        "string values must be quoted" if written.contains(char::is_whitespace) => {
            "this is not one value: a text must be in quotes, elements of a list are separated by commas, and each setting is on its own line"
        }
        "invalid unquoted key" if written == ":" => "write `=` between a name and its value, not `:`",
        description => match IN_PLAIN_WORDS.iter().find(|(theirs, _)| description.starts_with(theirs)) {
            Some((_, plain)) => plain,
            None => return format!("this is not valid TOML: {message}"),
        },
    };
    reason.to_owned()
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;

    #[test]
    fn errors_of_syntax_are_in_plain_words() {
        for (text, expected) in [
            ("a = abc", "a text must be in quotes"),
            ("[log\nb = 1", "the heading of this section has no closing `]`"),
            ("a = [1, 2\nb = 3", "this list has no closing `]`"),
            ("a = [1 2]", "elements of a list are separated by commas"),
            ("a = [\"x\" \"y\"]", "a comma is missing between two elements"),
            ("a = { b = \"x\" c = 2 }", "a comma is missing between two settings"),
            ("a = { b = 1", "this table has no closing `}`"),
            ("a =", "there is no value after the `=`"),
            ("a", "this name has no value"),
            ("a 1", "this name has no value"),
            ("a: 1", "write `=` between a name and its value"),
            ("= 1", "there is no name here"),
            ("a = “x”", "straight quotes"),
            ("{\"a\": 1}", "write `name = value`"),
            ("a = \"x", "this text has no closing quote"),
            ("a = 'x", "this text has no closing `'`"),
            ("a = \"\\d\"", "escape"),
            ("a = 1\na = 2", "`a` is set twice"),
            ("[a]\n[a]", "`a` is set twice"),
            ("a b = 1", "this name has no value"),
            ("a = 007", "a number cannot begin with `0`"),
            ("a = 1 b = 2", "each setting is on its own line"),
            ("a = \"x\" y", "there is text here that belongs to no setting"),
            ("ä = 1", "this name must be in quotes"),
        ] {
            let (_, errors) = DeTable::parse_recoverable(text);
            let plain = in_plain_words(text, &errors);
            let first = plain.first().map(|(_, reason)| reason.as_str()).unwrap_or_default();
            let raw: Vec<&str> = errors.iter().map(Error::message).collect();
            assert!(first.contains(expected), "{text}\n  says {plain:?}\n  raw {raw:?}");
            assert!(!first.contains("TOML"), "{text}: {plain:?}");
        }
    }

    #[test]
    fn each_line_has_one_error_and_all_lines_are_reported() {
        let text = "a = abc def ghi\nb = 1\nc = xyz\n";
        let (_, errors) = DeTable::parse_recoverable(text);
        let plain = in_plain_words(text, &errors);
        assert_eq!(plain.iter().map(|(span, _)| span.start).collect::<Vec<_>>(), [4, 26]);
    }
}
