//! `millrace generate`: test events as lines of JSON. The same seed gives the same bytes, in every
//! release, so that a file can be made again instead of kept.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::exit::{Failure, ended};
use crate::config::{Config, Overrides, user_file};
use crate::event::{Field, Fields, Form, Kind};

#[derive(Args)]
pub struct Generate {
    /// How many events
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    events: u64,
    /// How many different keys they have
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    users: u64,
    /// The stream they are to fit
    #[arg(long, value_name = "NAME", default_value = "revenue")]
    stream: String,
    /// Where the stream is declared, beside the built-in configuration [default: millrace.toml, if it is there]
    #[arg(long, env = "MILLRACE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Another seed, other events
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// A file to write, in place of stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

const BUFFER_BYTES: usize = 64 * 1024;
/// Amounts stay below this many units, so that sums are easy to look at.
const UNITS_MAX: u64 = 1_000;
/// 2025-01-01T00:00:00Z; times go on from here, a second an event, so that no clock is in them.
const TIME_BEGIN_MILLIS: u64 = 1_735_689_600_000;

pub fn run(command: Generate) -> ExitCode {
    ended(generate(&command))
}

fn generate(command: &Generate) -> Result<(), Failure> {
    let config = Config::load(user_file(command.config.clone()).as_deref(), &Overrides::default())
        .map_err(|error| Failure::Failed(error.to_string()))?;
    let stream = config.streams.get(&command.stream);
    let unknown = || Failure::NotFound(format!("there is no stream `{}`", command.stream));
    let shape = Shape::of(&stream.ok_or_else(unknown)?.fields);
    let named = |error: io::Error| match &command.output {
        Some(path) => Failure::Failed(format!("{}: {error}", path.display())),
        None => Failure::Failed(error.to_string()),
    };
    let mut out: Box<dyn Write> = match &command.output {
        Some(path) => Box::new(File::create(path).map_err(named)?),
        None => Box::new(io::stdout().lock()),
    };
    match write(&shape, command, &mut out) {
        // Whoever reads has had enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe && command.output.is_none() => Ok(()),
        written => written.map_err(named),
    }
}

fn write(shape: &Shape, command: &Generate, out: &mut impl Write) -> io::Result<()> {
    let mut random = Random(command.seed);
    let mut bytes = Vec::with_capacity(BUFFER_BYTES + 1024);
    for number in 0..command.events {
        shape.event(number, command.users, &mut random, &mut bytes);
        if bytes.len() >= BUFFER_BYTES {
            out.write_all(&bytes)?;
            bytes.clear();
        }
    }
    out.write_all(&bytes)?;
    out.flush()
}

/// What an event of a stream, or an object in one, looks like: each field's name as JSON, and what its
/// values are.
#[derive(Default)]
struct Shape {
    fields: Vec<(Vec<u8>, Values)>,
}

enum Values {
    /// A word with a number, between so many characters.
    Words {
        word: &'static [u8],
        chars_min: usize,
        chars_max: usize,
    },
    Emails {
        chars_min: usize,
        chars_max: usize,
    },
    /// One of these, as JSON.
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
    /// Any object: its number is all it holds.
    Numbered,
    Object(Shape),
}

impl Shape {
    /// The key first, the others as they are declared.
    fn of(fields: &Fields) -> Self {
        let key = fields.get(fields.key());
        let others = fields.iter().filter(|field| field.name != key.name);
        let mut shape = Self::default();
        for field in std::iter::once(key).chain(others) {
            shape.add(&field.name, Values::of(field, field.name == key.name));
        }
        shape
    }

    /// `payload.email` is the `email` of an object `payload`, which may have been declared as a whole.
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

    fn event(&self, number: u64, users: u64, random: &mut Random, into: &mut Vec<u8>) {
        self.object(number, users, random, into);
        into.push(b'\n');
    }

    fn object(&self, number: u64, users: u64, random: &mut Random, into: &mut Vec<u8>) {
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
                // From zero where that is allowed, else from the end that is nearer.
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
            Self::Object(shape) => shape.object(number, users, random, into),
        }
    }
}

fn json(text: &str) -> Vec<u8> {
    serde_json::Value::from(text).to_string().into_bytes()
}

/// A quoted word with a number and an ending, cut or filled from the left until it fits.
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

/// SplitMix64. Our own six lines, because a library's next version may count otherwise.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to one below `end`, near enough to evenly.
    fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(declared: &str, stream: &str, seed: u64) -> (String, Config) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.toml");
        std::fs::write(&path, declared).expect("written");
        let config = Config::load(Some(&path), &Overrides::default()).expect("a configuration");
        let command =
            Generate { events: 2_000, users: 9, stream: stream.to_owned(), config: None, seed, output: None };
        let mut out = Vec::new();
        write(&Shape::of(&config.streams[stream].fields), &command, &mut out).expect("written");
        (String::from_utf8(out).expect("text"), config)
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_for_ever() {
        let (text, _) = lines("", "revenue", 0);
        let begin: Vec<&str> = text.lines().take(2).collect();
        let expected = [
            r#"{"userId":"user8","name":"add_revenue","value":26.1063}"#,
            r#"{"userId":"user3","name":"add_revenue","value":771.9}"#,
        ];
        assert_eq!(begin, expected);
        assert_eq!(text, lines("", "revenue", 0).0);
        assert_ne!(text, lines("", "revenue", 1).0);
    }

    #[test]
    fn events_fit_the_stream_whatever_it_declares() {
        let declared = r#"
            [stream.all]
            key = "k"
            fields.k = { type = "text", required = true, max = 3 }
            fields.a = { type = "integer", required = true, min = -5, max = 5 }
            fields.b = { type = "integer", required = true, min = 7, max = 7 }
            fields.c = { type = "integer", required = true, max = -3 }
            fields.d = { type = "decimal", required = true }
            fields.e = { type = "time", required = true }
            fields.f = { type = "boolean", required = true }
            fields.g = { type = "any", required = true }
            fields.h = { type = "text", required = true, one_of = ["x \" y", "é"] }
            fields.i = { type = "integer", required = true }
            fields.j = { type = "text", required = true, max = 1 }
            fields.l = { type = "text", required = true, min = 30, max = 30 }
            fields.m = { type = "decimal", required = true, digits = 2, places = 1 }
            fields.n = { type = "any", required = true }
            fields."n.o" = { type = "text", required = true, format = "email" }
            fields."n.p.q" = { type = "text", required = true, format = "email", max = 9 }
            fields."r.s" = { type = "decimal", required = true, places = 0 }
        "#;
        for stream in ["all", "revenue", "notifications"] {
            let (text, config) = lines(declared, stream, 3);
            assert_eq!(text.lines().count(), 2_000);
            for line in text.lines() {
                config.streams[stream].fields.check(line, true).expect(line);
            }
        }
    }
}
