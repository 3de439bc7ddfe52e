//! Lines of JSON, any number of them in one request: taken in chunks, each of which is durable or
//! refused as a whole, while the next is being read. `send` names its chunks by source and line, so that
//! the gate recognises them.

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::Response;
use event::limits::{
    CHUNK_BYTES_MAX, CHUNK_LINES_MAX, ENVELOPE_BYTES_MAX, EVENT_BYTES_MAX, QUICK_BODY_BYTES_MAX,
    REFUSALS_LISTED_MAX,
};
use event::{BodyHash, FieldError, Fields, SourceId};
use serde_json::json;

use super::correction::{self, Corrections};
use super::exported::{self, Exported};
use super::naming::idempotency_key;
use super::native::{Check, Request, answer, finish};
use crate::admit::body::{self, Pieces};
use crate::admit::{Indexed, Place, Refusal, Share};
use crate::eventlog::{AppendError, Chunk, Entry, RecordBuilder, Shape};

/// Where the lines come from, if the client says so.
struct Source {
    id: SourceId,
    kept: bool,
}

/// What was done so far.
struct Taken {
    next_line: u64,
    durable_lines: u64,
    accepted: u64,
    refused: usize,
    errors: Vec<Indexed>,
    end: u64,
}

impl Taken {
    /// Whatever ends a body of lines, its client learns from where to go on.
    fn stopped_by(&self, refusal: Refusal) -> Refusal {
        Refusal::AfterLines { durable_lines: self.durable_lines, refusal: Box::new(refusal) }
    }
}

pub async fn receive(request: &Request<'_>, body: Body) -> Result<Response, Refusal> {
    let (source, first_line) = source(request)?;
    let mut pieces = Pieces::of(request.headers, body)?;
    let mut lines = Lines::new(line_bytes_max(request), Share::keyed(request.peer));
    let mut taken = Taken {
        next_line: first_line,
        durable_lines: 0,
        accepted: 0,
        refused: 0,
        errors: Vec::new(),
        end: 0,
    };
    let mut pending = None;
    let mut last_moment = std::pin::pin!(request.intake.last_moment());
    loop {
        let whole = tokio::select! {
            biased;
            whole = lines.fill(&mut pieces) => whole,
            () = &mut last_moment => Err(Refusal::Stopping),
        };
        // What is in line is settled before anything else is said.
        let chunk = match whole {
            Ok(chunk) => chunk,
            Err(refusal) => {
                settle(request, &mut taken, pending.take()).await?;
                return Err(taken.stopped_by(refusal));
            }
        };
        let Some(chunk) = chunk else { break };
        let bytes = &lines.bytes[chunk.clone()];
        let mut corrections = Corrections::default();
        // What an export holds was taken back already, or is left out.
        if request.options.exported.is_none() && correction::possible(bytes) {
            // What an earlier chunk holds may be taken back by this one.
            settle(request, &mut taken, pending.take()).await?;
            let found = correction::find(request, texts_of(bytes)).await;
            corrections = found.map_err(|refusal| taken.stopped_by(refusal))?;
        }
        let checked = match bytes.len() > QUICK_BODY_BYTES_MAX {
            true => {
                tokio::task::block_in_place(|| check(request, &source, &mut taken, bytes, &mut corrections))
            }
            false => check(request, &source, &mut taken, bytes, &mut corrections),
        };
        settle(request, &mut taken, pending.take()).await?;
        let checked = checked.map_err(|refusal| taken.stopped_by(refusal))?;
        lines.done(chunk.end);
        if let (Some(record), None) = (&checked.record, request.options.check) {
            let count = u64::from(record.count());
            pending = Some((request.intake.log.append(record), count, checked.lines));
            if corrections.hold_targets() {
                settle(request, &mut taken, pending.take()).await?;
            }
        } else if request.options.check.is_none() {
            taken.durable_lines += checked.lines;
        }
    }
    settle(request, &mut taken, pending.take()).await?;
    let mut answer_body = json!({
        "accepted": taken.accepted,
        "refused": taken.refused,
        "lines": taken.next_line - first_line,
    });
    if taken.refused > 0 {
        answer_body["errors"] = json!(taken.errors);
    }
    match request.options.check {
        Some(Check::Only) => Ok(answer(StatusCode::OK, answer_body)),
        None => Ok(finish(request, answer_body, taken.end).await),
    }
}

