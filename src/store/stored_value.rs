//! What a column keeps of what it was given: somebody's own table may keep less than ours do.

use super::tables::{Cell, ColumnKind};

impl ColumnKind {
    /// Whether a cell holds what was put there: times may be cut off at seconds, JSON kept by its value.
    pub fn keeps(self, has: &Cell, given: &Cell) -> bool {
        match (self, has, given) {
            (Self::Time, Cell::Time(has), Cell::Time(given)) => {
                [1, 10, 100, 1_000].iter().any(|unit| has.0 == given.0 - given.0.rem_euclid(*unit))
            }
            (Self::Json, Cell::Text(has), Cell::Text(given)) if has != given => {
                let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
                value(has).is_some_and(|has| value(given) == Some(has))
            }
            _ => has == given,
        }
    }
}

#[cfg(test)]
mod tests {
    use event::Millis;

    use super::*;

    #[test]
    fn times_may_be_cut_off_and_never_rounded_up() {
        let keeps = |has, given| ColumnKind::Time.keeps(&Cell::Time(Millis(has)), &Cell::Time(Millis(given)));
        for (has, given) in [(1_999, 1_999), (1_990, 1_999), (1_000, 1_999), (-1_000, -1)] {
            assert!(keeps(has, given), "{has} of {given}");
        }
        for (has, given) in [(2_000, 1_999), (1_998, 1_999), (0, 1_999), (0, -1)] {
            assert!(!keeps(has, given), "{has} of {given}");
        }
    }

    #[test]
    fn json_may_be_kept_by_its_value_and_nothing_else_may() {
        let text = |text: &str| Cell::Text(text.to_owned());
        let (short, spaced) = (text(r#"{"a":1,"b":[2]}"#), text(r#"{"b": [2], "a": 1}"#));
        assert!(ColumnKind::Json.keeps(&spaced, &short));
        assert!(!ColumnKind::Json.keeps(&text(r#"{"a":1}"#), &short));
        assert!(!ColumnKind::Json.keeps(&Cell::Null, &short));
        assert!(!ColumnKind::LongText.keeps(&spaced, &short));
        assert!(ColumnKind::Integer.keeps(&Cell::Null, &Cell::Null));
    }
}
