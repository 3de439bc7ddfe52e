//! Whether the runs that a server has of a source are lines of this file: pure, fed with runs and lines
//! in order.

use sha2::{Digest, Sha256};

use super::lines::Place;

/// Lines that a server took together, and the hash of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub first: u64,
    pub lines: u64,
    pub hash: [u8; 8],
}

/// Lines that are still to be sent; the last gap of a file is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub begin: Place,
    pub until: Option<u64>,
}

/// What has become of a file, line for line, as far as runs of it are known.
#[derive(Debug, Default)]
pub struct Resume {
    pub fitting_lines: u64,
    pub misfitting_lines: u64,
    /// The first line of the first run that does not fit.
    pub misfit_at: Option<u64>,
    pub gaps: Vec<Gap>,
    /// Where the last run begins, and its lines.
    pub last: Option<(Place, u64)>,
    /// Lines that were sent before they were complete, as they are now.
    pub changed: Vec<(u64, Vec<u8>)>,
    open_gap: Option<Place>,
    active: Vec<Tracing>,
}

/// A run whose lines are passing by.
#[derive(Debug)]
struct Tracing {
    run: Run,
    hash: Sha256,
    /// Blanks that count only if something follows them: the server trims the end of a run.
    blanks: Vec<u8>,
}

impl Resume {
    /// A run begins at `place`.
    pub fn begin(&mut self, run: Run, place: Place) {
        self.last = Some((place, run.lines));
        self.active.push(Tracing { run, hash: Sha256::new(), blanks: Vec::new() });
    }

    /// Whether a run covers the next line.
    pub fn covers_next(&self) -> bool {
        !self.active.is_empty()
    }

    /// Notes whether the line that begins at `place` is still to be sent.
    pub fn reach(&mut self, place: Place) {
        match (self.covers_next(), self.open_gap) {
            (false, None) => self.open_gap = Some(place),
            (true, Some(begin)) => {
                self.gaps.push(Gap { begin, until: Some(place.line) });
                self.open_gap = None;
            }
            _ => {}
        }
    }

    /// The line `number` passes by.
    pub fn line(&mut self, number: u64, bytes: &[u8]) {
        for tracing in &mut self.active {
            tracing.add(bytes);
        }
        let (done, active) =
            self.active.drain(..).partition(|tracing| tracing.run.first + tracing.run.lines == number + 1);
        self.active = active;
        for tracing in Vec::into_iter(done) {
            let run = tracing.run;
            if tracing.hash.finalize()[..8] == run.hash {
                self.fitting_lines += run.lines;
            } else if run.lines == 1 && begins_with(bytes, run.hash) {
                self.fitting_lines += 1;
                self.changed.push((number, bytes.trim_ascii_end().to_vec()));
            } else {
                self.misfit(run);
            }
        }
    }

    /// The file has ended before the known runs have, or a run is none.
    pub fn misfit(&mut self, run: Run) {
        self.misfitting_lines += run.lines;
        self.misfit_at.get_or_insert(run.first);
    }

    /// Ends at `place`, the end of the file or of the known runs.
    pub fn end(&mut self, place: Place) {
        for tracing in std::mem::take(&mut self.active) {
            self.misfit(tracing.run);
        }
        self.reach(place);
        if let Some(begin) = self.open_gap.take() {
            self.gaps.push(Gap { begin, until: None });
        }
    }
}

impl Tracing {
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

/// Whether a line that was sent with this hash was a beginning of the present one: its writer had not
/// finished it. What was taken of it is an event, so it ended with a brace.
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

    fn fit(runs: &[Run], content: &[u8]) -> Resume {
        let mut fit = Resume::default();
        let mut place = Place { line: 1, offset: 0 };
        let mut runs = runs.iter().copied().peekable();
        for line in content.split_inclusive(|byte| *byte == b'\n') {
            while let Some(run) = runs.next_if(|run| run.first == place.line) {
                fit.begin(run, place);
            }
            fit.reach(place);
            fit.line(place.line, line);
            place = Place { line: place.line + 1, offset: place.offset + line.len() as u64 };
        }
        runs.for_each(|run| fit.misfit(run));
        fit.end(place);
        fit
    }

    fn gaps(fit: &Resume) -> Vec<(u64, Option<u64>)> {
        fit.gaps.iter().map(|gap| (gap.begin.line, gap.until)).collect()
    }

    #[test]
    fn lines_that_no_run_covers_are_gaps() {
        let content = b"a\r\nb\n\nd\ne\nf";
        let known =
            fit(&[run(1, 2, b"a\r\nb"), run(2, 3, b"b\n\nd\n"), run(4, 1, b"d")], b"a\r\nb\n\nd\ne\nf\n");
        assert_eq!((known.fitting_lines, known.misfit_at, gaps(&known)), (6, None, vec![(5, None)]));
        let holes = fit(&[run(2, 1, b"b"), run(4, 2, b"d\ne")], content);
        assert_eq!(gaps(&holes), [(1, Some(2)), (3, Some(4)), (6, None)]);
        assert_eq!(holes.last, Some((Place { line: 4, offset: 6 }, 2)));
        let all = fit(&[run(1, 6, content)], content);
        assert_eq!((gaps(&all), all.fitting_lines), (vec![(7, None)], 6));
    }

    #[test]
    fn other_content_is_told_apart_and_so_is_a_shorter_file() {
        let other = fit(&[run(1, 2, b"a\nb"), run(3, 1, b"c")], b"a\nx\nc\n");
        assert_eq!((other.fitting_lines, other.misfitting_lines, other.misfit_at), (1, 2, Some(1)));
        let shorter = fit(&[run(1, 1, b"a"), run(2, 2, b"b\nc")], b"a\nb\n");
        assert_eq!((shorter.fitting_lines, shorter.misfit_at), (1, Some(2)));
    }

    #[test]
    fn a_line_that_was_completed_since_is_not_other_content() {
        let completed = fit(&[run(1, 1, b"a"), run(2, 1, b"{\"v\":{}}")], b"a\n{\"v\":{}}  \n");
        assert_eq!((completed.misfit_at, completed.changed.len()), (None, 0));
        let changed = fit(&[run(1, 1, b"a"), run(2, 1, b"{\"v\":{}}")], b"a\n{\"v\":{}}, x\nb\n");
        assert_eq!((changed.misfit_at, gaps(&changed)), (None, vec![(3, None)]));
        assert_eq!(changed.changed, [(2, b"{\"v\":{}}, x".to_vec())]);
    }
}
