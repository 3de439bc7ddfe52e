//! Converts values to and from PostgreSQL's binary format. A value that its column would round or truncate is
//! refused. Only times are truncated to the precision of their column.

use bytes::{BufMut, BytesMut};
use event::{Decimal, Millis};
use tokio_postgres::types::{Kind, Type};

use crate::store::cell::{Cell, CellRef};

/// The type of a column; for a domain, the type beneath it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnType {
    pub kind: Type,
    /// The length, or the precision and scale, as PostgreSQL encodes them; -1 for none.
    pub modifier: i32,
}

/// Why a value does not fit its column. Never contains the value itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("is {0}, which the type `{1}` does not accept")]
    Kind(&'static str, String),
    #[error("is out of range for the type `{0}`")]
    TooLarge(String),
    #[error("has more than {0} characters")]
    TooLong(i32),
    #[error("contains the character U+0000, which PostgreSQL does not accept")]
    Nul,
    #[error("has more than {0} bytes")]
    TooBig(usize),
}

impl ColumnType {
    pub fn new(kind: &Type, modifier: i32) -> Self {
        match kind.kind() {
            Kind::Domain(base) => Self::new(base, modifier),
            _ => Self { kind: kind.clone(), modifier },
        }
    }
}

/// How many digits a NUMERIC keeps before and after the decimal point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumericBounds {
    pub digits: u32,
    pub places: u32,
}

impl NumericBounds {
    /// Returns the limits of a type modifier, or `None` if there are none.
    pub fn of(modifier: i32) -> Option<Self> {
        let modifier = u32::try_from(modifier).ok()?.checked_sub(4)?;
        let (digits, places) = (modifier >> 16, modifier & 0x7ff);
        // The scale can be negative, which is encoded as 1024 and more, or larger than the precision.
        Some(Self { digits: digits.saturating_sub(places), places: if places < 1_024 { places } else { 0 } })
    }
}

impl CellRef<'_> {
    /// Returns the value as the column stores it, or fails if the column would change it. Truncates times.
    pub(super) fn fit_to(self, column_type: &ColumnType) -> Result<Self, EncodeError> {
        let too_large = || EncodeError::TooLarge(column_type.kind.name().to_owned());
        match self {
            Self::Text(text) => {
                let is_varchar = matches!(column_type.kind, Type::VARCHAR | Type::BPCHAR);
                let chars_max = column_type.modifier - 4;
                if is_varchar && chars_max > 0 && text.len() > chars_max as usize {
                    let fits = text.chars().nth(chars_max as usize).is_none();
                    return if fits { Ok(self) } else { Err(EncodeError::TooLong(chars_max)) };
                }
                Ok(self)
            }
            Self::Integer(value) => {
                let fits = match column_type.kind {
                    Type::INT2 => i16::try_from(value).is_ok(),
                    Type::INT4 => i32::try_from(value).is_ok(),
                    _ => true,
                };
                if fits { Ok(self) } else { Err(too_large()) }
            }
            Self::Decimal(value) => match NumericBounds::of(column_type.modifier) {
                Some(bounds) if !value.fits(bounds.digits.min(34), bounds.places) => Err(too_large()),
                _ => Ok(self),
            },
            Self::Time(time) => Ok(Self::Time(truncate_time(time, column_type.modifier))),
            Self::Null | Self::Bytes(_) => Ok(self),
        }
    }

    /// Appends the value and returns true. For null, appends nothing and returns false.
    pub(super) fn put(self, kind: &Type, into: &mut BytesMut) -> Result<bool, EncodeError> {
        let too_large = || EncodeError::TooLarge(kind.name().to_owned());
        match (self, kind) {
            (Self::Null, _) => return Ok(false),
            (Self::Integer(value), &Type::INT8) => into.put_i64(value),
            (Self::Integer(value), &Type::INT4) => into.put_i32(value.try_into().map_err(|_| too_large())?),
            (Self::Integer(value), &Type::INT2) => into.put_i16(value.try_into().map_err(|_| too_large())?),
            (Self::Integer(value @ (0 | 1)), &Type::BOOL) => into.put_u8(value as u8),
            (Self::Integer(value), &Type::NUMERIC) => put_numeric(i128::from(value) * 10_000, into),
            (Self::Decimal(value), &Type::NUMERIC) => put_numeric(value.ten_thousandths(), into),
            (Self::Time(time), &(Type::TIMESTAMP | Type::TIMESTAMPTZ)) => {
                let since_2000 =
                    time.0.checked_sub(MILLIS_TO_2000).and_then(|millis| millis.checked_mul(1_000));
                into.put_i64(since_2000.ok_or_else(too_large)?);
            }
            (Self::Bytes(bytes), &Type::BYTEA) => into.put_slice(bytes),
            (Self::Text(text), kind) => put_text(text, kind, into)?,
            (value, kind) => return Err(EncodeError::Kind(value.name(), kind.name().to_owned())),
        }
        Ok(true)
    }

    /// Appends the length of the value and then the value, as in rows and arrays.
    pub(super) fn put_sized(self, kind: &Type, into: &mut BytesMut) -> Result<(), EncodeError> {
        let at = into.len();
        into.put_i32(-1);
        if self.put(kind, into)? {
            let size =
                i32::try_from(into.len() - at - 4).map_err(|_| EncodeError::TooBig(i32::MAX as usize))?;
            into[at..at + 4].copy_from_slice(&size.to_be_bytes());
        }
        Ok(())
    }

    fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Text(_) => "a text",
            Self::Integer(_) => "an integer",
            Self::Decimal(_) => "an amount",
            Self::Time(_) => "a time",
            Self::Bytes(_) => "bytes",
        }
    }
}

