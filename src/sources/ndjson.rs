//! Lines of JSON, any number of them in one request. They are taken in chunks, each of which becomes durable or is
//! refused as a whole while the next one is being read. `send` names its chunks by upload and line number, so that
//! the deduplicator recognises repeats.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use event::limits::{
    CHUNK_LINES_MAX, ENVELOPE_BYTES_MAX, EVENT_BYTES_MAX, FAULTS_LISTED_MAX, REFUSALS_LISTED_MAX,
    STOP_LINES_DURATION_MAX,
};
use event::{BodyHash, FieldErrors, UploadId};
use serde::Serialize;

use super::export_line;
use super::line_buffer::LineBuffer;
use super::native_request::{Request, answer, wait};
use crate::admission::{
    Checked, CheckedEvent, Context, Corrections, EncodedEvents, EventChecker, EventFault, EventIndex, Offer,
    OfferName, Refusal, UploadLines, WrittenEvents, run_sized,
};
use crate::http::body::{self, Pieces};
use crate::http::{ApiError, Share, idempotency_key};

const UPLOAD: &str = "millrace-upload";
const FIRST_LINE: &str = "millrace-first-line";

/// Identifies the lines of a request, if the client names them.
struct Upload {
    id: UploadId,
    /// The lines are remembered without end, not only within the dedup window.
    kept: bool,
}

/// The progress of one request.
struct Taken {
    next_line: u64,
    durable_lines: u64,
    accepted: u64,
    refused: usize,
    faults: Vec<EventFault>,
    /// Where the events are in the log, for a sender who waits for the views.
    written: WrittenEvents,
}

#[derive(Serialize)]
struct LinesAccepted {
    accepted: u64,
    refused: usize,
    lines: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<EventFault>,
}

impl Taken {
    /// Lists the faults of a chunk up to the limits, but at least the first fault of each listed event.
    fn list(&mut self, faults: Vec<EventFault>) {
        let (mut listed, mut last) = (self.refused, None);
        for fault in faults {
            let is_first = last != Some(fault.at);
            listed += usize::from(is_first);
            last = Some(fault.at);
            if listed > REFUSALS_LISTED_MAX {
                return;
            }
            if is_first || self.faults.len() < FAULTS_LISTED_MAX {
                self.faults.push(fault);
            }
        }
    }

    /// Adds the number of durable lines to an error, so that the client knows where to continue.
    fn stopped_by(&self, error: impl Into<ApiError>) -> ApiError {
        ApiError::AfterLines { durable_lines: self.durable_lines, error: Box::new(error.into()) }
    }
}

pub async fn receive(request: &Request<'_>, body: Body) -> Result<Response, ApiError> {
    let (upload, first_line) = upload(request)?;
    let context = request.context(None);
    let mut pieces = Pieces::of(request.headers, body)?;
    let mut lines = LineBuffer::new(line_bytes_max(request), Share::keyed(request.peer));
    let mut taken = Taken {
        next_line: first_line,
        durable_lines: 0,
        accepted: 0,
        refused: 0,
        faults: Vec::new(),
        written: WrittenEvents::new(upload.is_some()),
    };
    let mut pending = None;
    let mut last_moment = std::pin::pin!(last_moment(request));
    loop {
        let next = tokio::select! {
            biased;
            next = lines.fill(&mut pieces) => next,
            () = &mut last_moment => Err(Refusal::Stopping.into()),
        };
        let chunk = match next {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(error) => {
                // Wait for the pending append before replying.
                settle(request, &context, &mut taken, pending.take()).await?;
                return Err(taken.stopped_by(error));
            }
        };
        let bytes = &lines.bytes[chunk.clone()];
        let mut corrections = Corrections::default();
        // Lines of an export are never corrections: the export skips corrected events.
        if request.options.exported.is_none() && Corrections::possible(bytes) {
            // The corrected event may be in an earlier chunk.
            settle(request, &context, &mut taken, pending.take()).await?;
            let found = request.admission().corrections(request.ids, texts_of(bytes)).await;
            corrections = found.map_err(|refusal| taken.stopped_by(refusal))?;
        }
        let checked = run_sized(bytes.len(), || {
            check(request, &context, upload.as_ref(), &mut taken, bytes, &mut corrections)
        });
        settle(request, &context, &mut taken, pending.take()).await?;
        let checked = checked.map_err(|refusal| taken.stopped_by(refusal))?;
        lines.done(chunk.end);
        if request.checks_only() {
            continue;
        }
        match &checked.record {
            None => taken.durable_lines += checked.lines,
            Some(record) => {
                let append = request.admission().append_encoded(record, corrections);
                pending = Some((append, record.count(), checked.lines));
            }
        }
    }
    settle(request, &context, &mut taken, pending.take()).await?;
    let lines = taken.next_line - first_line;
    let accepted =
        LinesAccepted { accepted: taken.accepted, refused: taken.refused, lines, errors: taken.faults };
    Ok(if request.checks_only() {
        axum::Json(accepted).into_response()
    } else {
        taken.written.upload = upload.map(|upload| (upload.id, first_line..first_line + lines));
        let waited = wait(request, &taken.written).await;
        answer(accepted, waited, false)
    })
}

/// Ends when a request that is still being received has to be answered, so that its client is not cut off.
async fn last_moment(request: &Request<'_>) {
    request.native.stopping.wait().await;
    tokio::time::sleep(STOP_LINES_DURATION_MAX).await;
}

