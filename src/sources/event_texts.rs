//! Several events in one text, of which all are stored, or none.

use event::limits::ARRAY_EVENTS_MAX;
use event::{FieldErrors, json_in_plain_words};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::admission::{
    Admission, Checked, Context, Corrections, EventIndex, Offer, Refusal, expect_distinct, run_sized,
};
use crate::http::ApiError;

/// Checks all events of a text of this size. Fails with the faults of all of them if one is refused, or if the ids of
/// two contradict each other. `index` numbers the events for their sender.
pub async fn check_all<'a>(
    admission: &Admission,
    context: &Context<'_>,
    bytes: usize,
    offers: impl ExactSizeIterator<Item = Result<Offer<'a, 'a>, FieldErrors>>,
    index: fn(u64) -> EventIndex,
    corrections: &mut Corrections,
) -> Result<Checked<'a>, ApiError> {
    let checked = run_sized(bytes, || {
        let checker = admission.checker(context)?;
        let (mut checked, only) = (Checked::default(), offers.len() == 1);
        for (number, offer) in offers.enumerate() {
            match offer.and_then(|offer| checker.check(number, offer, corrections)) {
                Err(errors) if only => return Err(errors.into()),
                entry => checked.add(index(number as u64), entry),
            }
        }
        let checked = checked.expect_all()?;
        expect_distinct(checked.names())?;
        Ok::<_, ApiError>(checked)
    })?;
    admission.expect_unused(checked.names()).await?;
    Ok(checked)
}

/// Returns the texts of an array's items, as they were written.
pub fn array_items(text: &str) -> Result<Vec<&str>, ApiError> {
    let items: Items<'_> = serde_json::from_str(text).map_err(|error| {
        FieldErrors::of_event(format!("the array: {}", json_in_plain_words(&error.to_string())))
    })?;
    if items.0.len() > ARRAY_EVENTS_MAX {
        return Err(Refusal::TooMany { events_max: ARRAY_EVENTS_MAX }.into());
    }
    Ok(items.0)
}

/// An array's items, and no more of them than needed to tell that they are too many: 16 MiB of `0,0,0` would take 16
/// times that memory.
struct Items<'a>(Vec<&'a str>);

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct ItemsVisitor;
        impl<'de> serde::de::Visitor<'de> for ItemsVisitor {
            type Value = Items<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<S: serde::de::SeqAccess<'de>>(self, mut items: S) -> Result<Items<'de>, S::Error> {
                let mut texts = Vec::new();
                while let Some(item) = items.next_element::<&'de RawValue>()? {
                    if texts.len() <= ARRAY_EVENTS_MAX {
                        texts.push(item.get());
                    }
                }
                Ok(Items(texts))
            }
        }
        reader.deserialize_seq(ItemsVisitor)
    }
}
