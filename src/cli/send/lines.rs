//! Reads a file as numbered lines, in chunks for the server. A line that is too long for the server is replaced by an
//! empty line, so that all other lines keep their numbers.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use event::limits::CHUNK_BYTES_MAX;

const BUFFER_BYTES: usize = 256 * 1024;
/// How much of a line that is too long is listed in FILE.STREAM.rejected.
const BEGINNING_BYTES: usize = 1_000;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The start of a line: its number, from 1, and its offset in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineStart {
    pub line: u64,
    pub offset: u64,
}

/// The result of reading one line.
#[derive(Debug, PartialEq, Eq)]
pub enum ReadLine {
    End,
    Line {
        /// True if the line has its line break.
        ended: bool,
        /// The beginning of the line, if it is too long.
        too_long: Option<Vec<u8>>,
    },
}

/// Lines that are sent in one request.
#[derive(Debug)]
pub struct Chunk {
    pub first: u64,
    pub bytes: Bytes,
    /// The numbers and the beginnings of lines that are too long.
    pub too_long: Vec<(u64, Vec<u8>)>,
}

pub struct Lines {
    file: Arc<File>,
    at: LineStart,
    buffer: Vec<u8>,
    /// The part of the buffer that is not consumed yet.
    unread: std::ops::Range<usize>,
    /// The offset in the file of the bytes after the buffer.
    read_from: u64,
    line_bytes_max: usize,
}

impl Lines {
    pub fn new(file: &Arc<File>, line_bytes_max: usize) -> io::Result<Self> {
        let mut lines = Self {
            line_bytes_max,
            file: Arc::clone(file),
            at: LineStart { line: 1, offset: 0 },
            buffer: vec![0; BUFFER_BYTES],
            unread: 0..0,
            read_from: 0,
        };
        if lines.fill()?.starts_with(BYTE_ORDER_MARK) {
            lines.consume(BYTE_ORDER_MARK.len());
        }
        Ok(lines)
    }

    pub fn position(&self) -> LineStart {
        self.at
    }

    pub fn go_to(&mut self, position: LineStart) {
        (self.at, self.unread, self.read_from) = (position, 0..0, position.offset);
    }

