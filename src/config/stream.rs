//! `[stream.NAME]`: a kind of events, its fields and its key.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::ConfigError;
use super::file::Origin;
use crate::event::limits::{FIELDS_MAX, KEY_CHARS_MAX};
use crate::event::{Field, Fields, Kind};

#[derive(Clone, Debug)]
pub struct Stream {
    pub name: String,
    pub fields: Arc<Fields>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamSection {
    key: String,
    #[serde(default)]
    fields: BTreeMap<String, FieldSection>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldSection {
    r#type: TypeName,
    #[serde(default)]
    required: bool,
    min: Option<i64>,
    max: Option<i64>,
    #[serde(default)]
    one_of: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TypeName {
    Text,
    Integer,
    Decimal,
    Time,
    Boolean,
    Any,
}

/// Text without a declared length may be this long.
const TEXT_CHARS_DEFAULT: u32 = 255;

impl StreamSection {
    pub fn check(&self, name: &str, origin: &Origin) -> Result<Stream, ConfigError> {
        let wrong = |reason: String| ConfigError::at(origin, format!("stream `{name}` {reason}"));
        if !is_name(name) {
            return Err(wrong("needs a name of small letters, digits, `-` and `_`".to_owned()));
        }
        if self.fields.len() > FIELDS_MAX {
            return Err(wrong(format!("declares more than {FIELDS_MAX} fields")));
        }
        let mut list = Vec::new();
        for (field, section) in &self.fields {
            list.push(
                section.check(field).map_err(|reason| wrong(format!("has field `{field}`, {reason}")))?,
            );
        }
        let Some(key) = list.iter().position(|field| field.name == self.key) else {
            return Err(wrong(format!("has key `{}`, which is not among its fields", self.key)));
        };
        let fits = matches!(list[key].kind, Kind::Text { chars_max } if chars_max <= KEY_CHARS_MAX);
        if !list[key].required || !fits {
            let reason = format!(
                "has key `{}`, which must be required text of at most {KEY_CHARS_MAX} characters",
                self.key
            );
            return Err(wrong(reason));
        }
        Ok(Stream { name: name.to_owned(), fields: Arc::new(Fields::new(list, key)) })
    }
}

impl FieldSection {
    fn check(&self, name: &str) -> Result<Field, String> {
        let kind = match self.r#type {
            TypeName::Text => {
                let chars_max = match self.max {
                    None => TEXT_CHARS_DEFAULT,
                    Some(max) => u32::try_from(max).map_err(|_| "whose `max` is no length".to_owned())?,
                };
                Kind::Text { chars_max }
            }
            TypeName::Integer => {
                Kind::Integer { min: self.min.unwrap_or(i64::MIN), max: self.max.unwrap_or(i64::MAX) }
            }
            TypeName::Decimal => Kind::Decimal,
            TypeName::Time => Kind::Time,
            TypeName::Boolean => Kind::Boolean,
            TypeName::Any => Kind::Any,
        };
        let is_text = matches!(kind, Kind::Text { .. });
        if !self.one_of.is_empty() && !is_text {
            return Err("which is not text and cannot have `one_of`".to_owned());
        }
        if (self.min.is_some() && !matches!(kind, Kind::Integer { .. }))
            || (self.max.is_some() && !is_text && !matches!(kind, Kind::Integer { .. }))
        {
            return Err("to whose type `min` or `max` says nothing".to_owned());
        }
        Ok(Field { name: name.to_owned(), kind, required: self.required, one_of: self.one_of.clone() })
    }
}

/// Names of streams and views go into paths and table names.
pub fn is_name(name: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    !name.is_empty() && name.len() <= 64 && name.bytes().all(allowed)
}
