//! A contract's own messages for errors: the JSON key of the message, and texts that replace millrace's own.

use event::{FieldError, nearest};
use serde::Deserialize;

use super::ApiError;
use crate::admission::Refusal;

/// A contract's own messages.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorTexts {
    unauthorized: Option<ErrorText>,
    forbidden: Option<ErrorText>,
    /// A required field is missing. Without this message, `invalid` is used.
    missing: Option<ErrorText>,
    invalid: Option<ErrorText>,
    conflict: Option<ErrorText>,
}

/// A message, with [`REASON`] in place of millrace's own.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
struct ErrorText(String);

const REASON: &str = "{reason}";

impl TryFrom<String> for ErrorText {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        check_placeholders(&text, &[REASON])?;
        Ok(Self(text))
    }
}

pub struct Wording {
    pub key: String,
    pub errors: ErrorTexts,
}

impl Wording {
    /// Uses millrace's own messages under this key.
    pub fn under(key: &str) -> Self {
        Self { key: key.to_owned(), errors: ErrorTexts::default() }
    }

    /// Returns the message for an error in the form of the replaced services.
    pub fn words(&self, error: &ApiError) -> String {
        match (self.own_words(error), error) {
            (Some(own), _) => own,
            // The replaced services answer with these words and nothing else. `WWW-Authenticate` has the reason.
            (None, ApiError::Refused(Refusal::Unauthorized { .. })) => "Unauthorized".to_owned(),
            (None, ApiError::Refused(Refusal::Forbidden(_))) => "Forbidden".to_owned(),
            (None, _) => error.detail(),
        }
    }

    /// Returns the configured message for an error, if there is one.
    pub fn own_words(&self, error: &ApiError) -> Option<String> {
        let errors = &self.errors;
        let own = match error {
            ApiError::Refused(Refusal::Unauthorized { .. }) => &errors.unauthorized,
            ApiError::Refused(Refusal::Forbidden(_)) | ApiError::ForeignPage => &errors.forbidden,
            ApiError::Refused(Refusal::Conflict(_)) => &errors.conflict,
            // The replaced services look for missing fields before anything else.
            ApiError::Refused(Refusal::Invalid(faults))
                if errors.missing.is_some() && faults.iter().any(FieldError::is_missing) =>
            {
                &errors.missing
            }
            ApiError::Refused(Refusal::Invalid(_))
            | ApiError::Parameter { .. }
            | ApiError::BrokenBody(_)
            | ApiError::NotDecoded(_) => &errors.invalid,
            _ => &None,
        };
        own.as_ref().map(|own| own.0.replace(REASON, &error.detail()))
    }
}

/// Refuses any placeholder but these: a misspelt one would be sent literally. JSON keys are in quotes, so they are
/// not mistaken for placeholders.
pub fn check_placeholders(text: &str, known: &[&str]) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-$".contains(&byte);
    for rest in text.split('{').skip(1) {
        let Some((word, _)) = rest.split_once('}') else { continue };
        let name = word.trim();
        let is_name = !name.is_empty() && name.bytes().all(allowed);
        if is_name && !known.contains(&format!("{{{word}}}").as_str()) {
            let names = || known.iter().map(|known| known.trim_matches(['{', '}']));
            let meant = names().find(|known| *known == name).or_else(|| nearest(name, names()));
            let meant = meant.map_or_else(String::new, |meant| format!("; did you mean `{{{meant}}}`?"));
            let listed: Vec<String> = known.iter().map(|known| format!("`{known}`")).collect();
            return Err(format!(
                "the text contains `{{{word}}}`, which is not a placeholder{meant} (placeholders: {})",
                listed.join(", ")
            ));
        }
    }
    Ok(())
}