/// The milliseconds from 1970 to 2000, from which PostgreSQL counts time.
const MILLIS_TO_2000: i64 = 946_684_800_000;

/// Truncates a time to its column's decimal places. PostgreSQL would round it, perhaps to a time in the future.
fn truncate_time(time: Millis, places: i32) -> Millis {
    let step = match places {
        0 => 1_000,
        1 => 100,
        2 => 10,
        _ => return time,
    };
    Millis(time.0 - time.0.rem_euclid(step))
}

fn put_text(text: &str, kind: &Type, into: &mut BytesMut) -> Result<(), EncodeError> {
    if memchr::memchr(0, text.as_bytes()).is_some() {
        return Err(EncodeError::Nul);
    }
    let other = || EncodeError::Kind("a text", kind.name().to_owned());
    match *kind {
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::JSON | Type::UNKNOWN => {
            into.put_slice(text.as_bytes());
        }
        Type::JSONB => {
            into.put_u8(JSONB_VERSION);
            into.put_slice(text.as_bytes());
        }
        Type::UUID => into.put_slice(uuid::Uuid::parse_str(text).map_err(|_| other())?.as_bytes()),
        Type::NUMERIC => put_numeric(text.parse::<Decimal>().map_err(|_| other())?.ten_thousandths(), into),
        _ if matches!(kind.kind(), Kind::Enum(_)) => into.put_slice(text.as_bytes()),
        _ => return Err(other()),
    }
    Ok(())
}

const JSONB_VERSION: u8 = 1;

const POSITIVE: u16 = 0;
const NEGATIVE: u16 = 0x4000;

/// Appends a NUMERIC: the number of groups of four digits, the weight of the first group, the sign, the scale, and
/// the groups.
fn put_numeric(ten_thousandths: i128, into: &mut BytesMut) {
    let size = ten_thousandths.unsigned_abs();
    // The lowest group first. 38 digits take ten groups; one is spare.
    let (mut groups, mut count) = ([0_i16; 11], 0);
    let mut rest = size;
    while rest > 0 {
        groups[count] = (rest % 10_000) as i16;
        rest /= 10_000;
        count += 1;
    }
    let places = match groups[0] {
        0 => 0,
        part if part % 1_000 == 0 => 1,
        part if part % 100 == 0 => 2,
        part if part % 10 == 0 => 3,
        _ => 4,
    };
    let zeros = groups[..count].iter().take_while(|group| **group == 0).count();
    into.put_i16((count - zeros) as i16);
    into.put_i16(if count == 0 { 0 } else { count as i16 - 2 });
    into.put_u16(if ten_thousandths < 0 { NEGATIVE } else { POSITIVE });
    into.put_i16(places);
    for group in groups[zeros..count].iter().rev() {
        into.put_i16(*group);
    }
}

