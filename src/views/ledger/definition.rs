//! The rules of a ledger in the form in which the store keeps them.

use std::collections::BTreeMap;

use event::Fields;
use serde::{Deserialize, Serialize};

use super::{Amount, Ledger, Rule};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerDefinition {
    key: String,
    /// The field whose text selects the amount; `None` if there is one amount for all events.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    amount: AmountDefinition,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum AmountDefinition {
    Always(String),
    By(BTreeMap<String, String>),
}

impl Ledger {
    pub fn definition(&self, fields: &Fields) -> LedgerDefinition {
        let name = |field: usize| fields.get(field).name.clone();
        let amount =
            |amount: &Amount| format!("{}{}", if amount.negative { "-" } else { "+" }, name(amount.field));
        let (by, amount) = match &self.rule {
            Rule::Always(always) => (None, AmountDefinition::Always(amount(always))),
            Rule::By { field, amounts } => {
                let amounts = amounts.iter().map(|(text, by)| (text.clone(), amount(by)));
                (Some(name(*field)), AmountDefinition::By(amounts.collect()))
            }
        };
        LedgerDefinition { key: name(self.key), by, amount }
    }

    /// Returns the fields that the ledger reads.
    pub fn fields_read(&self) -> Vec<usize> {
        let of_rule = match &self.rule {
            Rule::Always(amount) => vec![amount.field],
            Rule::By { field, amounts } => {
                amounts.values().map(|amount| amount.field).chain([*field]).collect()
            }
        };
        of_rule.into_iter().chain([self.key]).collect()
    }
}

impl LedgerDefinition {
    /// Returns a ledger with these rules and the table of `ledger`.
    pub fn build(&self, fields: &Fields, ledger: &Ledger) -> Option<Ledger> {
        let amount = |text: &String| {
            let (sign, field) = text.split_at_checked(1)?;
            Some(Amount { field: fields.index_of(field)?, negative: sign == "-" })
        };
        let rule = match (&self.amount, &self.by) {
            (AmountDefinition::By(amounts), Some(by)) => {
                let amounts = amounts.iter().map(|(text, by)| Some((text.clone(), amount(by)?)));
                Rule::By { field: fields.index_of(by)?, amounts: amounts.collect::<Option<_>>()? }
            }
            (AmountDefinition::Always(always), _) => Rule::Always(amount(always)?),
            (AmountDefinition::By(_), None) => return None,
        };
        Some(Ledger { rule, key: fields.index_of(&self.key)?, ..ledger.clone() })
    }
}
