//! `[view.NAME]` of the configuration. Each kind of view declares its settings in its own folder.

use event::{Fields, SettingErrors, suggestion};
use serde::Deserialize;

use super::batch_rule::BatchSection;
use super::ledger::LedgerSection;
use super::notifications::NotificationsSection;
use super::stats::StatsSection;
use super::table::RowTableSection;
use super::{View, ViewKind};
use crate::destinations::DeclaredDestinations;

/// The section as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ViewSection {
    Ledger(LedgerSection),
    Stats(StatsSection),
    Table(RowTableSection),
    Notifications(NotificationsSection),
}

impl ViewSection {
    /// Returns the name of the stream that the view reads.
    pub fn stream(&self) -> &str {
        match self {
            Self::Ledger(section) => &section.from,
            Self::Stats(section) => &section.from,
            Self::Table(section) => &section.from,
            Self::Notifications(section) => &section.from,
        }
    }

    fn batch(&self) -> Option<&BatchSection> {
        match self {
            Self::Ledger(section) => section.batch.as_ref(),
            Self::Stats(section) => section.batch.as_ref(),
            Self::Table(section) => section.batch.as_ref(),
            Self::Notifications(section) => section.batch.as_ref(),
        }
    }

    /// Builds view `name`, if these settings are valid for stream `from` with these fields.
    pub fn build(
        &self,
        name: &str,
        from: &str,
        fields: &Fields,
        destinations: &DeclaredDestinations,
        errors: &mut SettingErrors,
    ) -> Option<View> {
        let stream = StreamFields { name: from, fields };
        let batch = self.batch().and_then(|batch| errors.take(&["batch"], batch.rule()));
        let kind = match self {
            Self::Ledger(section) => ViewKind::Ledger(section.build(name, stream, errors)?),
            Self::Stats(section) => ViewKind::Stats(section.build(name, stream, errors)?),
            Self::Table(section) => ViewKind::Table(section.build(name, stream, errors)?),
            Self::Notifications(section) => {
                ViewKind::Notifications(section.build(name, stream, destinations, errors)?)
            }
        };
        Some(View { name: name.to_owned(), stream: from.to_owned(), kind, batch })
    }
}

/// The fields of the stream that a view reads.
#[derive(Clone, Copy)]
pub struct StreamFields<'a> {
    pub name: &'a str,
    pub fields: &'a Fields,
}

impl StreamFields<'_> {
    /// Returns the index of a field. If the stream does not declare it, the message begins with `use_of_it`.
    pub fn index(&self, use_of_it: &str, field: &str) -> Result<usize, String> {
        self.fields.index_of(field).ok_or_else(|| {
            let names = suggestion(field, "fields", self.fields.iter().map(|field| field.name.as_str()));
            format!("{use_of_it} field `{field}`, which stream `{}` does not declare{names}", self.name)
        })
    }
}

/// Returns the view's table: the given one, or one with the name of the view.
pub fn table_name(table: Option<&str>, view: &str) -> Result<String, String> {
    let table = table.map_or_else(|| view.replace('-', "_"), str::to_owned);
    let lower_case = table.to_ascii_lowercase();
    let reserved = ["millrace_", "sqlite_"].iter().any(|prefix| lower_case.starts_with(prefix));
    if table.is_empty() || reserved || table.contains('\0') {
        Err(format!(
            "cannot have table `{table}`; a name is not empty, has no NUL, and no prefix `millrace_` or `sqlite_`"
        ))
    } else {
        Ok(table)
    }
}
