//! Corrections: `{"takesBack": ID}` in place of an event, in an object, an array or a line. The event with
//! that id is taken back from every view that applied it.

use std::borrow::Cow;
use std::collections::HashMap;

use event::limits::{CLIENT_ID_CHARS_MAX, CORRECTION_REASON_CHARS_MAX};
use event::{Field, FieldError, Fields, Kind, Value, walk_object};

use super::native::Request;
use crate::admit::{Refusal, TargetsHeld, Whose};

const KEY: &str = "takesBack";

/// One correction, past every check.
pub struct Correction {
    /// What it takes back.
    pub position: u64,
    pub client_id: Option<String>,
}

/// The corrections among some texts, by their index, and what is wrong with those that cannot be taken. To be
/// kept until they are in the log.
#[derive(Default)]
pub struct Corrections {
    found: HashMap<usize, Result<Correction, FieldError>>,
    held: Option<TargetsHeld>,
}

impl Corrections {
    pub fn take(&mut self, index: usize) -> Option<Result<Correction, FieldError>> {
        if self.found.is_empty() { None } else { self.found.remove(&index) }
    }

    /// Whether what they take back is held for them.
    pub fn hold_targets(&self) -> bool {
        self.held.is_some()
    }
}

/// Whether there may be a correction in these bytes: most bodies are done with by this.
pub fn possible(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, KEY.as_bytes()).is_some()
}

/// Finds the corrections and what they take back. Costs a look at the log each.
pub async fn find<'a>(
    request: &Request<'_>,
    texts: impl Iterator<Item = &'a str>,
) -> Result<Corrections, Refusal> {
    let fields = request.intake.fields(request.stream)?;
    let mut found = Corrections::default();
    if fields.index_of(KEY).is_some() {
        return Ok(found);
    }
    let targets = &request.intake.targets;
    let whose = Whose { stream: request.stream, owner: &request.key.name };
    for (index, text) in texts.enumerate() {
        if !possible(text.as_bytes()) {
            continue;
        }
        let Some(asked) = read(text, fields) else { continue };
        let correction = match asked {
            Ok(asked) => {
                if found.held.is_none() {
                    targets.settled().await?;
                    found.held = Some(targets.held().await);
                }
                targets
                    .position(whose, &asked.id)
                    .await?
                    .map_err(wrong)
                    .map(|position| Correction { position, client_id: asked.client_id.map(Cow::into_owned) })
            }
            Err(error) => Err(error),
        };
        found.found.insert(index, correction);
    }
    Ok(found)
}

fn wrong(reason: String) -> FieldError {
    FieldError { field: KEY.to_owned(), reason }
}

/// A correction as it was written.
struct Asked<'a> {
    id: Cow<'a, str>,
    client_id: Option<Cow<'a, str>>,
}

/// `None` where the text is an event, or nothing at all: its own check says so.
fn read<'a>(text: &'a str, fields: &Fields) -> Option<Result<Asked<'a>, FieldError>> {
    let (mut id, mut client_id, mut reason, mut twice, mut other) = (None, None, None, false, None);
    let walked = walk_object(text, |key, raw| {
        let place = match key.as_ref() {
            KEY => &mut id,
            "id" => &mut client_id,
            "reason" => &mut reason,
            _ => {
                other = Some(key.into_owned());
                return Ok(());
            }
        };
        twice |= place.replace(raw).is_some();
        Ok(())
    });
    walked.ok()?;
    let id = id?;
    if twice {
        return Some(Err(wrong("is given with a key that is given twice".to_owned())));
    }
    if let Some(other) = other {
        let known = fields.index_of(&other).is_some();
        let what = if known { other } else { "another key".to_owned() };
        return Some(Err(wrong(format!("stands beside {what}: a correction is no event as well"))));
    }
    let text = |name: &str, raw: Option<&'a str>, required: bool, chars_max: usize| {
        let kind = Kind::text(chars_max as u32);
        let field = Field { name: name.to_owned(), kind, required, one_of: Vec::new() };
        field.read(raw).map(|value| match value {
            Value::Text(text) => Some(text),
            _ => None,
        })
    };
    let asked = || {
        text("reason", reason, false, CORRECTION_REASON_CHARS_MAX)?;
        let client_id = text("id", client_id, false, CLIENT_ID_CHARS_MAX)?;
        let id = text(KEY, Some(id), true, CLIENT_ID_CHARS_MAX)?.unwrap_or_default();
        Ok(Asked { id, client_id })
    };
    Some(asked())
}
