//! Walks the text of one event once and passes on its top-level keys, each with the raw text of its value. It builds
//! no tree: a caller parses only the values that it needs.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::limits::JSON_DEPTH_MAX;
use super::parse_error::event_in_plain_words;

/// Calls `each` with every top-level key and the raw text of its value, in order. Fails if the text is not one JSON
/// object, or if `each` fails.
pub fn walk_object<'a>(
    text: &'a str,
    each: impl FnMut(Cow<'a, str>, &'a str) -> Result<(), String>,
) -> Result<(), String> {
    if !text.trim_ascii_start().starts_with('{') {
        return Err(format!("expected a JSON object, got {}", kind_of(text.trim_ascii_start())));
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let walked = (&mut reader).deserialize_map(Walk(each)).and_then(|()| reader.end());
    walked.map_err(|error| event_in_plain_words(&error.to_string()))
}

struct Walk<F>(F);

impl<'a, F: FnMut(Cow<'a, str>, &'a str) -> Result<(), String>> Visitor<'a> for Walk<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'a>>(mut self, mut map: M) -> Result<(), M::Error> {
        while let Some(key) = map.next_key::<Key<'a>>()? {
            let value: &'a RawValue = map.next_value().map_err(|error| {
                let reason = event_in_plain_words(&error.to_string());
                M::Error::custom(format!("{}: {reason}", shortened(&key.0)))
            })?;
            (self.0)(key.0, value.get()).map_err(M::Error::custom)?;
        }
        Ok(())
    }
}

/// A key. It is borrowed unless it contains escapes; serde's own `Cow` always copies.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Key<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        reader.deserialize_str(KeyVisitor)
    }
}

/// Shortens a key for a message: the client chooses its length.
pub fn shortened(key: &str) -> String {
    const CHARS_MAX: usize = 100;
    match key.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}...", &key[..end]),
        None => key.to_owned(),
    }
}

/// Returns the text of a JSON string, or `None` for any other value. Fails if the string contains a NUL or half of a
/// surrogate pair.
pub fn text_of(raw: &str) -> Result<Option<Cow<'_, str>>, &'static str> {
    let Some(inner) = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Ok(None);
    };
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Ok(Some(Cow::Borrowed(inner)));
    }
    match serde_json::from_str::<String>(raw) {
        Ok(text) if text.contains('\0') => Err("contains a NUL character"),
        Ok(text) => Ok(Some(Cow::Owned(text))),
        Err(_) => Err("contains a broken escape"),
    }
}

/// Fails if a value could break later readers: deep nesting, a NUL, or half of a surrogate pair. `depth` is the
/// number of objects between the event and the value.
pub fn check_kept(raw: &str, depth: usize) -> Result<(), String> {
    let (mut depth, mut quoted, mut escaped, mut begin) = (depth, false, false, 0);
    for (at, byte) in raw.bytes().enumerate() {
        match (quoted, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (true, b'"') => {
                quoted = false;
                text_of(&raw[begin..=at])?;
            }
            (false, b'"') => (quoted, begin) = (true, at),
            (false, b'{' | b'[') => {
                depth += 1;
                if depth > JSON_DEPTH_MAX {
                    return Err(format!("is nested deeper than {JSON_DEPTH_MAX}"));
                }
            }
            (false, b'}' | b']') => depth -= 1,
            _ => {}
        }
    }
    Ok(())
}

/// Returns the kind of a JSON value, as it is named in a refusal.
pub fn kind_of(raw: &str) -> &'static str {
    match raw.bytes().next() {
        Some(b'"') => "text",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(b'-' | b'0'..=b'9') => "a number",
        None => "nothing",
        Some(_) => "something that is not JSON",
    }
}
