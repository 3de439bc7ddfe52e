//! What commands print: lines on stdout, and aligned columns for people. Whoever reads may stop reading
//! (`| head`), which is no error.

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

    /// Text that ends its own lines.
    pub fn raw(&mut self, text: &str) -> Result<(), Failure> {
        self.0.write_all(text.as_bytes()).map_err(unwritten)
    }

    /// Shows what was printed so far. Needed at the end too: only here does an error show.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.0.flush().map_err(unwritten)
    }
}

fn unwritten(error: std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::BrokenPipe => Failure::ReaderGone,
        _ => Failure::Failed(format!("stdout cannot be written: {error}")),
    }
}

/// Prints one line, or a text of several.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut output = Output::stdout();
    output.line(text.trim_end_matches('\n'))?;
    output.flush()
}

/// How a column lies: numbers to the right.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Left,
    Right,
}

/// Aligned columns under a heading, given out page by page so that a long list needs no memory.
pub struct Columns<const N: usize> {
    heading: [(&'static str, Side); N],
    widths: [usize; N],
    begun: bool,
}

impl<const N: usize> Columns<N> {
    pub fn new(heading: [(&'static str, Side); N]) -> Self {
        Self { heading, widths: heading.map(|(name, _)| name.len()), begun: false }
    }

    /// Whether no page has held anything.
    pub fn is_empty(&self) -> bool {
        !self.begun
    }

    pub fn page(&mut self, output: &mut Output, rows: &[[String; N]]) -> Result<(), Failure> {
        let rows: Vec<[String; N]> =
            rows.iter().map(|row| row.each_ref().map(|cell| harmless(cell))).collect();
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        if !self.begun && !rows.is_empty() {
            self.begun = true;
            output.line(&self.laid_out(&self.heading.map(|(name, _)| name.to_owned())))?;
        }
        rows.iter().try_for_each(|row| output.line(&self.laid_out(row)))?;
        output.flush()
    }

    fn laid_out(&self, row: &[String; N]) -> String {
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

/// Text from outside as a terminal may see it: nothing that moves the cursor or starts a new line.
pub fn harmless(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_keep_the_terminal_as_it_is() {
        let mut columns = Columns::new([("KEY", Side::Left), ("BALANCE", Side::Right), ("WHY", Side::Left)]);
        columns.widths = [6, 7, 3];
        let row = |cells: [&str; 3]| columns.laid_out(&cells.map(str::to_owned));
        assert_eq!(row(["KEY", "BALANCE", "WHY"]), "KEY     BALANCE  WHY");
        assert_eq!(row(["user", "10.5", ""]), "user       10.5");
        assert_eq!(harmless("a\u{1b}[2J\nü"), "a\\u{1b}[2J\\nü");
    }
}
