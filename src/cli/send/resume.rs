//! Compares the runs of lines that the server has of an upload with the lines of the file. Does no I/O: the caller
//! passes the runs and lines in order.

use sha2::{Digest, Sha256};

use super::lines::LineStart;

/// Consecutive lines that the server accepted together, with their hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub first: u64,
    pub lines: u64,
    pub hash: [u8; 8],
}

/// Lines that still have to be sent. The last gap of a file has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub begin: LineStart,
    pub until: Option<u64>,
}

/// The result of the comparison.
#[derive(Debug, Default)]
pub struct Resume {
    pub matching_lines: u64,
    pub mismatched_lines: u64,
    /// The first line of the first run that does not match the file.
    pub first_mismatch: Option<u64>,
    pub gaps: Vec<Gap>,
    /// The start of the last run, and its number of lines.
    pub last: Option<(LineStart, u64)>,
    /// The numbers and the present text of lines that were sent before they were complete.
    pub changed: Vec<(u64, Vec<u8>)>,
    open_gap: Option<LineStart>,
    active: Vec<ActiveRun>,
}

/// A run whose lines are being read.
#[derive(Debug)]
struct ActiveRun {
    run: Run,
    hash: Sha256,
    /// White space that is hashed only if text follows, because the server trims the end of a run.
    blanks: Vec<u8>,
}

impl Resume {
    /// Starts to compare a run that begins at `position`.
    pub fn begin(&mut self, run: Run, position: LineStart) {
        self.last = Some((position, run.lines));
        self.active.push(ActiveRun { run, hash: Sha256::new(), blanks: Vec::new() });
    }

    /// Returns true if a run covers the next line.
    pub fn covers_next(&self) -> bool {
        !self.active.is_empty()
    }

    /// Begins or ends a gap at `position`, the start of the next line.
    pub fn reach(&mut self, position: LineStart) {
        match (self.covers_next(), self.open_gap) {
            (false, None) => self.open_gap = Some(position),
            (true, Some(begin)) => {
                self.gaps.push(Gap { begin, until: Some(position.line) });
                self.open_gap = None;
            }
            _ => {}
        }
    }

    /// Adds the line `number` to all runs that cover it.
    pub fn line(&mut self, number: u64, bytes: &[u8]) {
        for active_run in &mut self.active {
            active_run.add(bytes);
        }
        let (done, active) = self
            .active
            .drain(..)
            .partition(|active_run| active_run.run.first + active_run.run.lines == number + 1);
        self.active = active;
        for active_run in Vec::into_iter(done) {
            let run = active_run.run;
            if active_run.hash.finalize()[..8] == run.hash {
                self.matching_lines += run.lines;
            } else if run.lines == 1 && begins_with(bytes, run.hash) {
                self.matching_lines += 1;
                self.changed.push((number, bytes.trim_ascii_end().to_vec()));
            } else {
                self.mismatch(run);
            }
        }
    }

    /// Records a run that is not in the file.
    pub fn mismatch(&mut self, run: Run) {
        self.mismatched_lines += run.lines;
        self.first_mismatch.get_or_insert(run.first);
    }

    /// Ends the comparison at `position`, the end of the file or of the known runs.
    pub fn end(&mut self, position: LineStart) {
        for active_run in std::mem::take(&mut self.active) {
            self.mismatch(active_run.run);
        }
        self.reach(position);
        if let Some(begin) = self.open_gap.take() {
            self.gaps.push(Gap { begin, until: None });
        }
    }
}

impl ActiveRun {
    fn add(&mut self, line: &[u8]) {
        let text = line.trim_ascii_end();
        if !text.is_empty() {
            self.hash.update(&self.blanks);
            self.hash.update(text);
            self.blanks.clear();
        }
        self.blanks.extend_from_slice(&line[text.len()..]);
    }
}

/// Returns true if a beginning of `line` has this hash: the line was sent before its writer had completed it. The
/// beginning was accepted as an event, so it ended with a brace.
fn begins_with(line: &[u8], hash: [u8; 8]) -> bool {
    let (mut digest, mut hashed) = (Sha256::new(), 0);
    for at in memchr::memchr_iter(b'}', line) {
        digest.update(&line[hashed..=at]);
        hashed = at + 1;
        if digest.clone().finalize()[..8] == hash {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(bytes: &[u8]) -> [u8; 8] {
        event::BodyHash::of(bytes.trim_ascii_end()).0
    }

    fn run(first: u64, lines: u64, bytes: &[u8]) -> Run {
        Run { first, lines, hash: hash(bytes) }
    }

    fn compare(runs: &[Run], content: &[u8]) -> Resume {
        let mut resume = Resume::default();
        let mut position = LineStart { line: 1, offset: 0 };
        let mut runs = runs.iter().copied().peekable();
        for line in content.split_inclusive(|byte| *byte == b'\n') {
            while let Some(run) = runs.next_if(|run| run.first == position.line) {
                resume.begin(run, position);
            }
            resume.reach(position);
            resume.line(position.line, line);
            position = LineStart { line: position.line + 1, offset: position.offset + line.len() as u64 };
        }
        runs.for_each(|run| resume.mismatch(run));
        resume.end(position);
        resume
    }

    fn gaps(resume: &Resume) -> Vec<(u64, Option<u64>)> {
        resume.gaps.iter().map(|gap| (gap.begin.line, gap.until)).collect()
    }

    #[test]
    fn lines_that_no_run_covers_are_gaps() {
        let content = b"a\r\nb\n\nd\ne\nf";
        let known =
            compare(&[run(1, 2, b"a\r\nb"), run(2, 3, b"b\n\nd\n"), run(4, 1, b"d")], b"a\r\nb\n\nd\ne\nf\n");
        assert_eq!((known.matching_lines, known.first_mismatch, gaps(&known)), (6, None, vec![(5, None)]));
        let holes = compare(&[run(2, 1, b"b"), run(4, 2, b"d\ne")], content);
        assert_eq!(gaps(&holes), [(1, Some(2)), (3, Some(4)), (6, None)]);
        assert_eq!(holes.last, Some((LineStart { line: 4, offset: 6 }, 2)));
        let all = compare(&[run(1, 6, content)], content);
        assert_eq!((gaps(&all), all.matching_lines), (vec![(7, None)], 6));
    }

    #[test]
    fn changed_lines_and_missing_lines_are_mismatches() {
        let other = compare(&[run(1, 2, b"a\nb"), run(3, 1, b"c")], b"a\nx\nc\n");
        assert_eq!((other.matching_lines, other.mismatched_lines, other.first_mismatch), (1, 2, Some(1)));
        let shorter = compare(&[run(1, 1, b"a"), run(2, 2, b"b\nc")], b"a\nb\n");
        assert_eq!((shorter.matching_lines, shorter.first_mismatch), (1, Some(2)));
    }

    #[test]
    fn a_line_that_was_completed_later_is_not_a_mismatch() {
        let completed = compare(&[run(1, 1, b"a"), run(2, 1, b"{\"v\":{}}")], b"a\n{\"v\":{}}  \n");
        assert_eq!((completed.first_mismatch, completed.changed.len()), (None, 0));
        let changed = compare(&[run(1, 1, b"a"), run(2, 1, b"{\"v\":{}}")], b"a\n{\"v\":{}}, x\nb\n");
        assert_eq!((changed.first_mismatch, gaps(&changed)), (None, vec![(3, None)]));
        assert_eq!(changed.changed, [(2, b"{\"v\":{}}, x".to_vec())]);
    }
}
