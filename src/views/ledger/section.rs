//! `[view.NAME]` with `kind = "ledger"`: the field of the amount, and when it is added or subtracted.

use std::collections::BTreeMap;

use event::{Kind, SettingErrors, suggestion};
use serde::Deserialize;

use super::{Amount, Ledger, Rule};
use crate::views::batch_rule::BatchSection;
use crate::views::section::{StreamFields, table_name};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerSection {
    pub from: String,
    table: Option<String>,
    key_column: Option<String>,
    amount_column: Option<String>,
    by: Option<String>,
    amount: AmountSection,
    pub batch: Option<BatchSection>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected \"+field\" or \"-field\" with the name of a field, or a table of them by the text of field `by`"
)]
enum AmountSection {
    Always(String),
    By(BTreeMap<String, String>),
}

impl LedgerSection {
    /// Builds view `name` on a stream.
    pub fn build(&self, name: &str, stream: StreamFields<'_>, errors: &mut SettingErrors) -> Option<Ledger> {
        let fields = stream.fields;
        let key = fields.get(fields.key());
        if !matches!(key.kind, Kind::Text { .. }) {
            let reason = format!(
                "is a ledger, which needs a text key; the key of stream `{}` is not text",
                stream.name
            );
            errors.add(&["from"], reason);
        }
        let rule = match &self.amount {
            AmountSection::Always(text) => {
                if self.by.is_some() {
                    errors.add(&["by"], "has one amount for all events and cannot have `by`");
                }
                errors.take(&["amount"], amount(text, stream)).map(Rule::Always)
            }
            AmountSection::By(amounts) => self.rule_by(amounts, stream, errors),
        };
        let table = errors.take(&["table"], table_name(self.table.as_deref(), name));
        // The default is the last part of the key's name: `userId` of `payload.userId`.
        let last_part = key.name.rsplit('.').next().unwrap_or_default();
        let key_column = self.key_column.as_deref().unwrap_or(last_part);
        let amount_column = self.amount_column.as_deref().unwrap_or("balance");
        Some(Ledger::new(&table?, [key_column, amount_column], fields.key(), rule?))
    }

    fn rule_by(
        &self,
        amounts: &BTreeMap<String, String>,
        stream: StreamFields<'_>,
        errors: &mut SettingErrors,
    ) -> Option<Rule> {
        let by = self.by.as_deref().unwrap_or("name");
        let mut checked = BTreeMap::new();
        for (text, written) in amounts {
            let amount = errors.take(&["amount", text], amount(written, stream));
            checked.extend(amount.map(|amount| (text.clone(), amount)));
        }
        let field = errors.take(&["by"], stream.index("selects its amount by", by))?;
        let values = &stream.fields.get(field).one_of;
        if !matches!(stream.fields.get(field).kind, Kind::Text { .. }) || values.is_empty() {
            errors.add(
                &["by"],
                format!("selects its amount by field `{by}`, which must be text with `one_of`"),
            );
            return None;
        }
        for text in values.iter().filter(|text| !amounts.contains_key(*text)) {
            errors.add(&["amount"], format!("has no amount for `{text}`, which is a value of field `{by}`"));
        }
        for text in amounts.keys().filter(|text| !values.contains(text)) {
            let names = suggestion(text, "values", values.iter().map(String::as_str));
            let reason = format!("has an amount for `{text}`, which is not a value of field `{by}`{names}");
            errors.add(&["amount", text], reason);
        }
        Some(Rule::By { field, amounts: checked })
    }
}

/// Parses `+field`, `-field`, or `field`, which means the same as `+field`.
fn amount(text: &str, stream: StreamFields<'_>) -> Result<Amount, String> {
    let (negative, name) = match text.strip_prefix('-') {
        Some(field) => (true, field),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if name.is_empty() {
        return Err(format!("has amount `{text}`, which names no field; write `+field` or `-field`"));
    }
    let index = stream.index("takes its amount from", name)?;
    let field = stream.fields.get(index);
    match field.kind {
        Kind::Decimal { .. } | Kind::Integer { .. } if field.required => {
            Ok(Amount { field: index, negative })
        }
        Kind::Decimal { .. } | Kind::Integer { .. } => {
            Err(format!("takes its amount from field `{name}`, which must be required"))
        }
        _ => Err(format!("takes its amount from field `{name}`, which is neither decimal nor integer")),
    }
}
