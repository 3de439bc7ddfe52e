//! What a stream declares about its events, and the two uses of it: the check at the door, which
//! refuses with field and reason, and the reading of single values by the folds. Both go through
//! `Field::read`, so that a fold never sees what the door did not.

use std::borrow::Cow;
use std::fmt;

use super::json::{check_kept, kind_of, shortened, text_of, walk_object};
use super::limits::{CLIENT_ID_CHARS_MAX, JSON_KEYS_MAX};
use super::{Decimal, Millis};

/// The declared fields of one stream.
#[derive(Clone, Debug)]
pub struct Fields {
    list: Vec<Field>,
    key: usize,
}

#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub kind: Kind,
    pub required: bool,
    /// If not empty, the only texts allowed.
    pub one_of: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text {
        chars_max: u32,
    },
    Integer {
        min: i64,
        max: i64,
    },
    Decimal,
    Time,
    Boolean,
    /// Anything that is JSON, kept as it was sent.
    Any,
}

/// One value of an event, borrowed from its text where possible.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    Absent,
    Text(Cow<'a, str>),
    Integer(i64),
    Decimal(Decimal),
    Time(Millis),
    Boolean(bool),
    Any(&'a str),
}

/// Which field was wrong, and why.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, thiserror::Error)]
pub struct FieldError {
    /// Empty where the event as a whole is wrong.
    pub field: String,
    pub reason: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.is_empty() {
            true => f.write_str(&self.reason),
            false => write!(f, "{}: {}", self.field, self.reason),
        }
    }
}

/// What the door keeps of a checked event beside its text.
#[derive(Debug, PartialEq, Eq)]
pub struct Checked<'a> {
    /// The top-level `id`, if it is there and not empty.
    pub client_id: Option<Cow<'a, str>>,
}

impl Fields {
    /// `key` is the index of a required text field.
    pub fn new(list: Vec<Field>, key: usize) -> Self {
        assert!(key < list.len(), "the key is one of the fields");
        Self { list, key }
    }

    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.list.iter().position(|field| field.name == name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Field> {
        self.list.iter()
    }

    pub fn get(&self, index: usize) -> &Field {
        &self.list[index]
    }

    pub fn key(&self) -> usize {
        self.key
    }

    /// The door's check of a whole event. With `ids`, a top-level `id` is the client's name for it and
    /// has to be one.
    pub fn check<'a>(&self, text: &'a str, ids: bool) -> Result<Checked<'a>, FieldError> {
        let mut met: Vec<Cow<'a, str>> = Vec::with_capacity(8);
        let mut found: Vec<Option<&'a str>> = vec![None; self.list.len()];
        let mut id = None;
        let mut wrong = None;
        walk_object(text, |key, raw| {
            let mut refuse = |reason: String| {
                wrong = Some(FieldError { field: shortened(&key), reason });
                Err(String::new())
            };
            if met.contains(&key) {
                return refuse("is given twice".to_owned());
            }
            if key.contains('\0') {
                return refuse("has a NUL character in its name".to_owned());
            }
            if met.len() == JSON_KEYS_MAX {
                return Err(format!("has more than {JSON_KEYS_MAX} keys"));
            }
            if let Some(index) = self.list.iter().position(|field| field.name == key) {
                found[index] = Some(raw);
            } else if let Err(reason) = check_kept(raw) {
                return refuse(reason);
            }
            if ids && key == "id" {
                id = Some(raw);
            }
            met.push(key);
            Ok(())
        })
        .map_err(|reason| wrong.take().unwrap_or(FieldError { field: String::new(), reason }))?;
        for (field, raw) in self.list.iter().zip(found) {
            field.read(raw)?;
        }
        Ok(Checked { client_id: client_id(id)? })
    }

    /// Reads the fields `wanted` of an event that a door has let in, in that order.
    pub fn read<'a>(
        &self,
        text: &'a str,
        wanted: &[usize],
        into: &mut Vec<Value<'a>>,
    ) -> Result<(), FieldError> {
        into.clear();
        into.resize(wanted.len(), Value::Absent);
        let mut met = 0_u64;
        let mut wrong = None;
        walk_object(text, |key, raw| {
            for (place, &index) in wanted.iter().enumerate() {
                if self.list[index].name == key {
                    met |= 1 << place;
                    match self.list[index].read(Some(raw)) {
                        Ok(value) => into[place] = value,
                        Err(error) => wrong = Some(error),
                    }
                }
            }
            Ok(())
        })
        .map_err(|reason| FieldError { field: String::new(), reason })?;
        if let Some(error) = wrong {
            return Err(error);
        }
        for (place, &index) in wanted.iter().enumerate() {
            if met & (1 << place) == 0 {
                self.list[index].read(None)?;
            }
        }
        Ok(())
    }
}

