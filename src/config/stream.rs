//! `[stream.NAME]`: a kind of events, with its fields and its key.

use std::collections::BTreeMap;
use std::sync::Arc;

use event::limits::{
    AMOUNT_DIGITS_MAX, AMOUNT_PLACES_MAX, EMAIL_CHARS_MAX, FIELD_DEPTH_MAX, FIELDS_MAX, KEY_CHARS_MAX,
};
use event::{Field, Fields, Form, Kind, SettingErrors, suggestion};
use serde::Deserialize;

use super::checks::Checks;
use super::names::check_name;

/// The declared streams, each with its fields.
pub type Streams = BTreeMap<String, Arc<Fields>>;

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
    digits: Option<u32>,
    places: Option<u32>,
    format: Option<Format>,
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

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Email,
}

/// The maximum length of a text field without `max`.
const TEXT_CHARS_DEFAULT: u32 = 255;

/// Checks all streams. Returns those without errors.
pub fn check_streams(sections: &BTreeMap<String, StreamSection>, checks: &mut Checks<'_>) -> Streams {
    let mut streams = Streams::new();
    for (name, section) in sections {
        if !checks.is_complete(&["stream", name]) {
            continue;
        }
        let mut errors = SettingErrors::default();
        check_name(name, &mut errors);
        let fields = section.check(&mut errors);
        checks.section("stream", name, errors);
        streams.extend(fields.map(|fields| (name.clone(), Arc::new(fields))));
    }
    streams
}

impl StreamSection {
    fn check(&self, errors: &mut SettingErrors) -> Option<Fields> {
        if self.fields.len() > FIELDS_MAX {
            errors.add(&["fields"], format!("declares more than {FIELDS_MAX} fields"));
        }
        let (mut list, mut all_valid) = (Vec::new(), true);
        for (name, section) in &self.fields {
            let field = section.check(name).map_err(|reason| format!("has field `{name}`, {reason}"));
            let field = errors.take(&["fields", name], field);
            all_valid &= field.is_some();
            list.extend(field);
        }
        for field in &list {
            if let Some(reason) = unreachable_parent(&field.name, &list) {
                errors.add(&["fields", &field.name], reason);
            }
        }
        let Some(key) = list.iter().position(|field| field.name == self.key) else {
            if !self.fields.contains_key(&self.key) {
                let names = suggestion(&self.key, "fields", self.fields.keys().map(String::as_str));
                errors.add(&["key"], format!("has key `{}`, which is not among its fields{names}", self.key));
            }
            return None;
        };
        let fits = match list[key].kind {
            Kind::Text { chars_max, .. } => chars_max <= KEY_CHARS_MAX,
            Kind::Integer { .. } => true,
            _ => false,
        };
        if !list[key].required || !fits {
            let reason = format!(
                "has key `{}`, which must be required: an integer, or text of at most {KEY_CHARS_MAX} characters",
                self.key
            );
            errors.add(&["key"], reason);
        }
        all_valid.then(|| Fields::new(list, key))
    }
}

/// Returns the error if a field is inside another one that is not of type `any`, so that it could never be present.
fn unreachable_parent(name: &str, list: &[Field]) -> Option<String> {
    let mut parents = name.match_indices('.').map(|(at, _)| &name[..at]);
    let parent = parents
        .find(|parent| list.iter().any(|field| field.name == *parent && !matches!(field.kind, Kind::Any)))?;
    Some(format!("has field `{name}` inside field `{parent}`, which must be of type \"any\""))
}

impl FieldSection {
    fn check(&self, name: &str) -> Result<Field, String> {
        if name.split('.').any(str::is_empty) {
            return Err("whose name is empty before or after a dot".to_owned());
        }
        if name.split('.').count() > FIELD_DEPTH_MAX + 1 {
            return Err(format!("which is nested in more than {FIELD_DEPTH_MAX} objects"));
        }
        let kind = match self.r#type {
            TypeName::Text => self.text()?,
            TypeName::Integer => {
                let (min, max) = (self.min.unwrap_or(i64::MIN), self.max.unwrap_or(i64::MAX));
                ordered(min, max)?;
                Kind::Integer { min, max }
            }
            TypeName::Decimal => self.decimal()?,
            TypeName::Time => Kind::Time,
            TypeName::Boolean => Kind::Boolean,
            TypeName::Any => Kind::Any,
        };
        let is_text = matches!(kind, Kind::Text { .. });
        if !is_text && !self.one_of.is_empty() {
            return Err("which is not text and cannot have `one_of`".to_owned());
        }
        if !is_text && self.format.is_some() {
            return Err("which is not text and cannot have a `format`".to_owned());
        }
        if !is_text && !matches!(kind, Kind::Integer { .. }) && (self.min.is_some() || self.max.is_some()) {
            return Err("which is neither text nor an integer and cannot have `min` or `max`".to_owned());
        }
        if !matches!(kind, Kind::Decimal { .. }) && (self.digits.is_some() || self.places.is_some()) {
            return Err("which is not a decimal and cannot have `digits` or `places`".to_owned());
        }
        Ok(Field { name: name.to_owned(), kind, required: self.required, one_of: self.one_of.clone() })
    }

    fn text(&self) -> Result<Kind, String> {
        let length = |bound: Option<i64>, name: &str, default: u32| match bound {
            None => Ok(default),
            Some(bound) => u32::try_from(bound).map_err(|_| format!("whose `{name}` is not a valid length")),
        };
        let (form, default) = match self.format {
            Some(Format::Email) => (Form::Email, EMAIL_CHARS_MAX),
            None => (Form::Free, TEXT_CHARS_DEFAULT),
        };
        let (chars_min, chars_max) = (length(self.min, "min", 0)?, length(self.max, "max", default)?);
        ordered(chars_min, chars_max)?;
        Ok(Kind::Text { chars_min, chars_max, form })
    }

    fn decimal(&self) -> Result<Kind, String> {
        let bound = |bound: Option<u32>, name: &str, min: u32, max: u32| match bound.unwrap_or(max) {
            bound if (min..=max).contains(&bound) => Ok(bound),
            _ => Err(format!("whose `{name}` must be between {min} and {max}")),
        };
        let digits = bound(self.digits, "digits", 1, AMOUNT_DIGITS_MAX)?;
        Ok(Kind::Decimal { digits, places: bound(self.places, "places", 0, AMOUNT_PLACES_MAX)? })
    }
}

fn ordered<T: PartialOrd>(min: T, max: T) -> Result<(), String> {
    if min <= max { Ok(()) } else { Err("whose `min` is above its `max`".to_owned()) }
}
