//! `[view.NAME]` with `kind = "ledger"`: the field of the amount, and when it is added or subtracted.

use std::collections::BTreeMap;

use event::{Fields, Kind};
use serde::Deserialize;

use super::{Amount, Ledger, Rule};
use crate::views::section::{field_index, table_name};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerSection {
    pub from: String,
    table: Option<String>,
    key_column: Option<String>,
    amount_column: Option<String>,
    by: Option<String>,
    amount: AmountSection,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected \"+field\", \"-field\", or a table of them by the text of field `by`"
)]
enum AmountSection {
    Always(String),
    By(BTreeMap<String, String>),
}

impl LedgerSection {
    /// Builds view `name` on a stream with these fields.
    pub fn build(&self, name: &str, fields: &Fields) -> Result<Ledger, String> {
        let key = fields.get(fields.key());
        if !matches!(key.kind, Kind::Text { .. }) {
            return Err(format!(
                "is a ledger, which needs a text key; the key of stream `{}` is not text",
                self.from
            ));
        }
        let rule = match (&self.amount, &self.by) {
            (AmountSection::Always(amount), None) => Rule::Always(self.amount(amount, fields)?),
            (AmountSection::Always(_), Some(_)) => {
                return Err("has one amount for all events and cannot have `by`".to_owned());
            }
            (AmountSection::By(amounts), by) => {
                let by = by.as_deref().unwrap_or("name");
                let field = field_index(fields, &self.from, "selects its amount by", by)?;
                if !matches!(fields.get(field).kind, Kind::Text { .. }) || fields.get(field).one_of.is_empty()
                {
                    return Err(format!(
                        "selects its amount by field `{by}`, which must be text with `one_of`"
                    ));
                }
                for text in &fields.get(field).one_of {
                    if !amounts.contains_key(text) {
                        return Err(format!("has no amount for `{text}`, which is a value of field `{by}`"));
                    }
                }
                let amounts =
                    amounts.iter().map(|(text, amount)| Ok((text.clone(), self.amount(amount, fields)?)));
                Rule::By { field, amounts: amounts.collect::<Result<_, String>>()? }
            }
        };
        let table = table_name(self.table.as_deref(), name)?;
        // The default is the last part of the key's name: `userId` of `payload.userId`.
        let last_part = key.name.rsplit('.').next().unwrap_or_default();
        let key_column = self.key_column.as_deref().unwrap_or(last_part);
        let amount_column = self.amount_column.as_deref().unwrap_or("balance");
        Ok(Ledger::new(&table, [key_column, amount_column], fields.key(), rule))
    }

    fn amount(&self, text: &str, fields: &Fields) -> Result<Amount, String> {
        let (negative, field) = match text.split_at_checked(1) {
            Some(("+", field)) => (false, field),
            Some(("-", field)) => (true, field),
            _ => return Err(format!("has amount `{text}`, which is neither `+field` nor `-field`")),
        };
        let index = field_index(fields, &self.from, "takes its amount from", field)?;
        match fields.get(index).kind {
            Kind::Decimal { .. } | Kind::Integer { .. } if fields.get(index).required => {
                Ok(Amount { field: index, negative })
            }
            Kind::Decimal { .. } | Kind::Integer { .. } => {
                Err(format!("takes its amount from field `{field}`, which must be required"))
            }
            _ => Err(format!("takes its amount from field `{field}`, which is neither decimal nor integer")),
        }
    }
}