impl Fields {
    /// Whether a sound event has this value in one of its fields; none that was erased has.
    pub fn names(&self, text: &str, field: usize, wanted: &str) -> bool {
        let mut values = Vec::with_capacity(1);
        if text.trim_ascii().is_empty() || self.read(text, &[field], &mut values).is_err() {
            return false;
        }
        match &values[0] {
            Value::Text(text) => text == wanted,
            Value::Integer(number) => wanted.parse() == Ok(*number),
            _ => false,
        }
    }
}

fn client_id(raw: Option<&str>) -> Result<Option<Cow<'_, str>>, FieldError> {
    let Some(raw) = raw else { return Ok(None) };
    let field = Field {
        name: "id".to_owned(),
        kind: Kind::Text { chars_max: CLIENT_ID_CHARS_MAX as u32 },
        required: false,
        one_of: Vec::new(),
    };
    match field.read(Some(raw))? {
        Value::Text(text) => Ok(Some(text)),
        _ => Ok(None),
    }
}

impl Field {
    /// Whether its values say who somebody is: text or integers.
    pub fn is_identity(&self) -> bool {
        matches!(self.kind, Kind::Text { .. } | Kind::Integer { .. })
    }

    /// The value that `raw` is under this declaration. Null and empty text count as absent.
    pub fn read<'a>(&self, raw: Option<&'a str>) -> Result<Value<'a>, FieldError> {
        let value = match raw {
            None | Some("null" | "\"\"") => Value::Absent,
            Some(raw) => self.typed(raw).map_err(|reason| self.wrong(reason))?,
        };
        if self.required && value == Value::Absent {
            return Err(self.wrong("is missing".to_owned()));
        }
        match &value {
            Value::Text(text) if !self.one_of.is_empty() && !self.one_of.iter().any(|one| one == text) => {
                let allowed: Vec<String> = self.one_of.iter().map(|one| format!("`{one}`")).collect();
                Err(self.wrong(format!("must be one of {}", allowed.join(", "))))
            }
            _ => Ok(value),
        }
    }

    fn typed<'a>(&self, raw: &'a str) -> Result<Value<'a>, String> {
        let expected = |what: &str| format!("expected {what}, got {}", kind_of(raw));
        let number = raw.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        match self.kind {
            Kind::Text { chars_max } => {
                let text = match text_of(raw)? {
                    Some(text) => text,
                    None if number && is_integer(raw) => Cow::Borrowed(raw),
                    None => return Err(expected("text")),
                };
                let short = text.len() <= chars_max as usize || text.chars().count() <= chars_max as usize;
                if short {
                    Ok(Value::Text(text))
                } else {
                    Err(format!("is longer than {chars_max} characters"))
                }
            }
            Kind::Integer { min, max } => match raw.parse::<i64>() {
                Ok(value) if (min..=max).contains(&value) => Ok(Value::Integer(value)),
                Ok(_) => Err(format!("must be between {min} and {max}")),
                Err(_) if number && is_integer(raw) => Err(format!("must be between {min} and {max}")),
                Err(_) => Err(expected("an integer")),
            },
            Kind::Decimal if number => {
                Decimal::amount(raw).map(Value::Decimal).map_err(|error| error.to_string())
            }
            Kind::Decimal => Err(expected("a number")),
            Kind::Time => {
                let time = match text_of(raw)? {
                    Some(text) => text.parse::<Millis>(),
                    None => raw.parse::<i64>().map_err(|_| super::TimeError).and_then(Millis::from_epoch),
                };
                time.map(Value::Time).map_err(|error| error.to_string())
            }
            Kind::Boolean => match raw {
                "true" => Ok(Value::Boolean(true)),
                "false" => Ok(Value::Boolean(false)),
                _ => Err(expected("a boolean")),
            },
            Kind::Any => check_kept(raw).map(|()| Value::Any(raw)),
        }
    }

    fn wrong(&self, reason: String) -> FieldError {
        FieldError { field: self.name.clone(), reason }
    }
}

