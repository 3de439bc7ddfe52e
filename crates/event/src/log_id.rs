//! The id of a log. It is chosen at random when the log is created, and it is part of every checksum. So bytes of one
//! log are never mistaken for bytes of another.

use std::fmt;
use std::str::FromStr;

/// Sixteen random bytes that identify a log. A position has a meaning only together with it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub [u8; 16]);

/// The refusal of a text that is not a log id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a log id: a log id has 32 hexadecimal digits")]
pub struct LogIdError {
    pub text: String,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogId({self})")
    }
}

impl FromStr for LogId {
    type Err = LogIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `from_str_radix` also accepts a sign, so every digit is checked.
        let digits = text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        match u128::from_str_radix(text, 16) {
            Ok(number) if digits => Ok(Self(number.to_be_bytes())),
            _ => Err(LogIdError { text: text.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_log_id_survives_a_round_trip(bytes: [u8; 16]) {
            let id = LogId(bytes);
            prop_assert_eq!(id.to_string().len(), 32);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn invalid_log_ids_are_refused() {
        for text in ["", "12", "+0000000000000000000000000000001", "g0000000000000000000000000000000"] {
            let error = text.parse::<LogId>().expect_err("is not a log id");
            assert_eq!(error.text, text);
        }
    }
}