/// Waits for the pending chunk. There is at most one: a chunk is appended only when all chunks before it are durable,
/// so that the durable lines are always the first lines of the body.
async fn settle(
    request: &Request<'_>,
    context: &Context<'_>,
    taken: &mut Taken,
    pending: Option<(impl Future<Output = Result<u64, Refusal>>, u64, u64)>,
) -> Result<(), ApiError> {
    if let Some((append, count, lines)) = pending {
        let position = append.await.map_err(|error| taken.stopped_by(error))?;
        request.admission().count_accepted(context, position, count);
        taken.accepted += count;
        taken.durable_lines += lines;
        if request.options.wait.is_some() {
            taken.written.add(position..position + count);
        }
    }
    Ok(())
}

/// Reads `Millrace-Upload` and `Millrace-First-Line`, or an `Idempotency-Key` for lines that have no ids.
fn upload(request: &Request<'_>) -> Result<(Option<Upload>, u64), ApiError> {
    let header = |name: &'static str| match request.headers.get(name).map(|value| value.to_str()) {
        None => Ok(None),
        Some(Ok(text)) if !text.is_empty() => Ok(Some(text)),
        // Ignored, it would let the same lines count again.
        Some(_) => Err(ApiError::Parameter { name, reason: "is empty or not plain text".to_owned() }),
    };
    if let Some(name) = header(UPLOAD)? {
        let first = header(FIRST_LINE)?.unwrap_or("1");
        let invalid = || ApiError::Parameter {
            name: "Millrace-First-Line",
            reason: "expected a line number from 1".to_owned(),
        };
        let first = first.parse().ok().filter(|line| (1..1 << 60).contains(line)).ok_or_else(invalid)?;
        return Ok((Some(Upload { id: request.ids.upload(name), kept: true }), first));
    }
    if header(FIRST_LINE)?.is_some() {
        // Without the name, the same lines would count again.
        let reason = "needs `Millrace-Upload`, the name of the upload".to_owned();
        return Err(ApiError::Parameter { name: "Millrace-First-Line", reason });
    }
    let upload = |key| Upload { id: request.ids.upload_by_key(key), kept: false };
    Ok((idempotency_key(request.headers)?.map(upload), 1))
}

impl Upload {
    fn lines(&self, first_line: u64, lines: u32, chunk: &[u8]) -> UploadLines {
        let hash = BodyHash::of(chunk.trim_ascii_end());
        UploadLines { id: self.id, first_line, lines, hash, kept: self.kept }
    }
}

struct CheckedChunk {
    /// `None` if the chunk has no event to store.
    record: Option<EncodedEvents>,
    lines: u64,
}

/// Checks a chunk and encodes its events. Fails if a line is refused, unless the client asked for the valid ones.
fn check(
    request: &Request<'_>,
    context: &Context<'_>,
    upload: Option<&Upload>,
    taken: &mut Taken,
    chunk: &[u8],
    corrections: &mut Corrections,
) -> Result<CheckedChunk, Refusal> {
    let checker = request.admission().checker(context)?;
    let (mut checked, mut lines) = (Checked::default(), 0_u32);
    checked.reserve(CHUNK_LINES_MAX);
    let bytes_max = line_bytes_max(request);
    for line in chunk.split(|byte| *byte == b'\n') {
        let index = lines;
        lines += 1;
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        if line.len() > bytes_max {
            return Err(Refusal::TooLarge { what: "a line", bytes_max });
        }
        let at = EventIndex::Line(taken.next_line + u64::from(index));
        match check_line(request, &checker, index as usize, line, corrections) {
            Ok(None) => {}
            Ok(Some(event)) => checked.add_line(index, event),
            Err(errors) => checked.add(at, Err(errors)),
        }
    }
    // The last line break ends a line; it does not begin another.
    lines -= u32::from(chunk.ends_with(b"\n"));
    let first_line = taken.next_line;
    if request.options.partial {
        taken.list(std::mem::take(&mut checked.faults));
        taken.refused += checked.refused;
    } else {
        checked = checked.expect_all()?;
    }
    taken.next_line += u64::from(lines);
    if request.options.wait.is_some() {
        taken.written.identified |= checked.names().next().is_some();
        taken.written.add_corrections(checked.corrects());
    }
    let upload = upload.map(|upload| upload.lines(first_line, lines, chunk));
    let record = request.admission().encode(context, &checked, upload);
    Ok(CheckedChunk { record, lines: u64::from(lines) })
}

/// Checks one line. Returns `None` for a line of an export that holds an event which did not count there.
fn check_line<'a>(
    request: &Request<'_>,
    checker: &EventChecker<'_>,
    index: usize,
    line: &'a [u8],
    corrections: &mut Corrections,
) -> Result<Option<CheckedEvent<'a>>, FieldErrors> {
    let text = body::utf8("the line", line)?;
    let exported;
    let offer = match &request.options.exported {
        None => Offer { text, name: OfferName::OwnId },
        Some(stream) => match export_line::event(text, stream)? {
            None => return Ok(None),
            Some(event) => {
                exported = event;
                // The `id` in its text, if there is one, named the event where it was sent first.
                Offer { text: exported.text, name: OfferName::Given { name: &exported.id, id: &exported.id } }
            }
        },
    };
    checker.check(index, offer, corrections).map(Some)
}

fn line_bytes_max(request: &Request<'_>) -> usize {
    EVENT_BYTES_MAX + if request.options.exported.is_some() { ENVELOPE_BYTES_MAX } else { 0 }
}

/// The lines of a chunk, each at its index. A line that is not text is not a correction.
fn texts_of(chunk: &[u8]) -> impl Iterator<Item = &str> {
    chunk.split(|byte| *byte == b'\n').map(|line| std::str::from_utf8(line.trim_ascii()).unwrap_or_default())
}
