//! A contract's own messages for errors: the JSON key of the message, and texts that replace millrace's own.

use event::FieldError;

use super::ApiError;
use crate::admission::Refusal;
use crate::config::{REASON, SourceConfig, SourceErrors};

pub struct Wording {
    pub key: String,
    errors: SourceErrors,
}

impl Wording {
    pub fn of(source: &SourceConfig) -> Self {
        Self { key: source.error_key.clone(), errors: source.errors.clone() }
    }

    /// Uses millrace's own messages under this key.
    pub fn under(key: &str) -> Self {
        Self { key: key.to_owned(), errors: SourceErrors::default() }
    }

    pub fn words(&self, error: &ApiError) -> String {
        let detail = error.detail();
        let errors = &self.errors;
        let own = match error {
            ApiError::Refused(Refusal::Unauthorized) => &errors.unauthorized,
            ApiError::Refused(Refusal::Forbidden) | ApiError::ForeignPage => &errors.forbidden,
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
        match own {
            Some(own) => own.replace(REASON, &detail),
            None => detail,
        }
    }
}
