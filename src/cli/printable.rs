//! Text from outside, made safe for a terminal.

/// Escapes the control characters of `text`, so that text from outside cannot move the cursor or start a new line.
pub fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// Does the same for a text of several lines, and keeps its line breaks.
pub fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(printable("a\u{1b}[2J\nü"), "a\\u{1b}[2J\\nü");
        assert_eq!(printable_lines("a\u{1b}[2J\nü\r"), "a\\u{1b}[2J\nü\\r");
    }
}
