//! Corrections: `{"takesBack": ID}` in place of an event, in an object, an array or a line. Every view that applied
//! the event with that id undoes it.

use std::borrow::Cow;
use std::collections::HashMap;

use event::limits::{CLIENT_ID_CHARS_MAX, CORRECTION_REASON_CHARS_MAX};
use event::{Field, FieldError, FieldErrors, Fields, walk_object};

use super::{Admission, IdScope, Refusal, TargetGuard};

const KEY: &str = "takesBack";

/// One correction that passed every check.
pub struct Correction {
    /// The position of the event that it undoes.
    pub position: u64,
    pub client_id: Option<String>,
}

/// The corrections among some texts, by their index, or why they are refused. The lock on the events that they undo
/// must be kept until the corrections are in the log.
#[derive(Default)]
pub struct Corrections {
    found: HashMap<usize, Result<Correction, FieldErrors>>,
    targets: Option<TargetGuard>,
}

impl Corrections {
    pub fn take(&mut self, index: usize) -> Option<Result<Correction, FieldErrors>> {
        if self.found.is_empty() { None } else { self.found.remove(&index) }
    }

    /// Returns whether the bytes may hold a correction: a quick search that rules out most bodies.
    pub fn possible(bytes: &[u8]) -> bool {
        memchr::memmem::find(bytes, KEY.as_bytes()).is_some()
    }

    /// Returns the lock on the events that they undo, for their append.
    pub fn into_lock(self) -> Option<TargetGuard> {
        self.targets
    }
}

impl Admission {
    /// Finds the corrections among the texts of a request, and the events that they undo. Reads the log once for
    /// each.
    pub async fn corrections<'a>(
        &self,
        ids: IdScope<'_>,
        texts: impl Iterator<Item = &'a str>,
    ) -> Result<Corrections, Refusal> {
        let fields = self.fields(ids.stream)?;
        let mut found = Corrections::default();
        if fields.index_of(KEY).is_some() {
            return Ok(found);
        }
        let targets = &self.correction_targets;
        for (index, text) in texts.enumerate() {
            if !Corrections::possible(text.as_bytes()) {
                continue;
            }
            let Some(written) = read(text, fields) else { continue };
            let correction = match written {
                Ok(written) => {
                    if found.targets.is_none() {
                        targets.wait_for_dedup().await?;
                        found.targets = Some(targets.lock().await);
                    }
                    let client_id = written.client_id.map(Cow::into_owned);
                    let position = targets.position(ids, &written.id).await?;
                    position.map_err(wrong).map(|position| Correction { position, client_id })
                }
                Err(error) => Err(error),
            };
            found.found.insert(index, correction.map_err(FieldErrors::from));
        }
        Ok(found)
    }
}

fn wrong(reason: String) -> FieldError {
    FieldError { field: KEY.to_owned(), reason }
}

/// A correction as it was written.
struct WrittenCorrection<'a> {
    id: Cow<'a, str>,
    client_id: Option<Cow<'a, str>>,
}

/// Reads a correction. Returns `None` if the text is an event or invalid, which the check of events reports.
fn read<'a>(text: &'a str, fields: &Fields) -> Option<Result<WrittenCorrection<'a>, FieldError>> {
    let (mut id, mut client_id, mut reason, mut twice, mut other) = (None, None, None, false, None);
    let walked = walk_object(text, |key, raw| {
        let value = match key.as_ref() {
            KEY => &mut id,
            "id" => &mut client_id,
            "reason" => &mut reason,
            _ => {
                other = Some(key.into_owned());
                return Ok(());
            }
        };
        twice |= value.replace(raw).is_some();
        Ok(())
    });
    walked.ok()?;
    let id = id?;
    if twice {
        return Some(Err(wrong("is in an object that contains a key twice".to_owned())));
    }
    if let Some(other) = other {
        let known = fields.index_of(&other).is_some();
        let what = if known { other } else { "another key".to_owned() };
        let fault = format!("is given together with {what}; a correction cannot be an event as well");
        return Some(Err(wrong(fault)));
    }
    let written = || {
        Field::read_text("reason", reason, false, CORRECTION_REASON_CHARS_MAX)?;
        let client_id = Field::read_text("id", client_id, false, CLIENT_ID_CHARS_MAX)?;
        let id = Field::read_text(KEY, Some(id), true, CLIENT_ID_CHARS_MAX)?.unwrap_or_default();
        Ok(WrittenCorrection { id, client_id })
    };
    Some(written())
}
