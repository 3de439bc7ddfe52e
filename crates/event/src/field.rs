//! One declared field: its allowed values, and reading a value from its JSON text. Admission and the folds both call
//! `Field::read`, so that a fold never gets a value that admission would refuse.

use std::borrow::Cow;
use std::fmt;

use super::email::is_email;
use super::json::{check_kept, kind_of, text_of};
use super::limits::{AMOUNT_DIGITS_MAX, AMOUNT_PLACES_MAX};
use super::{Decimal, DecimalError, Millis};

/// A field that a stream declares.
#[derive(Clone, Debug)]
pub struct Field {
    /// The name, or a path with dots: `payload.email` is the `email` in the object `payload`.
    pub name: String,
    pub kind: Kind,
    pub required: bool,
    /// The allowed texts; if empty, all are allowed.
    pub one_of: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text {
        chars_min: u32,
        chars_max: u32,
        form: Form,
    },
    Integer {
        min: i64,
        max: i64,
    },
    /// A number with at most this many digits before the decimal point and places after it.
    Decimal {
        digits: u32,
        places: u32,
    },
    Time,
    Boolean,
    /// Any JSON value, kept as it was sent.
    Any,
}

/// The required form of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Free,
    Email,
}

impl Kind {
    /// A number with as many digits and places as an amount may have.
    pub const AMOUNT: Self = Self::Decimal { digits: AMOUNT_DIGITS_MAX, places: AMOUNT_PLACES_MAX };

    /// Returns the kind for any text of at most `chars_max` characters.
    pub const fn text(chars_max: u32) -> Self {
        Self::Text { chars_min: 0, chars_max, form: Form::Free }
    }
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

/// A field that is not valid, and the reason.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, thiserror::Error)]
pub struct FieldError {
    /// Empty if the event as a whole is not valid.
    pub field: String,
    pub reason: String,
}

const MISSING: &str = "is missing";

impl FieldError {
    /// Returns whether a required field is missing.
    pub fn is_missing(&self) -> bool {
        self.reason == MISSING
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.reason)
        } else {
            write!(f, "{}: {}", self.field, self.reason)
        }
    }
}

/// The faults of one event. There is at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldErrors(pub(crate) Vec<FieldError>);

impl FieldErrors {
    /// Returns a fault of the event as a whole.
    pub fn of_event(reason: impl Into<String>) -> Self {
        FieldError { field: String::new(), reason: reason.into() }.into()
    }

    pub fn iter(&self) -> impl Iterator<Item = &FieldError> {
        self.0.iter()
    }
}

impl From<FieldError> for FieldErrors {
    fn from(error: FieldError) -> Self {
        Self(vec![error])
    }
}

impl IntoIterator for FieldErrors {
    type Item = FieldError;
    type IntoIter = std::vec::IntoIter<FieldError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if index > 0 { "; " } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for FieldErrors {}

impl Field {
    /// Returns whether the values can identify a person: texts and integers can.
    pub fn is_identity(&self) -> bool {
        matches!(self.kind, Kind::Text { .. } | Kind::Integer { .. })
    }

    /// Reads a value from its JSON text. `null` and an empty text count as absent. Fails if the value is not allowed.
    pub fn read<'a>(&self, raw: Option<&'a str>) -> Result<Value<'a>, FieldError> {
        let value = match raw {
            None | Some("null" | "\"\"") => Value::Absent,
            Some(raw) => self.typed(raw).map_err(|reason| self.wrong(reason))?,
        };
        if self.required && value == Value::Absent {
            return Err(self.wrong(MISSING.to_owned()));
        }
        match &value {
            Value::Text(text) if !self.one_of.is_empty() && !self.one_of.iter().any(|one| one == text) => {
                let allowed: Vec<String> = self.one_of.iter().map(|one| format!("`{one}`")).collect();
                Err(self.wrong(format!("must be one of {}", allowed.join(", "))))
            }
            _ => Ok(value),
        }
    }

    /// Reads a text that no stream declares. Returns `None` if it is absent. Fails if it is not allowed.
    pub fn read_text<'a>(
        name: &str,
        raw: Option<&'a str>,
        required: bool,
        chars_max: usize,
    ) -> Result<Option<Cow<'a, str>>, FieldError> {
        // It runs for every event, so an absent text costs nothing.
        if raw.is_none() && !required {
            return Ok(None);
        }
        let kind = Kind::text(chars_max as u32);
        let field = Self { name: name.to_owned(), kind, required, one_of: Vec::new() };
        match field.read(raw)? {
            Value::Text(text) => Ok(Some(text)),
            _ => Ok(None),
        }
    }

    fn typed<'a>(&self, raw: &'a str) -> Result<Value<'a>, String> {
        let expected = |what: &str| format!("expected {what}, got {}", kind_of(raw));
        let number = raw.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        match self.kind {
            Kind::Text { chars_min, chars_max, form } => {
                let text = match text_of(raw)? {
                    Some(text) => text,
                    None if number && is_integer(raw) => Cow::Borrowed(raw),
                    None => return Err(expected("text")),
                };
                // A text never has more characters than bytes, so short texts need no counting.
                if text.len() > chars_max as usize && text.chars().count() > chars_max as usize {
                    return Err(format!("is longer than {chars_max} characters"));
                }
                if chars_min > 1 && text.chars().count() < chars_min as usize {
                    return Err(format!("is shorter than {chars_min} characters"));
                }
                match form {
                    Form::Email if !is_email(&text) => Err("expected an e-mail address".to_owned()),
                    Form::Email | Form::Free => Ok(Value::Text(text)),
                }
            }
            Kind::Integer { min, max } => match raw.parse::<i64>() {
                Ok(value) if (min..=max).contains(&value) => Ok(Value::Integer(value)),
                Ok(_) => Err(format!("must be between {min} and {max}")),
                Err(_) if number && is_integer(raw) => Err(format!("must be between {min} and {max}")),
                Err(_) => Err(expected("an integer")),
            },
            Kind::Decimal { digits, places } if number => match Decimal::amount(raw) {
                Ok(value) if value.fits(digits, places) => Ok(Value::Decimal(value)),
                Ok(value) if value.fits(digits, AMOUNT_PLACES_MAX) => Err(too_many_places(places)),
                Ok(_) | Err(DecimalError::TooLarge) => Err(too_many_digits(digits)),
                Err(DecimalError::TooManyPlaces) => Err(too_many_places(places)),
                Err(error @ DecimalError::NotANumber) => Err(error.to_string()),
            },
            Kind::Decimal { .. } => Err(expected("a number")),
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
            Kind::Any => check_kept(raw, self.depth()).map(|()| Value::Any(raw)),
        }
    }

    /// Returns the number of objects between the event and this field.
    fn depth(&self) -> usize {
        self.name.bytes().filter(|byte| *byte == b'.').count()
    }

    fn wrong(&self, reason: String) -> FieldError {
        FieldError { field: self.name.clone(), reason }
    }
}

fn too_many_places(places: u32) -> String {
    match places {
        0 => "has decimal places".to_owned(),
        1 => "has more than 1 decimal place".to_owned(),
        _ => format!("has more than {places} decimal places"),
    }
}

fn too_many_digits(digits: u32) -> String {
    format!("has more than {digits} digits before the point")
}

fn is_integer(number: &str) -> bool {
    number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}
