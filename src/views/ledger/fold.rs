//! The ledger's fold: a batch in, one row a key out. No I/O, no clock; the same batch gives the same rows.

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
                    // A batch of amounts below 10^15 does not come near the bound of a sum.
                    *sum = sum.checked_add(amount).expect("a batch is bounded, and so is each amount");
                }
                Err(reason) => refused.push((index, reason)),
            }
        }
        let mut rows: Vec<(u128, Cow<'_, str>, Decimal)> =
            sums.into_iter().map(|(key, sum)| (beginning(&key), key, sum)).collect();
        // In one order, so that two writers of one table never wait for each other in a circle.
        rows.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
        let cells = rows
            .into_iter()
            .flat_map(|(_, key, sum)| [Cell::Text(key.into_owned()), Cell::Decimal(sum)])
            .collect();
        let writes = vec![Write { table: self.table(), verb: Verb::Add, cells }];
        Folded { writes, refused, ..Folded::default() }
    }
}

/// The first bytes of a key, in its order: most keys differ there, and are compared without being read.
fn beginning(key: &str) -> u128 {
    let mut bytes = [0; 16];
    let length = key.len().min(bytes.len());
    bytes[..length].copy_from_slice(&key.as_bytes()[..length]);
    u128::from_be_bytes(bytes)
}

/// Which fields the rule needs, and how it uses them: the key first, then the field it goes by, then the
/// amounts.
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
            _ => return Err("has no key".to_owned()),
        };
        let amount = match self.rule {
            Rule::Always(amount) => amount,
            Rule::By { amounts, .. } => match &values[1] {
                Value::Text(name) => amounts
                    .get(name.as_ref())
                    // The text is the event's: what pauses a view comes into log lines.
                    .ok_or_else(|| "goes by a text that has no amount in this ledger".to_owned())?,
                _ => return Err("has no name to go by".to_owned()),
            },
        };
        let Amount { field, negative } = *amount;
        let place = self.wanted.iter().skip(1).position(|wanted| *wanted == field).map(|place| place + 1);
        match place.map(|place| &values[place]) {
            Some(Value::Decimal(value)) => Ok((key, if negative { -*value } else { *value })),
            Some(Value::Integer(value)) => value
                .to_string()
                .parse::<Decimal>()
                .map(|value| (key, if negative { -value } else { value }))
                .map_err(|error| error.to_string()),
            _ => Err("has no amount".to_owned()),
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
                address: None,
                letter: None,
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
    fn adds_and_takes_a_row_a_key_in_order_and_names_what_it_cannot_read() {
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
    fn a_rule_without_a_name_takes_every_event() {
        let ledger = Ledger::new("t", ["k", "v"], 0, Rule::Always(Amount { field: 2, negative: true }));
        let (rows, refused) =
            fold(&ledger, &[r#"{"who":"a","name":"x","value":1}"#, r#"{"who":"a","name":"y","value":2}"#]);
        assert_eq!((rows, refused), (vec![("a".to_owned(), "-3".to_owned())], vec![]));
    }
}
