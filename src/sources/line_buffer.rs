//! The bytes of a body of lines, cut into chunks as they arrive.

use event::limits::{CHUNK_BYTES_MAX, CHUNK_LINES_MAX};

use crate::admission::Refusal;
use crate::http::body::Pieces;
use crate::http::{ApiError, Share};

#[derive(Default)]
pub struct LineBuffer {
    pub bytes: Vec<u8>,
    /// The start of the next chunk.
    start: usize,
    /// Line ends are counted up to here.
    counted: usize,
    /// The number of line ends in the next chunk.
    ends: usize,
    line_start: usize,
    ended: bool,
    line_bytes_max: usize,
    share: Share,
}

impl LineBuffer {
    pub fn new(line_bytes_max: usize, share: Share) -> Self {
        Self { line_bytes_max, share, ..Self::default() }
    }

    /// Returns the range of the next chunk; `None` at the end.
    pub async fn fill(&mut self, pieces: &mut Pieces) -> Result<Option<std::ops::Range<usize>>, ApiError> {
        loop {
            if let Some(end) = self.count()? {
                return Ok(Some(self.start..end));
            }
            if self.ended {
                let rest = self.start..self.bytes.len();
                return Ok(if rest.is_empty() { None } else { Some(rest) });
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
    fn count(&mut self) -> Result<Option<usize>, ApiError> {
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
        if self.counted - self.line_start.max(self.start) > self.line_bytes_max {
            Err(Refusal::TooLarge { what: "a line", bytes_max: self.line_bytes_max }.into())
        } else {
            Ok(None)
        }
    }

    /// Marks the bytes before `end` as done.
    pub fn done(&mut self, end: usize) {
        self.start = end;
        self.counted = self.counted.max(end);
        self.ends = 0;
    }

    /// Moves the next chunk to the front, once at least half of the buffer is done.
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
    use axum::body::Body;
    use axum::http::HeaderMap;
    use event::limits::EVENT_BYTES_MAX;

    use super::*;

    #[tokio::test]
    async fn memory_of_finished_chunks_is_given_back() {
        let body = Body::from(format!("{}\n", "x".repeat(10_000)).repeat(1_000));
        let mut pieces = Pieces::of(&HeaderMap::new(), body).expect("pieces");
        let mut lines = LineBuffer::new(EVENT_BYTES_MAX, Share::default());
        let mut chunks = 0;
        while let Some(chunk) = lines.fill(&mut pieces).await.expect("lines") {
            lines.done(chunk.end);
            chunks += 1;
        }
        assert!(chunks > 2);
        let (counted, capacity) = (lines.share.bytes(), lines.bytes.capacity());
        assert!(counted == lines.bytes.len() && capacity < CHUNK_BYTES_MAX, "{counted} of {capacity}");
    }
}
