//! Checks offered events against the declaration of their stream, and names those that have an id.

use std::collections::HashMap;

use event::limits::{EVENT_BYTES_MAX, FAULTS_LISTED_MAX, REFUSALS_LISTED_MAX};
use event::{FieldError, FieldErrors, Fields};

use super::{Admission, Context, Corrections, EventFault, EventIndex, EventName, Refusal};
use crate::log::Entry;

/// One event as a source offers it.
#[derive(Clone, Copy)]
pub struct Offer<'t, 'n> {
    pub text: &'t str,
    pub name: OfferName<'n>,
}

/// How an offered event is named by its sender.
#[derive(Clone, Copy)]
pub enum OfferName<'n> {
    /// Its `id` is data.
    Unnamed,
    /// Its `id`, if it has one, is the sender's name for it.
    OwnId,
    /// The source has a name for it, and its `id` is data: a CloudEvent, a line of an export. `id` is the part of the
    /// name that the sender calls the event's id.
    Given { name: &'n str, id: &'n str },
}

/// One event that fits its stream.
pub struct CheckedEvent<'a>(Entry<'a>);

/// Checked events, in the order in which they were offered, and the faults of those that were refused.
#[derive(Default)]
pub struct Checked<'a> {
    pub(super) entries: Vec<Entry<'a>>,
    /// The faults of the first refused events; the rest is only counted.
    pub faults: Vec<EventFault>,
    /// Refused events, each of which has at least one fault.
    pub refused: usize,
}

impl<'a> Checked<'a> {
    /// Takes the check of the event at `index`.
    pub fn add(&mut self, at: EventIndex, checked: Result<CheckedEvent<'a>, FieldErrors>) {
        match checked {
            Ok(event) => self.entries.push(event.0),
            Err(errors) => {
                self.refused += 1;
                if self.refused <= REFUSALS_LISTED_MAX {
                    // At least the first fault of each of these events is listed.
                    let room = FAULTS_LISTED_MAX.saturating_sub(self.faults.len()).max(1);
                    self.faults.extend(errors.into_iter().take(room).map(|error| EventFault { at, error }));
                }
            }
        }
    }

    /// Adds a checked line, with its number among the lines of its record.
    #[inline]
    pub fn add_line(&mut self, line: u32, entry: CheckedEvent<'a>) {
        self.entries.push(Entry { line, ..entry.0 });
    }

    /// Fails if an event was refused.
    pub fn expect_all(self) -> Result<Self, Refusal> {
        if self.refused == 0 {
            return Ok(self);
        }
        Err(Refusal::InvalidMany { events: self.refused, faults: self.faults })
    }

    pub fn reserve(&mut self, events: usize) {
        self.entries.reserve(events);
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns the positions of the events that the corrections among these undo.
    pub fn corrects(&self) -> impl Iterator<Item = u64> {
        self.entries.iter().filter_map(|entry| entry.corrects)
    }

    pub fn names(&self) -> impl Iterator<Item = EventName> {
        self.entries.iter().filter_map(|entry| entry.client)
    }
}

/// Checks the events of one request.
pub struct EventChecker<'a> {
    fields: &'a Fields,
    context: &'a Context<'a>,
}

impl Admission {
    /// Returns the checker for the events of a request. The stream is looked up once, not for each event.
    pub fn checker<'a>(&'a self, context: &'a Context<'a>) -> Result<EventChecker<'a>, Refusal> {
        Ok(EventChecker { fields: self.fields(context.ids.stream)?, context })
    }
}

impl EventChecker<'_> {
    /// Checks the event at `index`. A correction in its place was found before (`Corrections::find`).
    // Inlined, because a call would copy the event, which took a twentieth of the time of a line.
    #[inline]
    pub fn check<'t>(
        &self,
        index: usize,
        offer: Offer<'t, '_>,
        corrections: &mut Corrections,
    ) -> Result<CheckedEvent<'t>, FieldErrors> {
        let text = offer.text;
        match corrections.take(index) {
            None => {
                let client = name_of(self.fields, self.context, index, offer)?;
                Ok(CheckedEvent(Entry { client, text, ..Entry::default() }))
            }
            Some(correction) => {
                let correction = correction?;
                let client = self.context.name(index, correction.client_id.as_deref(), text)?;
                let corrects = Some(correction.position);
                Ok(CheckedEvent(Entry { client, corrects, text, ..Entry::default() }))
            }
        }
    }
}

/// Checks an event that is not a correction, and returns its name.
#[inline]
pub fn name_of(
    fields: &Fields,
    context: &Context<'_>,
    index: usize,
    offer: Offer<'_, '_>,
) -> Result<Option<EventName>, FieldErrors> {
    let text = offer.text;
    if text.len() > EVENT_BYTES_MAX {
        return Err(FieldErrors::of_event(format!("is larger than {EVENT_BYTES_MAX} bytes")));
    }
    let checked = fields.check(text, matches!(offer.name, OfferName::OwnId))?;
    Ok(match offer.name {
        OfferName::Unnamed => None,
        OfferName::OwnId => context.name(index, checked.client_id.as_deref(), text)?,
        OfferName::Given { name, id } => {
            context.expect_one_name(id)?;
            Some(context.ids.by_id(name, text))
        }
    })
}

/// Fails if two events of one request have the same name and different bodies.
pub fn expect_distinct(names: impl Iterator<Item = EventName>) -> Result<(), Refusal> {
    let mut known = HashMap::new();
    for (id, hash) in names {
        if known.insert(id, hash).is_some_and(|other| other != hash) {
            return Err(Refusal::id_reused());
        }
    }
    Ok(())
}

impl Context<'_> {
    /// The event's own id is its name; the request's key names those without.
    fn name(&self, index: usize, id: Option<&str>, text: &str) -> Result<Option<EventName>, FieldErrors> {
        Ok(match (id, self.idempotency_key) {
            (Some(id), _) => {
                self.expect_one_name(id)?;
                Some(self.ids.by_id(id, text))
            }
            (None, Some(key)) => Some(self.ids.by_key(key, index, text)),
            (None, None) => None,
        })
    }

    /// Fails if the request's key is another name than the event's own id. One of the two would be ignored, and the
    /// sender would not learn that it was used for another event.
    fn expect_one_name(&self, id: &str) -> Result<(), FieldErrors> {
        if self.idempotency_key.is_none_or(|key| key == id) {
            return Ok(());
        }
        let reason = "differs from the `Idempotency-Key` of the request; both name the event, so send only one of them";
        Err(FieldError { field: "id".to_owned(), reason: reason.to_owned() }.into())
    }
}
