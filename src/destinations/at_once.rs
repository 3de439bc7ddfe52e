//! How many attempts at a destination run at the same time.

use event::limits::{ATTEMPTS_AT_ONCE_DEFAULT, ATTEMPTS_AT_ONCE_MAX};
use serde::Deserialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "usize")]
pub struct AtOnce(pub usize);

impl Default for AtOnce {
    fn default() -> Self {
        Self(ATTEMPTS_AT_ONCE_DEFAULT)
    }
}

impl TryFrom<usize> for AtOnce {
    type Error = String;

    fn try_from(number: usize) -> Result<Self, String> {
        if (1..=ATTEMPTS_AT_ONCE_MAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(format!("{number} is not between 1 and {ATTEMPTS_AT_ONCE_MAX}"))
        }
    }
}
