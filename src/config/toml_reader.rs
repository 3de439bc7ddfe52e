//! Reads settings from a TOML tree. The errors are in plain words and know the path of the setting, which the library's
//! own deserializer does not offer.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use event::nearest;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::location::SettingPath;

/// The setting that selects what the other settings of a section mean.
pub const KIND: &str = "kind";

/// The place of a list's element that was taken out because it cannot be read.
pub const TAKEN_OUT: Range<usize> = usize::MAX..usize::MAX;

/// An error, with the path of its setting from the top of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError {
    pub path: SettingPath,
    pub wrong: Wrong,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The section at the path has a setting that does not exist.
    UnknownSetting { name: String, names: &'static [&'static str] },
    /// The setting at the path has a word that is not among those it can have.
    UnknownWord { word: String, words: &'static [&'static str] },
    /// The section at the path lacks a setting.
    Missing { name: &'static str },
    /// The section at the path has no `kind`.
    NoKind { kinds: &'static [&'static str] },
    /// The setting at the path has a value of another type. The value is not shown: it may be a password.
    Type { expected: String, found: &'static str },
    /// Any other reason, in the words of the type that refused the value.
    Refused(String),
}

impl ReadError {
    fn new(wrong: Wrong) -> Self {
        Self { path: Vec::new(), wrong }
    }

    fn under(mut self, name: &str) -> Self {
        self.path.insert(0, name.to_owned());
        self
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.wrong)
    }
}

impl std::error::Error for ReadError {}

impl de::Error for ReadError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Wrong::Refused(message.to_string()))
    }

    fn unknown_field(name: &str, names: &'static [&'static str]) -> Self {
        Self::new(Wrong::UnknownSetting { name: name.to_owned(), names })
    }

    fn unknown_variant(word: &str, words: &'static [&'static str]) -> Self {
        Self::new(Wrong::UnknownWord { word: word.to_owned(), words })
    }

    fn missing_field(name: &'static str) -> Self {
        Self::new(Wrong::Missing { name })
    }
}

/// A value that is being read.
#[derive(Clone, Copy)]
pub struct Reader<'a, 't> {
    value: &'a DeValue<'t>,
    /// The setting `kind` of this table has been read already.
    kind_is_read: bool,
}

impl<'a, 't> Reader<'a, 't> {
    pub fn new(value: &'a DeValue<'t>) -> Self {
        Self { value, kind_is_read: false }
    }

    fn expected(&self, expected: impl Into<String>) -> ReadError {
        ReadError::new(Wrong::Type { expected: expected.into(), found: type_of(self.value) })
    }

    fn text(&self) -> Result<&'a str, ReadError> {
        match self.value {
            DeValue::String(text) => Ok(text),
            _ => Err(self.expected("a text in quotes")),
        }
    }

    fn integer(&self, min: i128, max: i128) -> Result<i128, ReadError> {
        let DeValue::Integer(number) = self.value else { return Err(self.expected("a whole number")) };
        let number = i128::from_str_radix(number.as_str(), number.radix()).ok();
        let fits = number.filter(|number| (min..=max).contains(number));
        fits.ok_or_else(|| {
            ReadError::new(Wrong::Refused(format!("expected a whole number from {min} to {max}")))
        })
    }

    fn table(&self) -> Result<&'a DeTable<'t>, ReadError> {
        match self.value {
            DeValue::Table(table) => Ok(table),
            _ => Err(self.expected("a table such as `{ name = \"value\" }`")),
        }
    }

    fn visit_list<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, ReadError> {
        let DeValue::Array(list) = self.value else {
            return Err(self.expected("a list such as `[\"a\", \"b\"]`"));
        };
        visitor.visit_seq(List { items: list.iter().enumerate() })
    }

    fn visit_table<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, ReadError> {
        let settings = self.table()?.iter();
        visitor.visit_map(Settings { settings, kind_is_read: self.kind_is_read, value: None })
    }
}

fn misspelt_kind(table: &DeTable<'_>) -> Option<String> {
    let names = table.keys().map(|name| name.get_ref().as_ref());
    names.filter(|name| nearest(name, [KIND]).is_some()).map(str::to_owned).next()
}

fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "`true` or `false`",
        DeValue::Datetime(_) => "a date or time without quotes",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table or section",
    }
}

