//! Filters: conditions on the fields of an event. All conditions of a filter must hold. A field that is missing meets
//! only `present = false` and `not`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::limits::FILTER_VALUES_MAX;
use super::{Decimal, Fields, Kind, Millis, Value, suggestion};

/// A filter as it is written: fields, each with its condition, such as `{ sort = ["a", "b"], sum = { at_least = 1 } }`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FilterSection(BTreeMap<String, Json>);

/// A filter on events with certain fields.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    written: FilterSection,
    fields: Vec<usize>,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug)]
enum Condition {
    OneOf(Vec<Literal>),
    Not(Vec<Literal>),
    Range { at_least: Option<Literal>, below: Option<Literal> },
    Present(bool),
}

#[derive(Clone, Debug, PartialEq, PartialOrd)]
enum Literal {
    Text(String),
    Number(Decimal),
    Boolean(bool),
    Time(Millis),
}

impl FilterSection {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Builds the filter for events with these fields. Fails with the path and the reason of each error.
    pub fn build(&self, stream: &str, fields: &Fields) -> Result<Filter, Vec<(String, String)>> {
        let mut filter = Filter { written: self.clone(), ..Filter::default() };
        let mut errors = Vec::new();
        for (name, written) in &self.0 {
            let Some(index) = fields.index_of(name) else {
                let names = suggestion(name, "fields", fields.iter().map(|field| field.name.as_str()));
                let reason =
                    format!("compares field `{name}`, which stream `{stream}` does not declare{names}");
                errors.push((name.clone(), reason));
                continue;
            };
            match condition(written, fields.get(index).kind) {
                Ok(condition) => {
                    filter.fields.push(index);
                    filter.conditions.push(condition);
                }
                Err(reason) => errors.push((name.clone(), format!("compares field `{name}` {reason}"))),
            }
        }
        if errors.is_empty() { Ok(filter) } else { Err(errors) }
    }
}

impl Filter {
    /// Returns the filter as it is written.
    pub fn written(&self) -> &FilterSection {
        &self.written
    }

    /// Returns the fields that the filter reads.
    pub fn fields(&self) -> &[usize] {
        &self.fields
    }

