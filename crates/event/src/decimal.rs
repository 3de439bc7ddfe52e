//! Money and other amounts, exact to four decimal places. They never become floating-point numbers, neither in a
//! request nor in a database column.

use std::fmt;
use std::str::FromStr;

use super::limits::{AMOUNT_DIGITS_MAX, AMOUNT_PLACES_MAX};

const PLACES: u32 = AMOUNT_PLACES_MAX;
const ONE: i128 = 10_i128.pow(PLACES);
/// The maximum of DECIMAL(38,4), which MySQL can store. It limits balances in every database.
const SCALED_MAX: i128 = 10_i128.pow(38) - 1;

/// A number with four decimal places, stored as an integer number of ten-thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decimal(i128);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    #[error("is not a number")]
    NotANumber,
    #[error("has more than 4 decimal places")]
    TooManyPlaces,
    #[error("has more than 15 digits before the point")]
    TooLarge,
}

impl Decimal {
    pub const ZERO: Self = Self(0);

    /// Parses an amount of an event: a JSON number with at most four places and a magnitude below 10^15.
    pub fn amount(json_number: &str) -> Result<Self, DecimalError> {
        let value = parse(json_number)?;
        if value.fits(AMOUNT_DIGITS_MAX, AMOUNT_PLACES_MAX) { Ok(value) } else { Err(DecimalError::TooLarge) }
    }

    /// Returns whether the number has at most `digits` digits before the decimal point and `places` after it.
    pub fn fits(self, digits: u32, places: u32) -> bool {
        let small = self.0.unsigned_abs() < 10_u128.pow(digits + PLACES);
        small && (places >= PLACES || self.0 % 10_i128.pow(PLACES - places) == 0)
    }

    /// Returns the value times 10^4, which is an integer.
    pub fn ten_thousandths(self) -> i128 {
        self.0
    }

    /// Returns `None` if the sum does not fit DECIMAL(38,4).
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let sum = self.0.checked_add(other.0)?;
        (sum.abs() <= SCALED_MAX).then_some(Self(sum))
    }

    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.checked_add(-other)
    }
}

impl std::ops::Neg for Decimal {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl FromStr for Decimal {
    type Err = DecimalError;
    /// Parses a stored balance, which may be as large as DECIMAL(38,4).
    fn from_str(text: &str) -> Result<Self, DecimalError> {
        parse(text)
    }
}

impl fmt::Display for Decimal {
    /// Writes the shortest exact form: `50`, `10.99`, `-0.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let size = self.0.unsigned_abs();
        // Nearly every amount fits 64 bits, and 64-bit division and printing are many times faster.
        if let Ok(size) = u64::try_from(size) {
            let (whole, part) = (size / ONE as u64, size % ONE as u64);
            return match part {
                0 => write!(f, "{sign}{whole}"),
                _ if part % 100 == 0 && part % 1_000 != 0 => write!(f, "{sign}{whole}.{:02}", part / 100),
                _ => write!(f, "{sign}{whole}.{}", format!("{part:04}").trim_end_matches('0')),
            };
        }
        let (whole, part) = (size / ONE as u128, size % ONE as u128);
        if part == 0 {
            return write!(f, "{sign}{whole}");
        }
        let digits = format!("{part:04}");
        write!(f, "{sign}{whole}.{}", digits.trim_end_matches('0'))
    }
}

/// Parses a JSON number, exponent included. It never computes the power of ten, so that `1e999999999` is cheap.
fn parse(text: &str) -> Result<Decimal, DecimalError> {
    match parse_short(text) {
        Some(value) => Ok(value),
        None => parse_any(text),
    }
}

/// Parses the usual amount: at most 14 characters after the sign, at most four places, and no exponent. Returns
/// `None` for every other text, which `parse_any` has to decide.
fn parse_short(text: &str) -> Option<Decimal> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || digits.len() > 14 || digits.starts_with('.') || digits.ends_with('.') {
        return None;
    }
    let (mut value, mut places) = (0_i64, None);
    for byte in digits.bytes() {
        match (byte, places) {
            (b'0'..=b'9', _) => {
                value = value * 10 + i64::from(byte - b'0');
                places = places.map(|places| places + 1);
            }
            (b'.', None) => places = Some(0),
            _ => return None,
        }
    }
    let missing = PLACES.checked_sub(places.unwrap_or(0))?;
    let value = i128::from(value * 10_i64.pow(missing));
    Some(Decimal(if digits.len() < text.len() { -value } else { value }))
}

