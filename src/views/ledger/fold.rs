//! Folds a batch into a ledger: one row for each key. The fold uses no I/O and no clock, so the same batch always
//! gives the same rows.

use std::borrow::Cow;
use std::collections::HashMap;

use event::{Decimal, Fields, Value};

use super::{Amount, Ledger, Rule};
use crate::store::{Cell, Verb, Write};
use crate::views::{Event, Folded};

impl Ledger {
    pub fn fold(&self, fields: &Fields, events: &[Event<'_>]) -> Folded {
        let reading = Reading::of(self);
        let mut sums: HashMap<Cow<'_, str>, Decimal> = HashMap::new();
        let mut refused = Vec::new();
        let mut values = Vec::with_capacity(reading.wanted.len());
        for (index, event) in events.iter().enumerate() {
            let change =
                fields.read(&event.text, &reading.wanted, &mut values).map_err(|error| error.to_string());
            match change.and_then(|()| reading.change(&mut values)) {
                Ok((key, amount)) => {
                    let amount = if event.corrects.is_some() { -amount } else { amount };
                    let sum = sums.entry(key).or_default();
                    // The sum of a batch of amounts below 10^15 is far below the limit of a sum.
                    *sum = sum.checked_add(amount).expect("a batch is bounded, and so is each amount");
                }
                Err(reason) => refused.push((index, reason)),
            }
        }
        let mut rows: Vec<(u128, Cow<'_, str>, Decimal)> =
            sums.into_iter().map(|(key, sum)| (key_prefix(&key), key, sum)).collect();
        // Sort the rows, so that two writers of one table change them in the same order and do not deadlock.
        rows.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
        let cells = rows
            .into_iter()
            .flat_map(|(_, key, sum)| [Cell::Text(key.into_owned()), Cell::Decimal(sum)])
            .collect();
        let writes = vec![Write { table: self.table(), verb: Verb::Add, cells }];
        Folded { writes, refused, ..Folded::default() }
    }
}

/// Returns the first bytes of a key as a number with the same order. Most keys already differ there, and are then
/// sorted without a look at the whole key.
fn key_prefix(key: &str) -> u128 {
    let mut bytes = [0; 16];
    let length = key.len().min(bytes.len());
    bytes[..length].copy_from_slice(&key.as_bytes()[..length]);
    u128::from_be_bytes(bytes)
}

/// The fields to read, and the rule that uses them. The key is the first field. With `Rule::By`, the next one is the
/// field that selects the amount. The fields of amounts follow.
struct Reading<'l> {
    wanted: Vec<usize>,
    rule: &'l Rule,
}

impl<'l> Reading<'l> {
    fn of(ledger: &'l Ledger) -> Self {
        let mut wanted = vec![ledger.key];
        match &ledger.rule {
            Rule::Always(amount) => wanted.push(amount.field),
            Rule::By { field, amounts } => {
                wanted.push(*field);
                for amount in amounts.values() {
                    if !wanted[2..].contains(&amount.field) {
                        wanted.push(amount.field);
                    }
                }
            }
        }
        Self { wanted, rule: &ledger.rule }
    }

    fn change<'a>(&self, values: &mut [Value<'a>]) -> Result<(Cow<'a, str>, Decimal), String> {
        let key = match std::mem::replace(&mut values[0], Value::Absent) {
            Value::Text(key) => key,
            _ => return Err("the event has no key".to_owned()),
        };
        let amount = match self.rule {
            Rule::Always(amount) => amount,
            Rule::By { amounts, .. } => match &values[1] {
                Value::Text(name) => amounts
                    .get(name.as_ref())
                    // The text itself is not quoted: it is the event's, and reasons that pause a view are logged.
                    .ok_or_else(|| "the ledger has no amount for the text in its `by` field".to_owned())?,
                _ => return Err("the event has no text in the `by` field of the ledger".to_owned()),
            },
        };
        let Amount { field, negative } = *amount;
        let index = self.wanted.iter().skip(1).position(|wanted| *wanted == field).map(|index| index + 1);
        match index.map(|index| &values[index]) {
            Some(Value::Decimal(value)) => Ok((key, if negative { -*value } else { *value })),
            Some(Value::Integer(value)) => value
                .to_string()
                .parse::<Decimal>()
                .map(|value| (key, if negative { -value } else { value }))
                .map_err(|error| error.to_string()),
            _ => Err("the event has no number in the field of the amount".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use event::{EventId, Field, Kind, Millis};

    use super::*;

    fn stream() -> Fields {
        let field =
            |name: &str, kind| Field { name: name.to_owned(), kind, required: true, one_of: Vec::new() };
        Fields::new(
            vec![field("who", Kind::text(9)), field("name", Kind::text(9)), field("value", Kind::AMOUNT)],
            0,
        )
    }

    fn fold(ledger: &Ledger, texts: &[&str]) -> (Vec<(String, String)>, Vec<usize>) {
        let events: Vec<Event<'_>> = texts
            .iter()
            .enumerate()
            .map(|(position, text)| Event {
                position: position as u64,
                id: EventId::from_bytes([0; 16]),
                text: (*text).into(),
                corrects: None,
                received: Millis(0),
                sent_from: Default::default(),
                retry_of: None,
            })
            .collect();
        let folded = ledger.fold(&stream(), &events);
        let rows = folded.writes[0].cells.chunks(2).map(|row| match row {
            [Cell::Text(key), Cell::Decimal(sum)] => (key.clone(), sum.to_string()),
            other => panic!("{other:?}"),
        });
        (rows.collect(), folded.refused.into_iter().map(|(index, _)| index).collect())
    }

    #[test]
    fn amounts_are_summed_for_each_key_and_unreadable_events_are_refused() {
        let amounts = [("add", false), ("sub", true)]
            .map(|(name, negative)| (name.to_owned(), Amount { field: 2, negative }));
        let ledger =
            Ledger::new("t", ["k", "v"], 0, Rule::By { field: 1, amounts: amounts.into_iter().collect() });
        let texts = [
            r#"{"who":"b","name":"add","value":10.99}"#,
            r#"{"who":"a","name":"sub","value":0.5}"#,
            r#"{"who":"b","name":"other","value":1}"#,
            r#"{"who":"b","name":"sub","value":0.99}"#,
            r#"{"who":"b","name":"add"}"#,
        ];
        let (rows, refused) = fold(&ledger, &texts);
        assert_eq!(rows, [("a".to_owned(), "-0.5".to_owned()), ("b".to_owned(), "10".to_owned())]);
        assert_eq!(refused, [2, 4]);
    }

    #[test]
    fn a_rule_that_always_applies_uses_every_event() {
        let ledger = Ledger::new("t", ["k", "v"], 0, Rule::Always(Amount { field: 2, negative: true }));
        let (rows, refused) =
            fold(&ledger, &[r#"{"who":"a","name":"x","value":1}"#, r#"{"who":"a","name":"y","value":2}"#]);
        assert_eq!((rows, refused), (vec![("a".to_owned(), "-3".to_owned())], vec![]));
    }
}
