//! Generates valid events for a stream: for `generate`, and for the example that the server prints at start. The same
//! seed gives the same bytes in every release.

use std::ops::RangeInclusive;

use super::{Field, Fields, Form, Kind};

/// Amounts are below this many units, so that sums are easy to read.
const UNITS_MAX: u64 = 1_000;
/// 2025-01-01T00:00:00Z. The time of event n is n seconds later, so that times do not depend on a clock.
const TIME_BEGIN_MILLIS: u64 = 1_735_689_600_000;

/// The shape of a stream's events, or of an object in them: the name of each field as JSON, and its values.
#[derive(Default)]
pub struct Sample {
    fields: Vec<(Vec<u8>, Values)>,
}

enum Values {
    /// A word with a number.
    Words {
        word: &'static [u8],
        chars_min: usize,
        chars_max: usize,
    },
    Emails {
        chars_min: usize,
        chars_max: usize,
    },
    /// One of these texts, encoded as JSON.
    OneOf(Vec<Vec<u8>>),
    Integers {
        min: i64,
        width: u64,
    },
    Decimals {
        units: u64,
        places: u64,
    },
    Times,
    Booleans,
    /// An object that contains only the number of the event.
    Numbered,
    Object(Sample),
}

impl Sample {
    /// Returns the sample of a stream. The key comes first, then the other fields in the declared order.
    pub fn of(fields: &Fields) -> Self {
        let key = fields.get(fields.key());
        let others = fields.iter().filter(|field| field.name != key.name);
        let mut shape = Self::default();
        for field in std::iter::once(key).chain(others) {
            shape.add(&field.name, Values::of(field, field.name == key.name));
        }
        shape
    }

    /// Adds a field. `payload.email` becomes the `email` of an object `payload`, which may also be declared itself.
    fn add(&mut self, path: &str, values: Values) {
        let (step, rest) = path.split_once('.').map_or((path, None), |(step, rest)| (step, Some(rest)));
        let mut name = json(step);
        name.push(b':');
        let at = self.fields.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            self.fields.push((name, Values::Numbered));
            self.fields.len() - 1
        });
        let here = &mut self.fields[at].1;
        match (rest, &mut *here) {
            (Some(rest), Values::Object(inner)) => inner.add(rest, values),
            (Some(rest), _) => {
                let mut inner = Self::default();
                inner.add(rest, values);
                *here = Values::Object(inner);
            }
            (None, Values::Object(_)) => {}
            (None, _) => *here = values,
        }
    }

    /// Appends the event with this number. Its key is one of `users` different ones.
    pub fn event(&self, number: u64, users: u64, random: &mut Random, into: &mut Vec<u8>) {
        for (index, (name, values)) in self.fields.iter().enumerate() {
            into.push(if index == 0 { b'{' } else { b',' });
            into.extend_from_slice(name);
            values.one(number, users, random, into);
        }
        into.push(b'}');
    }
}

impl Values {
    fn of(field: &Field, is_key: bool) -> Self {
        match field.kind {
            Kind::Text { .. } if !field.one_of.is_empty() => {
                Self::OneOf(field.one_of.iter().map(|text| json(text)).collect())
            }
            Kind::Text { chars_min, chars_max, form } => {
                let (chars_min, chars_max) = (chars_min as usize, chars_max as usize);
                match form {
                    Form::Email => Self::Emails { chars_min, chars_max },
                    Form::Free if is_key => Self::Words { word: b"user", chars_min, chars_max },
                    Form::Free => Self::Words { word: b"text", chars_min, chars_max },
                }
            }
            Kind::Integer { min, max } => {
                // The values start at zero if that is allowed, and otherwise at the allowed value nearest to zero.
                let min = if min <= 0 && max >= 0 {
                    0
                } else if min > 0 {
                    min
                } else {
                    max.saturating_sub(UNITS_MAX as i64).max(min)
                };
                Self::Integers { min, width: max.abs_diff(min).min(UNITS_MAX) + 1 }
            }
            Kind::Decimal { digits, places } => {
                Self::Decimals { units: 10_u64.pow(digits).min(UNITS_MAX), places: u64::from(places) }
            }
            Kind::Time => Self::Times,
            Kind::Boolean => Self::Booleans,
            Kind::Any => Self::Numbered,
        }
    }

    fn one(&self, number: u64, users: u64, random: &mut Random, into: &mut Vec<u8>) {
        match self {
            Self::Words { word, chars_min, chars_max } => {
                text(word, random.below(users) + 1, b"", *chars_min..=*chars_max, into);
            }
            Self::Emails { chars_min, chars_max } => {
                let host: &[u8] = if *chars_max < 24 { b"@b.c" } else { b"@example.com" };
                text(b"user", random.below(users) + 1, host, *chars_min..=*chars_max, into);
            }
            Self::OneOf(texts) => into.extend_from_slice(&texts[random.below(texts.len() as u64) as usize]),
            Self::Integers { min, width } => {
                let value = i128::from(*min) + i128::from(random.below(*width));
                if value < 0 {
                    into.push(b'-');
                }
                digits(value.unsigned_abs() as u64, 1, into);
            }
            Self::Decimals { units, places } => {
                digits(random.below(*units), 1, into);
                let places = random.below(places + 1) as usize;
                if places > 0 {
                    into.push(b'.');
                    digits(random.below(10_u64.pow(places as u32)), places, into);
                }
            }
            Self::Times => digits(TIME_BEGIN_MILLIS + number * 1_000, 1, into),
            Self::Booleans => into.extend_from_slice(if random.below(2) == 0 { b"false" } else { b"true" }),
            Self::Numbered => {
                into.extend_from_slice(b"{\"number\":");
                digits(number, 1, into);
                into.push(b'}');
            }
            Self::Object(inner) => inner.event(number, users, random, into),
        }
    }
}

fn json(text: &str) -> Vec<u8> {
    serde_json::Value::from(text).to_string().into_bytes()
}

/// Appends a quoted word with a number and an ending, cut or padded on the left to the allowed length.
fn text(word: &[u8], number: u64, ending: &[u8], chars: RangeInclusive<usize>, into: &mut Vec<u8>) {
    into.push(b'"');
    let start = into.len();
    into.extend_from_slice(word);
    digits(number, 1, into);
    into.extend_from_slice(ending);
    let length = into.len() - start;
    let excess = length.saturating_sub((*chars.end()).max(1));
    into.drain(start..start + excess);
    into.splice(start..start, std::iter::repeat_n(b'x', chars.start().saturating_sub(length)));
    into.push(b'"');
}

fn digits(mut number: u64, digits_min: usize, into: &mut Vec<u8>) {
    let mut buffer = [b'0'; 20];
    let mut at = buffer.len();
    while number > 0 {
        at -= 1;
        buffer[at] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    into.extend_from_slice(&buffer[at.min(buffer.len() - digits_min)..]);
}

/// SplitMix64. It is not from a library, because another version of a library might give other numbers.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from 0 to `end - 1`. The distribution is nearly uniform.
    fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }
}