/// Decodes a value. Returns `None` if millrace does not support the type, or if the bytes are invalid.
pub fn read(kind: &Type, raw: Option<&[u8]>) -> Option<Cell> {
    let Some(raw) = raw else { return Some(Cell::Null) };
    let text = || std::str::from_utf8(raw).ok().map(|text| Cell::Text(text.to_owned()));
    match *kind {
        Type::BOOL => Some(Cell::Integer(i64::from(*raw.first()? != 0))),
        Type::INT2 => Some(Cell::Integer(i16::from_be_bytes(raw.try_into().ok()?).into())),
        Type::INT4 => Some(Cell::Integer(i32::from_be_bytes(raw.try_into().ok()?).into())),
        Type::INT8 => Some(Cell::Integer(i64::from_be_bytes(raw.try_into().ok()?))),
        Type::OID => Some(Cell::Integer(u32::from_be_bytes(raw.try_into().ok()?).into())),
        Type::NUMERIC => numeric(raw),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => time(i64::from_be_bytes(raw.try_into().ok()?)),
        Type::BYTEA => Some(Cell::Bytes(raw.to_vec())),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::JSON => text(),
        Type::JSONB => std::str::from_utf8(raw.get(1..)?).ok().map(|text| Cell::Text(text.to_owned())),
        Type::UUID => Some(Cell::Text(uuid::Uuid::from_slice(raw).ok()?.to_string())),
        Type::FLOAT4 => Some(Cell::Text(f32::from_be_bytes(raw.try_into().ok()?).to_string())),
        Type::FLOAT8 => Some(Cell::Text(f64::from_be_bytes(raw.try_into().ok()?).to_string())),
        Type::VOID => Some(Cell::Null),
        _ => match kind.kind() {
            Kind::Domain(base) => read(base, Some(raw)),
            Kind::Enum(_) => text(),
            _ => None,
        },
    }
}

fn time(micros: i64) -> Option<Cell> {
    match micros {
        i64::MAX => Some(Cell::Text("infinity".to_owned())),
        i64::MIN => Some(Cell::Text("-infinity".to_owned())),
        _ => Some(Cell::Time(Millis(micros.div_euclid(1_000) + MILLIS_TO_2000))),
    }
}

