//! The output of a command that shows a value again and again: in place on a terminal, one below the other elsewhere.

use std::io::IsTerminal;

use super::exit::Failure;
use super::output::Output;

/// The size of a terminal that does not tell it.
const COLUMNS_DEFAULT: usize = 80;
const ROWS_DEFAULT: usize = 24;

/// How values follow each other where they are not drawn in place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    Lines,
    /// Values of several lines, with an empty line between them.
    Blocks,
}

pub struct Redraw {
    layout: Layout,
    in_place: bool,
    /// The lines above the cursor that the next value replaces.
    lines_drawn: usize,
    has_shown: bool,
}

impl Redraw {
    /// Draws in place if stdout is a terminal and `in_place` is true.
    pub fn new(layout: Layout, in_place: bool) -> Self {
        let in_place = in_place && std::io::stdout().is_terminal();
        Self { layout, in_place, lines_drawn: 0, has_shown: false }
    }

    /// Shows a value in place of the last one, or below it.
    pub fn show(&mut self, text: &str) -> Result<(), Failure> {
        let mut output = Output::stdout();
        if self.in_place {
            let (frame, lines) = frame(text, self.lines_drawn, terminal_size());
            self.lines_drawn = lines;
            output.raw(&frame)?;
        } else {
            if self.has_shown && self.layout == Layout::Blocks {
                output.line("")?;
            }
            output.line(text.trim_end_matches('\n'))?;
        }
        self.has_shown = true;
        output.flush()
    }

    /// Prints a note on stderr. Returns whether it is on the terminal, so that the value has to be shown again below it.
    pub fn note(&mut self, text: &str) -> bool {
        eprintln!("millrace: {text}");
        let is_below = self.in_place && std::io::stderr().is_terminal();
        if is_below {
            self.lines_drawn = 0;
        }
        is_below
    }
}

/// Returns what draws `text` over the last `lines_drawn` lines, and its number of lines. Lines that would not fit on the
/// terminal are cut: the cursor could not move up to their beginning.
fn frame(text: &str, lines_drawn: usize, (columns, rows): (usize, usize)) -> (String, usize) {
    // Without wrapping, because a character may be wider than one column.
    let mut frame = "\x1b[?7l\r".to_owned();
    if lines_drawn > 0 {
        frame.push_str(&format!("\x1b[{lines_drawn}A"));
    }
    let lines: Vec<&str> = text.lines().collect();
    // The cursor is below the last line.
    let fitting = rows.saturating_sub(1).max(1);
    let hidden = if lines.len() > fitting { lines.len() - (fitting - 1) } else { 0 };
    let mut add = |line: &str| {
        frame.push_str("\x1b[2K");
        frame.extend(line.chars().take(columns));
        frame.push('\n');
    };
    let shown = &lines[..lines.len() - hidden];
    shown.iter().for_each(|line| add(line));
    if hidden > 0 {
        add(&format!("({hidden} more lines)"));
    }
    // The rest of the last value, and wrapping again.
    frame.push_str("\x1b[J\x1b[?7h");
    (frame, shown.len() + usize::from(hidden > 0))
}

/// Returns the columns and rows of the terminal.
fn terminal_size() -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    let known =
        |number: Option<u16>, default| number.filter(|number| *number > 0).map_or(default, usize::from);
    (known(size.map(|size| size.ws_col), COLUMNS_DEFAULT), known(size.map(|size| size.ws_row), ROWS_DEFAULT))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = "\x1b[?7l\r";
    const END: &str = "\x1b[J\x1b[?7h";

    #[test]
    fn a_frame_replaces_the_lines_of_the_last_one() {
        assert_eq!(frame("one\ntwo\n", 0, (80, 24)), (format!("{BEGIN}\x1b[2Kone\n\x1b[2Ktwo\n{END}"), 2));
        assert_eq!(frame("three", 2, (80, 24)), (format!("{BEGIN}\x1b[2A\x1b[2Kthree\n{END}"), 1));
        assert_eq!(frame("", 1, (80, 24)), (format!("{BEGIN}\x1b[1A{END}"), 0));
    }

    #[test]
    fn what_does_not_fit_on_the_terminal_is_cut() {
        assert_eq!(frame("zürich", 0, (3, 24)), (format!("{BEGIN}\x1b[2Kzür\n{END}"), 1));
        let expected = format!("{BEGIN}\x1b[2Ka\n\x1b[2K(3 more lines)\n{END}");
        assert_eq!(frame("a\nb\nc\nd", 0, (80, 3)), (expected, 2));
        assert_eq!(frame("a\nb", 0, (80, 3)).1, 2);
        assert_eq!(frame("a\nb", 0, (80, 1)), (format!("{BEGIN}\x1b[2K(2 more lines)\n{END}"), 1));
    }
}
