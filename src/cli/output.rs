//! Output on stdout: lines, and aligned columns for people. It is not an error if the reader closes stdout early
//! (`| head`).

use std::io::{BufWriter, ErrorKind, StdoutLock, Write};
use std::time::Duration;

use clap::Args;

use super::exit::Failure;
use super::printable::printable;

/// `--json` of a command that prints one thing.
#[derive(Args)]
pub struct JsonDocument {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `--json` of a command that prints a list, which may be too long for memory.
#[derive(Args)]
pub struct JsonLines {
    /// Print JSON Lines: one JSON object per line
    #[arg(long)]
    pub json: bool,
}

/// `--json` of a command whose output is always JSON Lines, so that the option can be given to every command.
#[derive(Args, Default)]
pub struct AlwaysJsonLines {
    /// Print JSON Lines; the output always has this form, with or without the option
    #[arg(long)]
    json: bool,
}

pub struct Output<W: Write = BufWriter<StdoutLock<'static>>>(W);

impl Output {
    pub fn stdout() -> Self {
        Self(BufWriter::new(std::io::stdout().lock()))
    }
}

impl Output<Vec<u8>> {
    /// Returns the text that `write` writes.
    pub fn text(write: impl FnOnce(&mut Self) -> Result<(), Failure>) -> Result<String, Failure> {
        let mut output = Self(Vec::new());
        write(&mut output)?;
        Ok(String::from_utf8_lossy(&output.0).into_owned())
    }
}

impl<W: Write> Output<W> {
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
pub struct Columns {
    heading: Vec<(String, Side)>,
    widths: Vec<usize>,
    heading_printed: bool,
}

impl Columns {
    pub fn new<S: Into<String>>(heading: impl IntoIterator<Item = (S, Side)>) -> Self {
        let heading: Vec<(String, Side)> =
            heading.into_iter().map(|(name, side)| (name.into(), side)).collect();
        let widths = heading.iter().map(|(name, _)| name.chars().count()).collect();
        Self { heading, widths, heading_printed: false }
    }

    /// Returns columns that are all aligned to the left.
    pub fn left<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Self::new(names.into_iter().map(|name| (name, Side::Left)))
    }

    /// Returns true if no row was printed.
    pub fn is_empty(&self) -> bool {
        !self.heading_printed
    }

    /// Prints rows, each with a cell for every column. The first rows are printed under the heading.
    pub fn page<R: IntoIterator<Item = String>>(
        &mut self,
        output: &mut Output<impl Write>,
        rows: impl IntoIterator<Item = R>,
    ) -> Result<(), Failure> {
        let printable = |row: R| row.into_iter().map(|cell| printable(&cell)).collect();
        let rows: Vec<Vec<String>> = rows.into_iter().map(printable).collect();
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        if !self.heading_printed && !rows.is_empty() {
            self.heading_printed = true;
            let heading: Vec<String> = self.heading.iter().map(|(name, _)| name.clone()).collect();
            output.line(&self.aligned(&heading))?;
        }
        rows.iter().try_for_each(|row| output.line(&self.aligned(row)))?;
        output.flush()
    }

    fn aligned(&self, row: &[String]) -> String {
        let mut line = String::new();
        for ((cell, width), (_, side)) in row.iter().zip(&self.widths).zip(&self.heading) {
            match side {
                Side::Left => line.push_str(&format!("{cell:<width$}  ")),
                Side::Right => line.push_str(&format!("{cell:>width$}  ")),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Prints properties of one thing, a line for each, with aligned values.
pub fn print_properties(lines: &[(&str, String)]) -> Result<(), Failure> {
    let mut output = Output::stdout();
    properties(&mut output, lines)?;
    output.flush()
}

/// Writes such lines to `output`.
pub fn properties(output: &mut Output, lines: &[(&str, String)]) -> Result<(), Failure> {
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    lines
        .iter()
        .try_for_each(|(name, value)| output.line(format!("{name:<width$}  {}", printable(value)).trim_end()))
}

/// Returns a count with its noun: `1 line`, `2 lines`.
pub fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Returns a number of bytes for people: `512 bytes`, `12.3 MiB`.
pub fn bytes_text(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut size, mut unit) = (bytes as f64, None);
    for name in units {
        if size < 1_024.0 {
            break;
        }
        (size, unit) = (size / 1_024.0, Some(name));
    }
    unit.map_or_else(|| counted(bytes, "byte"), |unit| format!("{size:.1} {unit}"))
}

/// Returns a duration for people, with its two largest units: `3 d 4 h`, `12 s`.
pub fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let first = parts.iter().position(|(number, _)| *number > 0).unwrap_or(parts.len() - 1);
    let shown = parts[first..].iter().take(2).filter(|(number, _)| *number > 0 || seconds == 0);
    shown.map(|(number, unit)| format!("{number} {unit}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut columns = Columns::new([("KEY", Side::Left), ("BALANCE", Side::Right), ("WHY", Side::Left)]);
        columns.widths = vec![6, 7, 3];
        let row = |cells: [&str; 3]| columns.aligned(&cells.map(str::to_owned));
        assert_eq!(row(["KEY", "BALANCE", "WHY"]), "KEY     BALANCE  WHY");
        assert_eq!(row(["user", "10.5", ""]), "user       10.5");
    }

    #[test]
    fn counts_sizes_and_durations_read_like_text() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "line")), ["0 lines", "1 line", "2 lines"]);
        let sizes = [0, 1, 1_023, 1_024, 1_536, 5 << 30, u64::MAX].map(bytes_text);
        assert_eq!(sizes, ["0 bytes", "1 byte", "1023 bytes", "1.0 KiB", "1.5 KiB", "5.0 GiB", "16.0 EiB"]);
        let seconds =
            [0, 59, 60, 3_601, 90_061, 86_400].map(|seconds| duration_text(Duration::from_secs(seconds)));
        assert_eq!(seconds, ["0 s", "59 s", "1 min", "1 h", "1 d 1 h", "1 d"]);
    }
}
