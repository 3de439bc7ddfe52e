//! A contract's own words for a refusal: the key they stand under, and what they say in place of ours.

use super::Refusal;
use crate::config::{Door, DoorErrors, REASON};

pub struct Wording {
    pub key: String,
    errors: DoorErrors,
}

impl Wording {
    pub fn of(door: &Door) -> Self {
        Self { key: door.error_key.clone(), errors: door.errors.clone() }
    }

    /// Our own words under this key.
    pub fn under(key: &str) -> Self {
        Self { key: key.to_owned(), errors: DoorErrors::default() }
    }

    pub fn words(&self, refusal: &Refusal) -> String {
        let detail = refusal.detail();
        let errors = &self.errors;
        let own = match refusal {
            Refusal::Unauthorized => &errors.unauthorized,
            Refusal::Forbidden | Refusal::ForeignPage => &errors.forbidden,
            Refusal::Conflict(_) => &errors.conflict,
            Refusal::Invalid(error) if error.is_missing() && errors.missing.is_some() => &errors.missing,
            Refusal::Invalid(_)
            | Refusal::Parameter { .. }
            | Refusal::BrokenBody(_)
            | Refusal::NotDecoded(_) => &errors.invalid,
            _ => &None,
        };
        match own {
            Some(own) => own.replace(REASON, &detail),
            None => detail,
        }
    }
}