fn numeric(raw: &[u8]) -> Option<Cell> {
    let word = |at: usize| raw.get(at * 2..at * 2 + 2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let (count, power, sign) = (usize::from(word(0)?), word(1)? as i16, word(2)?);
    let places = usize::from(word(3)?);
    let mut text = String::with_capacity(24);
    match sign {
        POSITIVE => {}
        NEGATIVE => text.push('-'),
        0xd000 => return Some(Cell::Text("Infinity".to_owned())),
        0xf000 => return Some(Cell::Text("-Infinity".to_owned())),
        _ => return Some(Cell::Text("NaN".to_owned())),
    }
    let group = |weight: i32| {
        let at = usize::try_from(i32::from(power) - weight).ok().filter(|at| *at < count);
        at.and_then(|at| word(4 + at)).unwrap_or(0)
    };
    for at in (0..=i32::from(power).max(0)).rev() {
        if at == i32::from(power).max(0) {
            text.push_str(&group(at).to_string());
        } else {
            text.push_str(&format!("{:04}", group(at)));
        }
    }
    if places > 0 {
        text.push('.');
        let end = text.len() + places;
        for at in 1..=places.div_ceil(4) {
            text.push_str(&format!("{:04}", group(-(at as i32))));
        }
        text.truncate(end);
    }
    Some(text.parse().map_or_else(|_| Cell::Text(text.clone()), Cell::Decimal))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(cell: &Cell, kind: &Type) -> Result<Vec<u8>, EncodeError> {
        let mut bytes = BytesMut::new();
        CellRef::from(cell).put(kind, &mut bytes).map(|_| bytes.to_vec())
    }

    fn decimal(text: &str) -> Cell {
        Cell::Decimal(text.parse().expect("a number"))
    }

    #[test]
    fn a_value_is_encoded_in_the_format_of_its_column() {
        assert_eq!(put(&Cell::Integer(-2), &Type::INT4), Ok(vec![0xff, 0xff, 0xff, 0xfe]));
        assert_eq!(put(&Cell::Integer(1), &Type::BOOL), Ok(vec![1]));
        assert_eq!(put(&Cell::Text("{}".to_owned()), &Type::JSONB), Ok(b"\x01{}".to_vec()));
        assert_eq!(
            put(&Cell::Time(Millis(MILLIS_TO_2000 + 1)), &Type::TIMESTAMPTZ),
            Ok(1_000_i64.to_be_bytes().into())
        );
        // 10.99 has two groups, the weight 0, and the scale 2.
        assert_eq!(
            put(&decimal("10.99"), &Type::NUMERIC),
            Ok(vec![0, 2, 0, 0, 0, 0, 0, 2, 0, 10, 0x26, 0xac])
        );
        for (cell, kind) in [
            (Cell::Integer(1 << 40), Type::INT4),
            (Cell::Integer(2), Type::BOOL),
            (Cell::Text("a\0b".to_owned()), Type::TEXT),
            (Cell::Text("a".to_owned()), Type::INT8),
            (Cell::Text("a".to_owned()), Type::UUID),
            (decimal("1.5"), Type::FLOAT8),
        ] {
            assert!(put(&cell, &kind).is_err(), "{cell:?}");
        }
    }

    #[test]
    fn a_value_that_its_column_would_change_is_refused_and_a_time_is_truncated() {
        let numeric = |digits: i32, places: i32| ColumnType::new(&Type::NUMERIC, (digits << 16 | places) + 4);
        let fits = |cell: &Cell, column_type: &ColumnType| CellRef::from(cell).fit_to(column_type).is_ok();
        assert!(fits(&decimal("12345678.99"), &numeric(10, 2)));
        assert!(!fits(&decimal("123456789"), &numeric(10, 2)));
        assert!(!fits(&decimal("1.999"), &numeric(10, 2)));
        assert!(fits(&decimal("9999999999999999999999999999999999.9999"), &numeric(60, 4)));
        let varchar = |chars: i32| ColumnType::new(&Type::VARCHAR, chars + 4);
        assert!(fits(&Cell::Text("éé".to_owned()), &varchar(2)));
        assert!(!fits(&Cell::Text("é  ".to_owned()), &varchar(2)));
        let truncated =
            CellRef::Time(Millis(-1)).fit_to(&ColumnType::new(&Type::TIMESTAMP, 0)).expect("a time");
        assert!(matches!(truncated, CellRef::Time(Millis(-1_000))));
    }

    proptest::proptest! {
        #[test]
        fn amounts_are_read_back_unchanged(scaled in -(10_i128.pow(38) - 1)..10_i128.pow(38), cut in 0_u32..38) {
            let text = format!("{}e-4", scaled / 10_i128.pow(cut));
            let value = Cell::Decimal(text.parse().expect("a number"));
            let bytes = put(&value, &Type::NUMERIC).expect("a number");
            proptest::prop_assert_eq!(read(&Type::NUMERIC, Some(&bytes)), Some(value));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
            for kind in [Type::NUMERIC, Type::INT4, Type::UUID, Type::TIMESTAMP, Type::JSONB, Type::TEXT] {
                let _ = read(&kind, Some(&bytes));
            }
        }
    }

    #[test]
    fn a_number_beyond_the_range_of_decimal_is_read_as_its_digits() {
        // 1.00005 and 10^40.
        assert_eq!(
            read(&Type::NUMERIC, Some(&[0, 3, 0, 0, 0, 0, 0, 5, 0, 1, 0, 0, 0x13, 0x88])),
            Some(Cell::Text("1.00005".to_owned()))
        );
        let large = read(&Type::NUMERIC, Some(&[0, 1, 0, 10, 0, 0, 0, 0, 0, 1]));
        assert_eq!(large, Some(Cell::Text(format!("1{}", "0".repeat(40)))));
    }
}
