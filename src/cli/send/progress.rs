//! Progress of a transfer on stderr: a bar if stderr is a terminal and the size is known, and a line for each note. Stdout contains only
//! the summary.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

pub struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Shows a bar for a transfer of `bytes`. Without a size, there are only notes.
    pub fn new(bytes: Option<u64>) -> Self {
        let bar = bytes.filter(|_| std::io::stderr().is_terminal()).map(ProgressBar::new);
        let style =
            ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left");
        if let (Some(bar), Ok(style)) = (&bar, style) {
            bar.set_style(style);
        }
        Self { bar }
    }

    pub fn passed(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
    }

    pub fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("millrace: {text}")),
            None => eprintln!("millrace: {text}"),
        }
    }

    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
