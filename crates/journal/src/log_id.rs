//! The log's name: drawn once when a log is created, part of every checksum, so
//! that bytes of one log can never pass for bytes of another.

use std::fmt;
use std::str::FromStr;

/// Sixteen random bytes that tell one log from every other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId([u8; 16]);

/// A text that is no log id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a log id has 32 hexadecimal digits, unlike `{text}`")]
pub struct LogIdError {
    pub text: String,
}

impl LogId {
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
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
        // `from_str_radix` would also take a sign, hence the look at every digit.
        let digits = text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        match u128::from_str_radix(text, 16) {
            Ok(number) if digits => Ok(Self(number.to_be_bytes())),
            _ => Err(LogIdError { text: text.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_reads_as_it_was_shown(bytes: [u8; 16]) {
            let id = LogId::from_bytes(bytes);
            prop_assert_eq!(id.to_string().len(), 32);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "12", "+0000000000000000000000000000001", "g0000000000000000000000000000000"] {
            let error = text.parse::<LogId>().expect_err("is no id");
            assert_eq!(error.text, text);
        }
    }
}
