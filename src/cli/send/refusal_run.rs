//! Counts refused lines in a row. Many of them mean that the file belongs to another stream, so the command stops.

use super::lines::Chunk;
use super::rejected::RejectedLine;

/// The number of refused lines in a row after which a command stops.
pub const REFUSALS_IN_A_ROW_MAX: u64 = 1_000;

#[derive(Debug, Default)]
pub struct RefusalRun {
    count: u64,
}

impl RefusalRun {
    /// Adds a chunk and its refused lines, which are in order. Returns true if enough lines in a row were refused, in
    /// this chunk or at its beginning together with earlier ones. Blank lines are neither accepted nor refused.
    pub fn add(&mut self, chunk: &Chunk, refused: &[RejectedLine]) -> bool {
        if refused.is_empty() {
            if !chunk.is_blank() {
                self.count = 0;
            }
            return false;
        }
        let mut refused = refused.iter().map(|line| line.line).peekable();
        let mut reached = false;
        for (number, line) in (chunk.first..).zip(chunk.bytes.split(|byte| *byte == b'\n')) {
            if refused.next_if_eq(&number).is_some() {
                self.count += 1;
                reached |= self.count >= REFUSALS_IN_A_ROW_MAX;
            } else if !line.trim_ascii().is_empty() {
                self.count = 0;
            }
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// Adds lines: `x` is refused, `.` is accepted, and a space is blank.
    fn add(run: &mut RefusalRun, first: u64, lines: &str) -> bool {
        let bytes: String = lines.chars().flat_map(|line| [line, '\n']).collect();
        let refused = (first..).zip(lines.chars()).filter(|(_, line)| *line == 'x');
        let line = |line| RejectedLine { line, reason: String::new(), text: String::new() };
        let refused: Vec<RejectedLine> = refused.map(|(number, _)| line(number)).collect();
        let chunk = Chunk { first, bytes: Bytes::from(bytes), too_long: Vec::new() };
        run.add(&chunk, &refused)
    }

    #[test]
    fn a_run_goes_over_blank_lines_and_chunks_and_ends_at_an_accepted_line() {
        let mut run = RefusalRun::default();
        assert!(!add(&mut run, 1, &"x".repeat(999)));
        assert!(!add(&mut run, 1_000, "  "));
        assert!(!add(&mut run, 1_002, "."));
        assert!(!add(&mut run, 1_003, &(".".to_owned() + &"x".repeat(999))));
        assert!(add(&mut run, 2_003, " x."));
        assert_eq!(run.count, 0);
        assert!(!add(&mut run, 2_006, &"x.".repeat(1_000)));
    }
}