fn parse_any(text: &str) -> Result<Decimal, DecimalError> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match digits.find(['e', 'E']) {
        Some(at) => (&digits[..at], exponent(&digits[at + 1..])?),
        None => (digits, 0),
    };
    let (whole, fraction) = match mantissa.find('.') {
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
        None => (mantissa, ""),
    };
    let point_without_digits = mantissa.len() != whole.len() && fraction.is_empty();
    if whole.is_empty() || point_without_digits {
        return Err(DecimalError::NotANumber);
    }
    // The value is `digits x 10^(exponent - places)`. `shift` is the power of ten that gives ten-thousandths.
    let mut value: i128 = 0;
    let mut shift = exponent + i64::from(PLACES);
    for (index, byte) in whole.bytes().chain(fraction.bytes()).enumerate() {
        if !byte.is_ascii_digit() {
            return Err(DecimalError::NotANumber);
        }
        if index >= whole.len() {
            shift -= 1;
        }
        value = value
            .checked_mul(10)
            .and_then(|v| v.checked_add(i128::from(byte - b'0')))
            .ok_or(if index >= whole.len() { DecimalError::TooManyPlaces } else { DecimalError::TooLarge })?;
    }
    while shift < 0 && value != 0 {
        if value % 10 != 0 {
            return Err(DecimalError::TooManyPlaces);
        }
        value /= 10;
        shift += 1;
    }
    while shift > 0 && value != 0 {
        value = value.checked_mul(10).ok_or(DecimalError::TooLarge)?;
        shift -= 1;
    }
    if value > SCALED_MAX {
        return Err(DecimalError::TooLarge);
    }
    Ok(Decimal(if negative { -value } else { value }))
}

/// Parses an exponent, limited to a million: beyond it, the value is zero, too large, or has too many places anyway.
fn exponent(text: &str) -> Result<i64, DecimalError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(DecimalError::NotANumber);
    }
    let size = digits.parse::<i64>().unwrap_or(i64::MAX).min(1_000_000);
    Ok(if text.starts_with('-') { -size } else { size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_and_bounded() {
        let good = [
            ("0", "0"),
            ("-0", "0"),
            ("100", "100"),
            ("10.99", "10.99"),
            ("-0.5", "-0.5"),
            ("0.0001", "0.0001"),
            ("999999999999999.9999", "999999999999999.9999"),
            ("1e2", "100"),
            ("1.5E+1", "15"),
            ("12300e-2", "123"),
            ("0e999999999999", "0"),
            ("1.50000", "1.5"),
        ];
        for (text, shown) in good {
            assert_eq!(Decimal::amount(text).map(|d| d.to_string()), Ok(shown.to_owned()), "{text}");
        }
        let bad = [
            ("0.00001", DecimalError::TooManyPlaces),
            ("1e-5", DecimalError::TooManyPlaces),
            ("1000000000000000", DecimalError::TooLarge),
            ("-1e15", DecimalError::TooLarge),
            ("1e400", DecimalError::TooLarge),
            ("1e-400", DecimalError::TooManyPlaces),
            ("NaN", DecimalError::NotANumber),
            ("", DecimalError::NotANumber),
            ("1.", DecimalError::NotANumber),
            (".5", DecimalError::NotANumber),
            ("1e", DecimalError::NotANumber),
            ("0x10", DecimalError::NotANumber),
        ];
        for (text, error) in bad {
            assert_eq!(Decimal::amount(text), Err(error), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn text_and_value_round_trip(scaled in -SCALED_MAX..=SCALED_MAX) {
            let value = Decimal(scaled);
            proptest::prop_assert_eq!(value.to_string().parse::<Decimal>(), Ok(value));
        }

        #[test]
        fn both_parsers_give_the_same_value(text in "-?[0-9]{0,14}(\\.[0-9]{0,5})?") {
            if let Some(value) = parse_short(&text) {
                proptest::prop_assert_eq!(parse_any(&text), Ok(value));
            }
        }

        #[test]
        fn sums_are_those_of_integers(a in -(10_i64.pow(18))..10_i64.pow(18), b in -(10_i64.pow(18))..10_i64.pow(18)) {
            let sum = Decimal(i128::from(a)).checked_add(Decimal(i128::from(b)));
            proptest::prop_assert_eq!(sum, Some(Decimal(i128::from(a) + i128::from(b))));
        }
    }
}
