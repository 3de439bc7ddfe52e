//! Output on stdout: lines, and aligned columns for people. It is not an error if the reader closes stdout early
//! (`| head`).

use std::io::{BufWriter, ErrorKind, StdoutLock, Write};

use super::exit::Failure;

pub struct Output(BufWriter<StdoutLock<'static>>);

impl Output {
    pub fn stdout() -> Self {
        Self(BufWriter::new(std::io::stdout().lock()))
    }

    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.raw(text)?;
        self.raw("\n")
    }

    /// Writes text that contains its own line breaks.
    pub fn raw(&mut self, text: &str) -> Result<(), Failure> {
        self.0.write_all(text.as_bytes()).map_err(write_failure)
    }

    /// Writes the buffered text to stdout. Call it at the end, too: an error is lost if the buffer is only dropped.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.0.flush().map_err(write_failure)
    }
}

fn write_failure(error: std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::BrokenPipe => Failure::ReaderGone,
        _ => Failure::Failed(format!("cannot write to stdout: {error}")),
    }
}

/// Prints one line, or a text of several lines.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut output = Output::stdout();
    output.line(text.trim_end_matches('\n'))?;
    output.flush()
}

/// The alignment of a column: numbers are right-aligned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

/// Aligned columns under a heading, printed page by page, so that a long list does not have to fit into memory.
pub struct Columns<const N: usize> {
    heading: [(&'static str, Side); N],
    widths: [usize; N],
    heading_printed: bool,
}

impl<const N: usize> Columns<N> {
    pub fn new(heading: [(&'static str, Side); N]) -> Self {
        Self { heading, widths: heading.map(|(name, _)| name.len()), heading_printed: false }
    }

    /// Returns true if no row was printed.
    pub fn is_empty(&self) -> bool {
        !self.heading_printed
    }

    pub fn page(
        &mut self,
        output: &mut Output,
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> Result<(), Failure> {
        let rows: Vec<_> = rows.into_iter().map(|row| row.map(|cell| printable(&cell))).collect();
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        if !self.heading_printed && !rows.is_empty() {
            self.heading_printed = true;
            output.line(&self.aligned(&self.heading.map(|(name, _)| name.to_owned())))?;
        }
        rows.iter().try_for_each(|row| output.line(&self.aligned(row)))?;
        output.flush()
    }

    fn aligned(&self, row: &[String; N]) -> String {
        let mut line = String::new();
        for (index, cell) in row.iter().enumerate() {
            let width = self.widths[index];
            match self.heading[index].1 {
                Side::Left => line.push_str(&format!("{cell:<width$}  ")),
                Side::Right => line.push_str(&format!("{cell:>width$}  ")),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Escapes the control characters of `text`, so that text from outside cannot move the cursor or start a new line.
pub fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_control_characters_are_escaped() {
        let mut columns = Columns::new([("KEY", Side::Left), ("BALANCE", Side::Right), ("WHY", Side::Left)]);
        columns.widths = [6, 7, 3];
        let row = |cells: [&str; 3]| columns.aligned(&cells.map(str::to_owned));
        assert_eq!(row(["KEY", "BALANCE", "WHY"]), "KEY     BALANCE  WHY");
        assert_eq!(row(["user", "10.5", ""]), "user       10.5");
        assert_eq!(printable("a\u{1b}[2J\nü"), "a\\u{1b}[2J\\nü");
    }
}
