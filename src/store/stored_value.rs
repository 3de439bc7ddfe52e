//! Compares stored values with written ones. A user's own table may store values less exactly than millrace's tables
//! do.

use super::cell::Cell;
use super::tables::ColumnKind;

impl ColumnKind {
    /// Returns whether `stored` is the value `written` as a column of this kind keeps it. Times may be truncated, at
    /// most to seconds. JSON text may change as long as its value is the same.
    pub fn keeps(self, stored: &Cell, written: &Cell) -> bool {
        match (self, stored, written) {
            (Self::Time, Cell::Time(stored), Cell::Time(written)) => {
                [1, 10, 100, 1_000].iter().any(|unit| stored.0 == written.0 - written.0.rem_euclid(*unit))
            }
            (Self::Json, Cell::Text(stored), Cell::Text(written)) if stored != written => {
                let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
                value(stored).is_some_and(|stored| value(written) == Some(stored))
            }
            _ => stored == written,
        }
    }
}

#[cfg(test)]
mod tests {
    use event::Millis;

    use super::*;

    #[test]
    fn times_may_be_truncated_but_never_rounded_up() {
        let keeps = |stored, written| {
            ColumnKind::Time.keeps(&Cell::Time(Millis(stored)), &Cell::Time(Millis(written)))
        };
        for (stored, written) in [(1_999, 1_999), (1_990, 1_999), (1_000, 1_999), (-1_000, -1)] {
            assert!(keeps(stored, written), "{stored} of {written}");
        }
        for (stored, written) in [(2_000, 1_999), (1_998, 1_999), (0, 1_999), (0, -1)] {
            assert!(!keeps(stored, written), "{stored} of {written}");
        }
    }

    #[test]
    fn only_json_may_be_stored_with_a_different_text() {
        let text = |text: &str| Cell::Text(text.to_owned());
        let (short, spaced) = (text(r#"{"a":1,"b":[2]}"#), text(r#"{"b": [2], "a": 1}"#));
        assert!(ColumnKind::Json.keeps(&spaced, &short));
        assert!(!ColumnKind::Json.keeps(&text(r#"{"a":1}"#), &short));
        assert!(!ColumnKind::Json.keeps(&Cell::Null, &short));
        assert!(!ColumnKind::LongText.keeps(&spaced, &short));
        assert!(ColumnKind::Integer.keeps(&Cell::Null, &Cell::Null));
    }
}
