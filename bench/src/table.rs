//! The table of ratios, and the figures that they are made from.

use std::fmt::Write;

/// The target of a row that is only informative.
pub const NO_TARGET: &str = "none";

#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
    notes: Vec<String>,
    figures: Vec<String>,
}

pub struct Row {
    pub what: String,
    pub measured: String,
    pub target: String,
    pub met: bool,
}

/// The figures of several rounds, sorted.
#[derive(Clone, Debug, Default)]
pub struct Rounds {
    values: Vec<f64>,
}

impl Rounds {
    pub fn push(&mut self, value: f64) {
        self.values.push(value);
        self.values.sort_by(f64::total_cmp);
    }

    pub fn median(&self) -> f64 {
        let middle = self.values.len() / 2;
        match self.values.len() % 2 {
            _ if self.values.is_empty() => f64::NAN,
            0 => f64::midpoint(self.values[middle - 1], self.values[middle]),
            _ => self.values[middle],
        }
    }

    /// Returns median, minimum and maximum, in `unit`.
    fn text(&self, unit: &str) -> String {
        let ends =
            [self.values.first(), self.values.last()].map(|value| number(value.copied().unwrap_or(f64::NAN)));
        let [least, most] = ends;
        format!("{} {unit} ({least} to {most}, {} rounds)", number(self.median()), self.values.len())
    }
}

/// Formats a number with separators of thousands, or with two decimals if it is below 100.
pub fn number(value: f64) -> String {
    if value.abs() < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Table {
    pub fn row(&mut self, row: Row) {
        eprintln!(
            "   {}: {} (target {}){}",
            row.what,
            row.measured,
            row.target,
            if row.met { "" } else { "  MISSED" }
        );
        self.rows.push(row);
    }

    /// Adds a row whose target is a minimum ratio of two medians.
    pub fn ratio(&mut self, what: &str, ours: &Rounds, theirs: &Rounds, least: f64) {
        let ratio = ours.median() / theirs.median();
        self.row(Row {
            what: what.to_owned(),
            measured: format!("{ratio:.2}"),
            target: format!("at least {least:.2}"),
            met: ratio >= least,
        });
    }

    pub fn figure(&mut self, what: &str, rounds: &Rounds, unit: &str) {
        let text = format!("{what}: {}", rounds.text(unit));
        eprintln!("   {text}");
        self.figures.push(text);
    }

    /// Adds a description of the method of one part.
    pub fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    pub fn markdown(&self, machine: &str) -> String {
        let mut text = "# Benchmark results\n\n\
            `bench/run` writes this page. Each ratio compares medians of short rounds in which the\n\
            contestants take turns, so that all of them meet the same conditions. Absolute figures are\n\
            below, and they are valid for this machine only. Load generator and servers share its cores.\n\n\
            | what | measured | target | met |\n|---|---|---|---|\n"
            .to_owned();
        for row in &self.rows {
            let met = if row.target == NO_TARGET {
                "-"
            } else if row.met {
                "yes"
            } else {
                "**no**"
            };
            writeln!(text, "| {} | {} | {} | {met} |", row.what, row.measured, row.target)
                .expect("to memory");
        }
        for (title, lines) in [("Method", &self.notes), ("Figures", &self.figures)] {
            writeln!(text, "\n## {title}\n").expect("to memory");
            lines.iter().for_each(|line| writeln!(text, "- {line}").expect("to memory"));
        }
        writeln!(text, "\n## Machine\n\n{machine}").expect("to memory");
        text
    }
}