    fn fill(&mut self) -> io::Result<&[u8]> {
        while self.unread.is_empty() {
            match self.file.read_at(&mut self.buffer, self.read_from) {
                Ok(0) => break,
                Ok(count) => {
                    self.unread = 0..count;
                    self.read_from += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(&self.buffer[self.unread.clone()])
    }

    fn consume(&mut self, count: usize) {
        self.unread.start += count;
        self.at.offset += count as u64;
    }

    /// Appends the next line to `into`, in the form in which it is sent.
    pub fn next(&mut self, into: &mut Vec<u8>) -> io::Result<ReadLine> {
        let (start, bytes_max) = (into.len(), self.line_bytes_max);
        let mut length = 0;
        let ended = loop {
            let buffer = self.fill()?;
            if buffer.is_empty() {
                break false;
            }
            let end = memchr::memchr(b'\n', buffer);
            let part = &buffer[..end.unwrap_or(buffer.len())];
            length += part.len();
            if length <= bytes_max {
                into.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            self.consume(used);
            if end.is_some() {
                break true;
            }
        };
        if length == 0 && !ended {
            return Ok(ReadLine::End);
        }
        self.at.line += 1;
        if length > bytes_max {
            // The buffer is smaller than the longest allowed line, so `into` has the beginning.
            let beginning = into[start..into.len().min(start + BEGINNING_BYTES)].to_vec();
            into.truncate(start);
            into.push(b'\n');
            return Ok(ReadLine::Line { ended, too_long: Some(beginning) });
        }
        if ended {
            into.push(b'\n');
        }
        Ok(ReadLine::Line { ended, too_long: None })
    }

    /// Returns the next lines to send together: up to `lines_max` lines, and none from the line `until` on.
    ///
    /// A last line without a line break is returned only with `open_line`, and always as a separate chunk. A writer
    /// may still complete it, and that must not affect how the server recognises other lines.
    pub fn chunk(
        &mut self,
        lines_max: u64,
        until: Option<u64>,
        open_line: bool,
    ) -> io::Result<Option<Chunk>> {
        let first = self.at.line;
        let (mut bytes, mut too_long) = (Vec::with_capacity(BUFFER_BYTES), Vec::new());
        while self.at.line - first < lines_max
            && bytes.len() < CHUNK_BYTES_MAX
            && until.is_none_or(|until| self.at.line < until)
        {
            let (before, length) = (self.at, bytes.len());
            match self.next(&mut bytes)? {
                ReadLine::End => break,
                ReadLine::Line { ended: false, .. } if before.line > first || !open_line => {
                    bytes.truncate(length);
                    self.go_to(before);
                    break;
                }
                ReadLine::Line { ended, too_long: beginning } => {
                    too_long.extend(beginning.map(|beginning| (before.line, beginning)));
                    if !ended {
                        break;
                    }
                }
            }
        }
        Ok((self.at.line > first).then(|| Chunk { first, bytes: Bytes::from(bytes), too_long }))
    }
}

impl Chunk {
    /// Returns true if the chunk has only blank lines, which need not be sent.
    pub fn is_blank(&self) -> bool {
        self.bytes.trim_ascii_start().is_empty()
    }

    pub fn line(&self, number: u64) -> &[u8] {
        let index = number.saturating_sub(self.first) as usize;
        self.bytes.split(|byte| *byte == b'\n').nth(index).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use event::limits::EVENT_BYTES_MAX;

    use super::*;

    fn file(content: &[u8]) -> Arc<File> {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(content).expect("written");
        Arc::new(file)
    }

    fn count(chunk: &Chunk) -> u64 {
        chunk.bytes.split_inclusive(|byte| *byte == b'\n').count() as u64
    }

    fn chunks(content: &[u8], lines_max: u64) -> Vec<(u64, u64, Vec<u8>)> {
        let mut lines = Lines::new(&file(content), EVENT_BYTES_MAX).expect("opens");
        let mut all = Vec::new();
        while let Some(chunk) = lines.chunk(lines_max, None, true).expect("reads") {
            all.push((chunk.first, count(&chunk), chunk.bytes.to_vec()));
        }
        all
    }

    #[test]
    fn a_last_line_without_a_line_break_is_a_separate_chunk() {
        let all = chunks(b"a\r\n\nb\nc", 2);
        let expected = [(1, 2, b"a\r\n\n".to_vec()), (3, 1, b"b\n".to_vec()), (4, 1, b"c".to_vec())].to_vec();
        assert_eq!(all, expected);
        let mut lines = Lines::new(&file(b"a\nb"), EVENT_BYTES_MAX).expect("opens");
        assert_eq!(lines.chunk(9, None, false).expect("reads").as_ref().map(count), Some(1));
        assert!(lines.chunk(9, None, false).expect("reads").is_none());
        assert_eq!(lines.position(), LineStart { line: 2, offset: 2 });
    }

    #[test]
    fn a_line_that_is_too_long_is_replaced_by_an_empty_one() {
        let mut content = b"a\n".to_vec();
        content.extend(std::iter::repeat_n(b'x', EVENT_BYTES_MAX + 1));
        content.extend(b"\nb\n");
        content.extend(std::iter::repeat_n(b'y', EVENT_BYTES_MAX));
        content.extend(b"\n");
        let mut lines = Lines::new(&file(&content), EVENT_BYTES_MAX).expect("opens");
        let chunk = lines.chunk(10, None, true).expect("reads").expect("a chunk");
        assert_eq!((count(&chunk), &chunk.bytes[..5]), (4, b"a\n\nb\n".as_slice()));
        assert_eq!(chunk.too_long, [(2, vec![b'x'; BEGINNING_BYTES])]);
        assert_eq!((chunk.line(3), chunk.line(4).len()), (b"b".as_slice(), EVENT_BYTES_MAX));
    }

    #[test]
    fn a_byte_order_mark_is_not_part_of_the_first_line() {
        assert_eq!(chunks(b"\xef\xbb\xbfa\n", 9), [(1, 1, b"a\n".to_vec())]);
        assert!(chunks(b"", 9).is_empty());
    }

    #[test]
    fn a_chunk_ends_at_the_same_size_as_on_the_server() {
        let line = [vec![b'x'; 1_000_000], b"\n".to_vec()].concat();
        let sizes: Vec<u64> = chunks(&line.repeat(7), 1_000).iter().map(|chunk| chunk.1).collect();
        assert_eq!(sizes, [5, 2]);
    }
}