/// Waits for the chunk that is in line. One is, at most: a chunk is appended only once all before it are
/// durable, so that what is durable is always a beginning of what was sent.
async fn settle(
    request: &Request<'_>,
    taken: &mut Taken,
    pending: Option<(impl Future<Output = Result<u64, AppendError>>, u64, u64)>,
) -> Result<(), Refusal> {
    if let Some((append, count, lines)) = pending {
        let position = append.await.map_err(|error| taken.stopped_by(error.into()))?;
        request.intake.accepted(request.stream, position, count, request.headers);
        taken.accepted += count;
        taken.durable_lines += lines;
        taken.end = position + count;
    }
    Ok(())
}

/// `Millrace-Source` and `Millrace-First-Line`, or an `Idempotency-Key` for lines that have no ids.
fn source(request: &Request<'_>) -> Result<(Option<Source>, u64), Refusal> {
    let header = |name: &'static str| match request.headers.get(name).map(|value| value.to_str()) {
        None => Ok(None),
        Some(Ok(text)) if !text.is_empty() => Ok(Some(text)),
        // Left out, it would let the same lines count again.
        Some(_) => Err(Refusal::Parameter { name, reason: "is empty or not plain text".to_owned() }),
    };
    let (stream, owner) = (request.stream, request.key.name.as_str());
    if let Some(name) = header("millrace-source")? {
        let first = header("millrace-first-line")?.unwrap_or("1");
        let wrong = || Refusal::Parameter {
            name: "Millrace-First-Line",
            reason: "expected a line number from 1".to_owned(),
        };
        let first = first.parse::<u64>().ok().filter(|line| (1..1 << 60).contains(line)).ok_or_else(wrong)?;
        return Ok((
            Some(Source { id: SourceId::derived(stream, owner, &format!("source:{name}")), kept: true }),
            first,
        ));
    }
    let key = idempotency_key(request.headers)?;
    let source = |key| Source { id: SourceId::derived_by_key(stream, owner, key), kept: false };
    Ok((key.map(source), 1))
}

struct Checked {
    record: Option<RecordBuilder>,
    lines: u64,
}

fn check(
    request: &Request<'_>,
    source: &Option<Source>,
    taken: &mut Taken,
    chunk: &[u8],
    corrections: &mut Corrections,
) -> Result<Checked, Refusal> {
    let fields = request.intake.fields(request.stream)?;
    let namer = request.namer();
    let first_line = taken.next_line;
    let (mut entries, mut errors, mut count, mut lines) =
        (Vec::with_capacity(CHUNK_LINES_MAX), Vec::new(), 0_usize, 0_u32);
    for line in chunk.split(|byte| *byte == b'\n') {
        let at = lines;
        lines += 1;
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let bytes_max = line_bytes_max(request);
        if line.len() > bytes_max {
            return Err(Refusal::TooLarge { what: "a line", max: bytes_max });
        }
        let correction = corrections.take(at as usize);
        let admitted = body::utf8("the line", line).and_then(|text| match correction {
            Some(found) => found.map(|found| {
                let client = found.client_id.map(|id| namer.by_id(&id, text));
                Some(Entry { client, line: at, takes_back: Some(found.position), text })
            }),
            None => entry(request, fields, text),
        });
        match admitted {
            Ok(entry) => entries.extend(entry.map(|entry| Entry { line: at, ..entry })),
            Err(error) => {
                count += 1;
                if errors.len() < REFUSALS_LISTED_MAX {
                    errors.push(Indexed { place: Place::Line(first_line + u64::from(at)), error });
                }
            }
        }
    }
    // The last line break ends a line; it does not begin another.
    lines -= u32::from(chunk.ends_with(b"\n"));
    if count > 0 && !request.options.partial {
        return Err(Refusal::InvalidMany { errors, count });
    }
    taken.next_line += u64::from(lines);
    taken.refused += count;
    let room = REFUSALS_LISTED_MAX - taken.errors.len();
    taken.errors.extend(errors.into_iter().take(room));
    if entries.is_empty() {
        return Ok(Checked { record: None, lines: u64::from(lines) });
    }
    let mut header = request.intake.header(request.stream, request.peer, request.headers);
    header.chunk = source.as_ref().map(|source| Chunk {
        source: source.id,
        first_line,
        lines,
        hash: BodyHash::of(chunk.trim_ascii_end()),
        kept: source.kept,
    });
    let ids = entries.iter().any(|entry| entry.client.is_some());
    let shape = Shape {
        ids,
        lines: source.is_some(),
        corrections: entries.iter().any(|entry| entry.takes_back.is_some()),
    };
    let mut record = RecordBuilder::new(&header, shape, chunk.len() + entries.len() * 8);
    entries.iter().for_each(|entry| record.push(entry));
    Ok(Checked { record: Some(record), lines: u64::from(lines) })
}