    /// Returns whether an event matches whose values of `fields()` are `values`, in that order.
    pub fn matches(&self, values: &[Value<'_>]) -> bool {
        self.conditions.iter().zip(values).all(|(condition, value)| condition.holds(value))
    }
}

impl Condition {
    fn holds(&self, value: &Value<'_>) -> bool {
        match (self, value) {
            (Self::Present(present), value) => *present != matches!(value, Value::Absent),
            (Self::Not(_), Value::Absent) => true,
            (_, Value::Absent) => false,
            (Self::OneOf(literals), value) => {
                literal_of(value).is_some_and(|value| literals.contains(&value))
            }
            (Self::Not(literals), value) => !literal_of(value).is_some_and(|value| literals.contains(&value)),
            (Self::Range { at_least, below }, value) => literal_of(value).is_some_and(|value| {
                at_least.as_ref().is_none_or(|bound| value >= *bound)
                    && below.as_ref().is_none_or(|bound| value < *bound)
            }),
        }
    }
}

fn literal_of(value: &Value<'_>) -> Option<Literal> {
    Some(match value {
        Value::Text(text) => Literal::Text(text.to_string()),
        Value::Integer(number) => Literal::Number(number.to_string().parse().ok()?),
        Value::Decimal(number) => Literal::Number(*number),
        Value::Boolean(truth) => Literal::Boolean(*truth),
        Value::Time(time) => Literal::Time(*time),
        Value::Absent | Value::Any(_) => return None,
    })
}

fn condition(written: &Json, kind: Kind) -> Result<Condition, String> {
    let Json::Object(settings) = written else { return Ok(Condition::OneOf(literals(written, kind)?)) };
    let names = || settings.keys().map(String::as_str).collect::<Vec<_>>();
    match names()[..] {
        ["not"] => Ok(Condition::Not(literals(&settings["not"], kind)?)),
        ["present"] => match settings["present"] {
            Json::Bool(present) => Ok(Condition::Present(present)),
            _ => Err("with `present`, which must be true or false".to_owned()),
        },
        ["at_least" | "below"] | ["at_least", "below"] => {
            if !matches!(kind, Kind::Integer { .. } | Kind::Decimal { .. } | Kind::Time) {
                return Err("with a range, but it is neither a number nor a time".to_owned());
            }
            let bound = |name| settings.get(name).map(|bound| literal(bound, kind)).transpose();
            let (at_least, below) = (bound("at_least")?, bound("below")?);
            if let (Some(at_least), Some(below)) = (&at_least, &below)
                && at_least >= below
            {
                return Err("with a range that contains nothing".to_owned());
            }
            Ok(Condition::Range { at_least, below })
        }
        _ => Err("with a condition that is not a value, a list of values, `{ not = ... }`, \
                  `{ at_least = ..., below = ... }` or `{ present = true }`"
            .to_owned()),
    }
}

fn literals(written: &Json, kind: Kind) -> Result<Vec<Literal>, String> {
    match written {
        Json::Array(list) if list.is_empty() => Err("with an empty list".to_owned()),
        Json::Array(list) if list.len() > FILTER_VALUES_MAX => {
            Err(format!("with more than {FILTER_VALUES_MAX} values"))
        }
        Json::Array(list) => list.iter().map(|one| literal(one, kind)).collect(),
        one => Ok(vec![literal(one, kind)?]),
    }
}

fn literal(written: &Json, kind: Kind) -> Result<Literal, String> {
    match (kind, written) {
        (Kind::Text { .. }, Json::String(text)) => Ok(Literal::Text(text.clone())),
        (Kind::Integer { .. } | Kind::Decimal { .. }, Json::Number(number)) => {
            let number =
                number.to_string().parse().map_err(|error| format!("with {number}, which {error}"))?;
            Ok(Literal::Number(number))
        }
        (Kind::Time, Json::String(text)) => {
            text.parse().map(Literal::Time).map_err(|_| format!("with `{text}`, which is not a time"))
        }
        (Kind::Boolean, Json::Bool(truth)) => Ok(Literal::Boolean(*truth)),
        (Kind::Any, _) => Err("of type \"any\", which only `{ present = true }` can ask for".to_owned()),
        (kind, written) => {
            let wanted = match kind {
                Kind::Text { .. } => "text",
                Kind::Integer { .. } | Kind::Decimal { .. } => "a number",
                Kind::Time => "a time in quotes",
                Kind::Boolean | Kind::Any => "true or false",
            };
            Err(format!("with {written}, but its values are {wanted}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Field;

    fn fields() -> Fields {
        let field =
            |name: &str, kind| Field { name: name.to_owned(), kind, required: false, one_of: Vec::new() };
        let list = vec![
            field("sort", Kind::text(20)),
            field("sum", Kind::AMOUNT),
            field("count", Kind::Integer { min: i64::MIN, max: i64::MAX }),
            field("at", Kind::Time),
            field("paid", Kind::Boolean),
            field("more", Kind::Any),
        ];
        Fields::new(list, 0)
    }

    fn build(written: &str) -> Result<Filter, String> {
        let section: FilterSection = serde_json::from_str(written).expect("JSON");
        section.build("orders", &fields()).map_err(|errors| errors[0].1.clone())
    }

    fn matches(written: &str, event: &str) -> bool {
        let (filter, fields, mut values) = (build(written).expect(written), fields(), Vec::new());
        fields.read(event, filter.fields(), &mut values).expect(event);
        filter.matches(&values)
    }

    #[test]
    fn all_conditions_must_hold() {
        for (filter, event, expected) in [
            (r#"{}"#, r#"{}"#, true),
            (r#"{"sort":"a"}"#, r#"{"sort":"a"}"#, true),
            (r#"{"sort":"a"}"#, r#"{"sort":"A"}"#, false),
            (r#"{"sort":"a"}"#, r#"{}"#, false),
            (r#"{"sort":["a","b"]}"#, r#"{"sort":"b"}"#, true),
            (r#"{"sort":{"not":["a","b"]}}"#, r#"{"sort":"b"}"#, false),
            (r#"{"sort":{"not":"a"}}"#, r#"{"sort":"b"}"#, true),
            (r#"{"sort":{"not":"a"}}"#, r#"{}"#, true),
            (r#"{"sum":{"at_least":0.1,"below":100}}"#, r#"{"sum":0.1}"#, true),
            (r#"{"sum":{"at_least":0.1,"below":100}}"#, r#"{"sum":0.0999}"#, false),
            (r#"{"sum":{"at_least":0.1,"below":100}}"#, r#"{"sum":100}"#, false),
            (r#"{"sum":{"below":100}}"#, r#"{}"#, false),
            (r#"{"count":{"at_least":9007199254740993}}"#, r#"{"count":9007199254740992}"#, false),
            (r#"{"at":{"at_least":"2026-01-01"}}"#, r#"{"at":"2026-01-01T00:00:00Z"}"#, true),
            (r#"{"paid":true}"#, r#"{"paid":true}"#, true),
            (r#"{"paid":true}"#, r#"{"paid":false}"#, false),
            (r#"{"more":{"present":true}}"#, r#"{"more":{"x":1}}"#, true),
            (r#"{"more":{"present":false}}"#, r#"{"more":1}"#, false),
            (r#"{"sort":"a","paid":true}"#, r#"{"sort":"a","paid":false}"#, false),
        ] {
            assert_eq!(matches(filter, event), expected, "{filter} of {event}");
        }
    }

    #[test]
    fn invalid_conditions_are_errors() {
        for (filter, reason) in [
            (r#"{"srt":"a"}"#, "field `srt`, which stream `orders` does not declare; did you mean `sort`?"),
            (r#"{"sort":1}"#, "with 1, but its values are text"),
            (r#"{"sum":"1"}"#, "but its values are a number"),
            (r#"{"sort":[]}"#, "with an empty list"),
            (r#"{"sort":{"at_least":"a"}}"#, "with a range, but it is neither"),
            (r#"{"sum":{"at_least":2,"below":1}}"#, "contains nothing"),
            (r#"{"sum":{"atleast":2}}"#, "with a condition that is not"),
            (r#"{"more":1}"#, "of type \"any\""),
            (r#"{"at":"soon"}"#, "which is not a time"),
            (r#"{"more":{"present":1}}"#, "must be true or false"),
        ] {
            let error = build(filter).expect_err(filter);
            assert!(error.contains(reason), "{filter}: {error}");
        }
    }
}
