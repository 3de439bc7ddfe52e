//! Collects the identities of a record that dedup has to look up and store: client ids, runs of upload lines and
//! corrections. `DedupEntry::verdict` decides about repeats; it is in `store` because it runs inside the transaction.

use std::time::Duration;

use event::{EventId, LogId, Millis};

use crate::log::{ReadError, Record};
use crate::store::{CorrectedEvent, DEDUP_STORED_NAME, DedupEntry, DedupKey, NewDeadLetter};

/// The identities of a batch, for the next plan of dedup.
#[derive(Default)]
pub struct Identities {
    pub seen: Vec<DedupEntry>,
    pub corrected: Vec<CorrectedEvent>,
}

impl Identities {
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty() && self.corrected.is_empty()
    }

    pub fn len(&self) -> usize {
        self.seen.len() + self.corrected.len()
    }
}

/// Adds the identities of a record to `into`. `window` is for records that do not say how long they are remembered.
/// Fails if an event of it cannot be decoded.
pub fn collect(
    record: &Record<'_>,
    log: LogId,
    window: Duration,
    into: &mut Identities,
) -> Result<(), ReadError> {
    let Some(header) = &record.header else { return Ok(()) };
    let window = header.window.unwrap_or(window);
    let expires = Some(Millis(header.received.0.saturating_add(window.as_millis() as i64)));
    let mut lines = Vec::new();
    let mut dead_letters = Vec::new();
    for entry in record.entries() {
        let (position, entry) = entry.map_err(|error| ReadError::Damaged(error.to_string()))?;
        let dead_letter = |reason: &str| NewDeadLetter {
            id: NewDeadLetter::id(DEDUP_STORED_NAME, log, position),
            view: DEDUP_STORED_NAME.to_owned(),
            position,
            event_id: EventId::at(log, position),
            stream: header.stream.to_owned(),
            reason: reason.to_owned(),
            event: entry.text.to_owned(),
            at: header.received,
            delivery: None,
        };
        if let Some(target) = entry.corrects {
            into.corrected.push(CorrectedEvent { position: target, by: position });
        }
        if let Some((id, hash)) = entry.client {
            // A dead letter that is retried with two different texts stays one dead letter. If the second text became a
            // dead letter of dedup, it would go to views that have applied the event already.
            let retried = header.retry.is_some();
            let conflict = if retried {
                Vec::new()
            } else {
                vec![dead_letter("the same id was used before for another event")]
            };
            into.seen.push(DedupEntry {
                key: DedupKey::Event(id),
                hash,
                received: header.received,
                // A dead letter may be retried once more after the window is over.
                expires: expires.filter(|_| !retried),
                events: vec![(position, 0)],
                conflict,
            });
        }
        if let Some(upload) = &header.upload {
            lines.push((position, upload.first_line + u64::from(entry.line)));
            dead_letters.push(dead_letter("the same lines were sent before with different content"));
        }
    }
    if let Some(upload) = &header.upload {
        let key = DedupKey::Lines { upload: upload.id.0, first: upload.first_line, count: upload.lines };
        into.seen.push(DedupEntry {
            key,
            hash: upload.hash,
            received: header.received,
            expires: expires.filter(|_| !upload.kept),
            events: lines,
            conflict: dead_letters,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use event::BodyHash;

    use super::*;
    use crate::log::{Entry, Header, RecordBuilder, Retry, Shape};

    fn entry_of(retry: Option<Retry<'_>>, window: Option<Duration>) -> DedupEntry {
        let header = Header { retry, window, ..Header::of("s", Millis(9)) };
        let mut record = RecordBuilder::new(&header, Shape { ids: true, ..Shape::default() }, 8);
        let client = Some((EventId::derived("s", "o", "id"), BodyHash([1; 8])));
        record.push(&Entry { client, text: "{}", ..Entry::default() });
        let record = Record::decode(0, 1, record.bytes()).expect("a record");
        let mut identities = Identities::default();
        let window = Duration::from_secs(1);
        collect(&record, LogId([0; 16]), window, &mut identities).expect("identities");
        identities.seen.remove(0)
    }

    #[test]
    fn a_retried_dead_letter_is_remembered_without_a_limit_and_stays_one_dead_letter() {
        let dead_letter = EventId::derived("s", "o", "letter");
        for view in ["revenue", DEDUP_STORED_NAME] {
            let seen = entry_of(Some(Retry { view, dead_letter }), None);
            assert_eq!((seen.expires, seen.conflict.len()), (None, 0), "{view}");
        }
        let event = entry_of(None, None);
        assert_eq!((event.expires, event.conflict.len()), (Some(Millis(1_009)), 1));
    }

    #[test]
    fn a_record_says_how_long_its_ids_count() {
        assert_eq!(entry_of(None, Some(Duration::from_millis(5))).expires, Some(Millis(14)));
    }
}