macro_rules! integers {
    ($($read:ident $visit:ident $kind:ty),*) => {
        $(fn $read<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            let number = self.integer(<$kind>::MIN.into(), <$kind>::MAX.into())?;
            visitor.$visit(<$kind>::try_from(number).map_err(de::Error::custom)?)
        })*
    };
}

impl<'de> de::Deserializer<'de> for Reader<'_, '_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.value {
            DeValue::String(text) => visitor.visit_str(text),
            DeValue::Integer(_) => self.deserialize_i64(visitor),
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(number) => visitor.visit_f64(number),
                Err(_) => Err(self.expected("a number")),
            },
            DeValue::Boolean(value) => visitor.visit_bool(*value),
            DeValue::Datetime(date) => visitor.visit_string(date.to_string()),
            DeValue::Array(_) => self.visit_list(visitor),
            DeValue::Table(_) => self.visit_table(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_str(self.text()?)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.value {
            DeValue::Boolean(value) => visitor.visit_bool(*value),
            _ => Err(self.expected("`true` or `false` without quotes")),
        }
    }

    integers! {
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64, deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.visit_list(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.visit_table(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.visit_table(visitor)
    }

    /// Reads a word, or a section whose `kind` is the word.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self.value {
            DeValue::String(word) => visitor.visit_enum(word.as_ref().into_deserializer()),
            DeValue::Table(table) => match table.get(KIND) {
                Some(kind) => {
                    let kind = Reader::new(kind.get_ref()).text().map_err(|error| error.under(KIND))?;
                    visitor.visit_enum(OfKind { kind, section: self })
                }
                None => Err(ReadError::new(match misspelt_kind(table) {
                    Some(name) => Wrong::UnknownSetting { name, names: &[KIND] },
                    None => Wrong::NoKind { kinds: words },
                })),
            },
            _ => Err(self.expected(format!("one of `\"{}\"`", words.join("\"`, `\"")))),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { i128 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier }
}

struct List<I> {
    items: I,
}

impl<'de, 'a, 't: 'a, I> de::SeqAccess<'de> for List<I>
where
    I: Iterator<Item = (usize, &'a Spanned<DeValue<'t>>)>,
{
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        let Some((index, item)) = self.items.find(|(_, item)| item.span() != TAKEN_OUT) else {
            return Ok(None);
        };
        let item = seed.deserialize(Reader::new(item.get_ref()));
        item.map(Some).map_err(|error| error.under(&index.to_string()))
    }
}

struct Settings<'a, 't, I> {
    settings: I,
    kind_is_read: bool,
    value: Option<(&'a str, &'a DeValue<'t>)>,
}

impl<'de, 'a, 't: 'a, I> de::MapAccess<'de> for Settings<'a, 't, I>
where
    I: Iterator<Item = (&'a Spanned<Cow<'t, str>>, &'a Spanned<DeValue<'t>>)>,
{
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        let kind_is_read = self.kind_is_read;
        let Some((name, value)) = self.settings.find(|(name, _)| !kind_is_read || name.get_ref() != KIND)
        else {
            return Ok(None);
        };
        let name = name.get_ref().as_ref();
        self.value = Some((name, value.get_ref()));
        seed.deserialize(name.into_deserializer()).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, ReadError> {
        let (name, value) = self.value.take().expect("the name is read before the value");
        seed.deserialize(Reader::new(value)).map_err(|error| error.under(name))
    }
}

struct OfKind<'a, 't> {
    kind: &'a str,
    section: Reader<'a, 't>,
}

impl<'de, 'a, 't> de::EnumAccess<'de> for OfKind<'a, 't> {
    type Error = ReadError;
    type Variant = Reader<'a, 't>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self::Variant), ReadError> {
        let kind = seed.deserialize(self.kind.into_deserializer());
        let kind = kind.map_err(|error: ReadError| error.under(KIND))?;
        Ok((kind, Reader { kind_is_read: true, ..self.section }))
    }
}

impl<'de> de::VariantAccess<'de> for Reader<'_, '_> {
    type Error = ReadError;

    fn unit_variant(self) -> Result<(), ReadError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, ReadError> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, ReadError> {
        Err(self.expected("a section"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        self.visit_table(visitor)
    }
}
