//! `[view.NAME]`: the kinds of views, and the settings of a ledger.

use std::collections::BTreeMap;

use event::{Fields, Kind};
use serde::Deserialize;

use super::location::Location;
use super::names::{is_name, table_name};
use super::notifications::{NotificationsConfig, NotificationsSection};
use super::stats::{StatsConfig, StatsSection};
use super::table::{RowTableConfig, RowTableSection};
use super::{ConfigError, Stream};

#[derive(Clone, Debug)]
pub struct ViewConfig {
    pub stream: String,
    pub kind: ViewKindConfig,
}

#[derive(Clone, Debug)]
pub enum ViewKindConfig {
    Ledger(LedgerConfig),
    Stats(StatsConfig),
    Table(RowTableConfig),
    Notifications(NotificationsConfig),
}

impl ViewConfig {
    /// Returns the names of the tables that the view writes.
    pub fn tables(&self) -> Vec<String> {
        match &self.kind {
            ViewKindConfig::Ledger(ledger) => vec![ledger.table.clone()],
            ViewKindConfig::Stats(stats) => stats.tables(),
            ViewKindConfig::Table(table) => vec![table.table.clone()],
            ViewKindConfig::Notifications(notifications) => vec![notifications.table.clone()],
        }
    }
}

#[derive(Clone, Debug)]
pub struct LedgerConfig {
    pub table: String,
    pub key_column: String,
    pub amount_column: String,
    /// The index of the key among the stream's fields.
    pub key: usize,
    pub rule: AmountRule,
}

/// The field of the amount, by its index, and whether the amount is subtracted.
#[derive(Clone, Debug)]
pub enum AmountRule {
    Always(usize, bool),
    By { field: usize, amounts: BTreeMap<String, (usize, bool)> },
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ViewSection {
    Ledger(LedgerSection),
    Stats(StatsSection),
    Table(RowTableSection),
    Notifications(NotificationsSection),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerSection {
    from: String,
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

impl ViewSection {
    pub fn check(
        &self,
        name: &str,
        location: &Location,
        streams: &BTreeMap<String, Stream>,
    ) -> Result<ViewConfig, ConfigError> {
        let wrong = |reason: String| ConfigError::at(location, format!("view `{name}` {reason}"));
        if !is_name(name) {
            let reason = "needs a name of at most 64 lower-case letters, digits, `-` and `_`";
            return Err(wrong(reason.to_owned()));
        }
        if ["dedup", "gate"].contains(&name) {
            return Err(wrong("needs another name: the deduplicator uses this one".to_owned()));
        }
        let from = self.from();
        let stream = streams.get(from);
        let stream = stream.ok_or_else(|| wrong(format!("reads stream `{from}`, which is not declared")))?;
        let kind = match self {
            Self::Ledger(section) => section.check(name, stream).map(ViewKindConfig::Ledger),
            Self::Stats(section) => section.check(name, stream).map(ViewKindConfig::Stats),
            Self::Table(section) => section.check(name, stream).map(ViewKindConfig::Table),
            Self::Notifications(section) => section.check(name, stream).map(ViewKindConfig::Notifications),
        };
        Ok(ViewConfig { stream: from.to_owned(), kind: kind.map_err(wrong)? })
    }

    fn from(&self) -> &str {
        match self {
            Self::Ledger(section) => &section.from,
            Self::Stats(section) => &section.from,
            Self::Table(section) => &section.from,
            Self::Notifications(section) => &section.from,
        }
    }
}

impl LedgerSection {
    fn check(&self, name: &str, stream: &Stream) -> Result<LedgerConfig, String> {
        let fields = &stream.fields;
        let key = fields.get(fields.key());
        if !matches!(key.kind, Kind::Text { .. }) {
            return Err(format!(
                "is a ledger, which needs a text key; the key of stream `{}` is not text",
                self.from
            ));
        }
        let rule = match (&self.amount, &self.by) {
            (AmountSection::Always(amount), None) => {
                let (field, negative) = self.amount(amount, fields)?;
                AmountRule::Always(field, negative)
            }
            (AmountSection::Always(_), Some(_)) => {
                return Err("has one amount for all events and cannot have `by`".to_owned());
            }
            (AmountSection::By(amounts), by) => {
                let by = by.as_deref().unwrap_or("name");
                let field = fields.index_of(by);
                let field = field.ok_or_else(|| {
                    format!(
                        "selects its amount by field `{by}`, which stream `{}` does not declare",
                        self.from
                    )
                })?;
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
                AmountRule::By { field, amounts: amounts.collect::<Result<_, String>>()? }
            }
        };
        Ok(LedgerConfig {
            table: table_name(self.table.as_deref(), name)?,
            key_column: self.key_column.clone().unwrap_or_else(|| last_part(&key.name).to_owned()),
            amount_column: self.amount_column.clone().unwrap_or_else(|| "balance".to_owned()),
            key: fields.key(),
            rule,
        })
    }

    fn amount(&self, text: &str, fields: &Fields) -> Result<(usize, bool), String> {
        let (negative, field) = match text.split_at_checked(1) {
            Some(("+", field)) => (false, field),
            Some(("-", field)) => (true, field),
            _ => return Err(format!("has amount `{text}`, which is neither `+field` nor `-field`")),
        };
        let index = fields.index_of(field);
        let index = index.ok_or_else(|| {
            format!("takes its amount from field `{field}`, which stream `{}` does not declare", self.from)
        })?;
        match fields.get(index).kind {
            Kind::Decimal { .. } | Kind::Integer { .. } if fields.get(index).required => {
                Ok((index, negative))
            }
            Kind::Decimal { .. } | Kind::Integer { .. } => {
                Err(format!("takes its amount from field `{field}`, which must be required"))
            }
            _ => Err(format!("takes its amount from field `{field}`, which is neither decimal nor integer")),
        }
    }
}

/// Returns the last part of a nested name: `userId` of `payload.userId`.
fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}