fn is_integer(number: &str) -> bool {
    number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sale() -> Fields {
        let field =
            |name: &str, kind, required| Field { name: name.to_owned(), kind, required, one_of: Vec::new() };
        let mut list = vec![
            field("userId", Kind::Text { chars_max: 8 }, true),
            field("name", Kind::Text { chars_max: 20 }, true),
            field("value", Kind::Decimal, true),
            field("at", Kind::Time, false),
        ];
        list[1].one_of = vec!["add".to_owned(), "sub".to_owned()];
        Fields::new(list, 0)
    }

    fn refusal(text: &str) -> String {
        sale().check(text, true).expect_err(text).to_string()
    }

    #[test]
    fn the_door_names_field_and_reason() {
        let cases = [
            (r#"{"name":"add","value":1}"#, "userId: is missing"),
            (r#"{"userId":"","name":"add","value":1}"#, "userId: is missing"),
            (r#"{"userId":null,"name":"add","value":1}"#, "userId: is missing"),
            (r#"{"userId":true,"name":"add","value":1}"#, "userId: expected text, got a boolean"),
            (r#"{"userId":1.5,"name":"add","value":1}"#, "userId: expected text, got a number"),
            (r#"{"userId":"123456789","name":"add","value":1}"#, "userId: is longer than 8 characters"),
            (r#"{"userId":"a\u0000","name":"add","value":1}"#, "userId: contains a NUL character"),
            (r#"{"userId":"a\ud800","name":"add","value":1}"#, "userId: contains a broken escape"),
            (r#"{"userId":"a","name":"give","value":1}"#, "name: must be one of `add`, `sub`"),
            (r#"{"userId":"a","name":"add","value":"1"}"#, "value: expected a number, got text"),
            (
                r#"{"userId":"a","name":"add","value":1e400}"#,
                "value: has more than 15 digits before the point",
            ),
            (r#"{"userId":"a","name":"add","value":1,"value":2}"#, "value: is given twice"),
            (r#"{"userId":"a","name":"add","value":1,"x":1,"x":1}"#, "x: is given twice"),
            (
                r#"{"userId":"a","name":"add","value":1,"at":"soon"}"#,
                "at: expected a time such as 2025-11-01T10:00:00Z, 2025-11-01 or epoch milliseconds",
            ),
            (r#"{"userId":"a","name":"add","value":1,"x":"\u0000"}"#, "x: contains a NUL character"),
            (
                r#"{"userId":"a","name":"add","value":1,"x":[1e400,{"\u0000":1}]}"#,
                "x: contains a NUL character",
            ),
            (r#"{"userId":"a","name":"add","value":1,"x":[1e400,"\ud800"]}"#, "x: contains a broken escape"),
            (r#"{"userId":"a","name":"add","value":1,"x\u0000":1}"#, "x\0: has a NUL character in its name"),
            (r#"{"userId":"a","name":"add","value":1,"id":{}}"#, "id: expected text, got an object"),
            (r"[1]", "expected a JSON object, got an array"),
            (r"", "expected a JSON object, got nothing"),
        ];
        for (text, message) in cases {
            assert_eq!(refusal(text), message, "{text}");
        }
        assert_eq!(refusal(r#"{"userId":"a","name":"add","value":NaN}"#), "value: expected value");
        assert!(refusal(r#"{"userId":"a","name":"add","val"#).contains("EOF"));
        assert!(refusal(r#"{"userId":"a","name":"add","value":1} x"#).contains("trailing"));
        assert!(refusal(r#"{"userId":"a","name":"add","value":1"#).contains("EOF"));
    }

    #[test]
    fn deep_nesting_is_refused_without_recursion() {
        let deep = format!(
            r#"{{"userId":"a","name":"add","value":1,"x":{}{}}}"#,
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        assert_eq!(refusal(&deep), "x: is nested deeper than 64");
    }

    #[test]
    fn a_fold_reads_what_the_door_let_in() {
        let text = r#"{"value":10.99,"x":{"y":[1e400]},"userId":42,"name":"a\u0064d","id":"mine"}"#;
        let fields = sale();
        assert_eq!(fields.check(text, true), Ok(Checked { client_id: Some(Cow::Borrowed("mine")) }));
        assert_eq!(fields.check(text, false), Ok(Checked { client_id: None }));
        let mut values = Vec::new();
        assert_eq!(fields.read(text, &[0, 2, 1, 3], &mut values), Ok(()));
        assert_eq!(values[0], Value::Text("42".into()));
        assert_eq!(values[1], Value::Decimal("10.99".parse().expect("a number")));
        assert_eq!(values[2], Value::Text("add".into()));
        assert_eq!(values[3], Value::Absent);
    }
}
