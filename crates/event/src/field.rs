//! One declared field: what its values may be, and the reading of one from its JSON text. The door's check
//! and the folds both go through `Field::read`, so that a fold never sees what the door did not.

use std::borrow::Cow;
use std::fmt;

use super::email::is_email;
use super::json::{check_kept, kind_of, text_of};
use super::limits::{AMOUNT_DIGITS_MAX, AMOUNT_PLACES_MAX};
use super::{Decimal, DecimalError, Millis};

#[derive(Clone, Debug)]
pub struct Field {
    /// A dot leads into an object: `payload.email` is the `email` of `payload`.
    pub name: String,
    pub kind: Kind,
    pub required: bool,
    /// If not empty, the only texts allowed.
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
    /// So many digits before the point and places behind it, at most.
    Decimal {
        digits: u32,
        places: u32,
    },
    Time,
    Boolean,
    /// Anything that is JSON, kept as it was sent.
    Any,
}

/// What a text has to look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Free,
    Email,
}

impl Kind {
    /// As wide as amounts are.
    pub const AMOUNT: Self = Self::Decimal { digits: AMOUNT_DIGITS_MAX, places: AMOUNT_PLACES_MAX };

    /// Any text of at most so many characters.
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

/// Which field was wrong, and why.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, thiserror::Error)]
pub struct FieldError {
    /// Empty where the event as a whole is wrong.
    pub field: String,
    pub reason: String,
}

const MISSING: &str = "is missing";

impl FieldError {
    /// Whether a required field is not there.
    pub fn is_missing(&self) -> bool {
        self.reason == MISSING
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.is_empty() {
            true => f.write_str(&self.reason),
            false => write!(f, "{}: {}", self.field, self.reason),
        }
    }
}

/// The faults of one event, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldErrors(pub(crate) Vec<FieldError>);

impl FieldErrors {
    /// A fault of the event as a whole.
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
                // No text has more characters than bytes.
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

    /// How many objects lie between the event and this field.
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