/// The event of a line. `None` for one of an export that did not count where it comes from.
fn entry<'a>(request: &Request<'_>, fields: &Fields, line: &'a str) -> Result<Option<Entry<'a>>, FieldError> {
    let Some(stream) = &request.options.exported else {
        let checked = fields.check(line, true)?;
        let client = checked.client_id.map(|id| request.namer().by_id(&id, line));
        return Ok(Some(Entry { client, text: line, ..Entry::default() }));
    };
    let Some(Exported { id, text }) = exported::event(line, stream)? else { return Ok(None) };
    // Its own `id`, if it has one, has done its part where it was sent first.
    fields.check(text, false)?;
    Ok(Some(Entry { client: Some(request.namer().by_id(&id, text)), text, ..Entry::default() }))
}

fn line_bytes_max(request: &Request<'_>) -> usize {
    EVENT_BYTES_MAX + if request.options.exported.is_some() { ENVELOPE_BYTES_MAX } else { 0 }
}

/// The lines of a chunk, each at its index; what is no text is no correction.
fn texts_of(chunk: &[u8]) -> impl Iterator<Item = &str> {
    chunk.split(|byte| *byte == b'\n').map(|line| std::str::from_utf8(line.trim_ascii()).unwrap_or_default())
}

/// The bytes of a body, cut into chunks of lines as they come in.
#[derive(Default)]
struct Lines {
    bytes: Vec<u8>,
    /// Where the next chunk begins, how far line ends were counted, and how many there were.
    start: usize,
    counted: usize,
    ends: usize,
    line_start: usize,
    ended: bool,
    line_bytes_max: usize,
    share: Share,
}

impl Lines {
    fn new(line_bytes_max: usize, share: Share) -> Self {
        Self { line_bytes_max, share, ..Self::default() }
    }

    /// The range of the next chunk; `None` at the end.
    async fn fill(&mut self, pieces: &mut Pieces) -> Result<Option<std::ops::Range<usize>>, Refusal> {
        loop {
            if let Some(end) = self.count()? {
                return Ok(Some(self.start..end));
            }
            if self.ended {
                let rest = self.start..self.bytes.len();
                let something = !rest.is_empty();
                return Ok(something.then_some(rest));
            }
            self.compact();
            match pieces.next().await? {
                Some(data) => {
                    self.share.grow_to(self.bytes.len() + data.len())?;
                    self.bytes.extend_from_slice(&data);
                }
                None => self.ended = true,
            }
        }
    }

    /// Counts line ends until a chunk is full.
    fn count(&mut self) -> Result<Option<usize>, Refusal> {
        for at in memchr::memchr_iter(b'\n', &self.bytes[self.counted..]) {
            let end = self.counted + at + 1;
            self.ends += 1;
            self.line_start = end;
            if self.ends == CHUNK_LINES_MAX || end - self.start >= CHUNK_BYTES_MAX {
                self.counted = end;
                return Ok(Some(end));
            }
        }
        self.counted = self.bytes.len();
        match self.counted - self.line_start.max(self.start) > self.line_bytes_max {
            true => Err(Refusal::TooLarge { what: "a line", max: self.line_bytes_max }),
            false => Ok(None),
        }
    }

    fn done(&mut self, end: usize) {
        self.start = end;
        self.counted = self.counted.max(end);
        self.ends = 0;
    }

    /// Moves the open chunk to the front, now and then.
    fn compact(&mut self) {
        if self.start > 0 && (self.start >= self.bytes.len() / 2) {
            self.bytes.drain(..self.start);
            self.bytes.shrink_to(self.bytes.len());
            self.share.shrink_to(self.bytes.len());
            self.counted -= self.start;
            self.line_start = self.line_start.saturating_sub(self.start);
            self.start = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::*;

    #[tokio::test]
    async fn what_is_done_with_is_given_back() {
        let body = Body::from(format!("{}\n", "x".repeat(10_000)).repeat(1_000));
        let mut pieces = Pieces::of(&HeaderMap::new(), body).expect("pieces");
        let mut lines = Lines::new(EVENT_BYTES_MAX, Share::default());
        let mut chunks = 0;
        while let Some(chunk) = lines.fill(&mut pieces).await.expect("lines") {
            lines.done(chunk.end);
            chunks += 1;
        }
        assert!(chunks > 2);
        let (held, capacity) = (lines.share.held(), lines.bytes.capacity());
        assert!(held == lines.bytes.len() && capacity < CHUNK_BYTES_MAX, "{held} of {capacity}");
    }
}
