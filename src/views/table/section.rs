//! `[view.NAME]` with `kind = "table"`: the columns of a row, and the fields that fill them.

use std::collections::BTreeSet;
use std::fmt;

use event::limits::FIELDS_MAX;
use event::{Field, Kind, SettingErrors, suggestion};
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};

use super::{ColumnSource, EnvelopeField, RowTable};
use crate::views::batch_rule::BatchSection;
use crate::views::section::{StreamFields, table_name};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowTableSection {
    pub from: String,
    table: Option<String>,
    id_column: Option<String>,
    columns: Option<Columns>,
    pub batch: Option<BatchSection>,
}

/// The columns in the order of the file.
#[derive(Clone, Debug)]
struct Columns(Vec<(String, ColumnSection)>);

#[derive(Clone, Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected \"field\", \"$received\", \"$id\", \"$address\", or { field, default }"
)]
enum ColumnSection {
    From(String),
    Field(WithDefault),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WithDefault {
    field: String,
    default: Option<String>,
}

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Columns;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of columns and the fields that fill them")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Columns, M::Error> {
                let mut columns = Vec::new();
                while let Some(column) = map.next_entry()? {
                    columns.push(column);
                }
                Ok(Columns(columns))
            }
        }
        reader.deserialize_map(InOrder)
    }
}

impl RowTableSection {
    /// Builds view `name` on a stream.
    pub fn build(
        &self,
        name: &str,
        stream: StreamFields<'_>,
        errors: &mut SettingErrors,
    ) -> Option<RowTable> {
        let columns = self.columns(stream, errors);
        let id_column = self.id_column.as_deref().unwrap_or("id");
        if columns.is_empty() || columns.len() > FIELDS_MAX {
            let reason = format!("needs 1 to {FIELDS_MAX} columns, but has {}", columns.len());
            errors.add(&["columns"], reason);
        }
        // Databases ignore case in column names.
        let mut names = BTreeSet::from([id_column.to_ascii_lowercase()]);
        let unnamed = |column: &str| column.is_empty() || column.contains('\0');
        if unnamed(id_column) {
            errors.add(&["id_column"], "has an `id_column` whose name is empty or contains NUL");
        }
        for (column, _) in &columns {
            let is_new = names.insert(column.to_ascii_lowercase());
            let reason = match column.as_str() {
                column if unnamed(column) => "has a column whose name is empty or contains NUL".to_owned(),
                _ if is_new => continue,
                column if column.eq_ignore_ascii_case(id_column) => format!(
                    "has a column `{column}`, which is also the column of row numbers; change `id_column`"
                ),
                column => format!("has a column `{column}` twice"),
            };
            errors.add(&["columns", column], reason);
        }
        let table = errors.take(&["table"], table_name(self.table.as_deref(), name))?;
        let columns: Option<Vec<(String, ColumnSource)>> =
            columns.into_iter().map(|(name, source)| Some((name, source?))).collect();
        Some(RowTable::new(&table, id_column, &columns?, stream.fields))
    }

    /// Returns the columns in order; `None` in place of what fills a column if that is wrong.
    fn columns(
        &self,
        stream: StreamFields<'_>,
        errors: &mut SettingErrors,
    ) -> Vec<(String, Option<ColumnSource>)> {
        let Some(columns) = &self.columns else {
            let column = |(field, declared): (usize, &Field)| {
                // SQL has to quote a name with dots.
                let name = declared.name.replace('.', "_");
                (name, Some(ColumnSource::Field { field, default: None }))
            };
            return stream.fields.iter().enumerate().map(column).collect();
        };
        let column = |(name, section): &(String, ColumnSection)| {
            (name.clone(), errors.take(&["columns", name], section.source(name, stream)))
        };
        columns.0.iter().map(column).collect()
    }
}

impl ColumnSection {
    fn source(&self, name: &str, stream: StreamFields<'_>) -> Result<ColumnSource, String> {
        let (from, default) = match self {
            Self::From(from) => (from, None),
            Self::Field(WithDefault { field, default }) => (field, default.as_deref()),
        };
        if from.starts_with('$') {
            let envelope = EnvelopeField::named(from).ok_or_else(|| {
                let names = suggestion(from, "special values", EnvelopeField::ALL.map(EnvelopeField::name));
                format!("fills column `{name}` with `{from}`, which does not exist{names}")
            })?;
            return match default {
                None => Ok(ColumnSource::Envelope(envelope)),
                Some(_) => Err(format!("fills column `{name}` with `{from}`, which cannot have a default")),
            };
        }
        let field = stream.index(&format!("fills column `{name}` with"), from)?;
        let default = match default {
            None => None,
            Some("$received") if stream.fields.get(field).kind == Kind::Time => Some(EnvelopeField::Received),
            Some(_) => {
                return Err(format!(
                    "has a default for column `{name}`; only times can have one, which is `$received`"
                ));
            }
        };
        Ok(ColumnSource::Field { field, default })
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Overrides, effective};

    fn load(view: &str) -> Result<(Config, String), String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.toml");
        let stream = r#"
            [stream.visits]
            key = "site"
            fields.site = { type = "text", required = true }
            fields."who.name" = { type = "text" }
            fields.at = { type = "time" }
            [view.visits]
            kind = "table"
            from = "visits"
            "#;
        std::fs::write(&path, format!("{stream}{view}")).expect("written");
        let config = Config::load(Some(&path), &Overrides::default()).map_err(|error| error.to_string())?;
        let written = effective(Some(&path), &Overrides::default());
        Ok((config, written))
    }

    fn columns(config: &Config) -> Vec<&str> {
        let table = config.views["visits"].row_table().expect("view `visits` is of kind `table`").table();
        table.columns.iter().map(|column| column.name.as_str()).collect()
    }

    #[test]
    fn columns_keep_the_order_of_the_file() {
        let (config, _) = load("").expect("valid");
        assert_eq!(columns(&config), ["at", "site", "who_name"]);
        let text = r#"columns = { z = "site", when = { field = "at", default = "$received" }, b = "who.name", a = "$id", c = "$address" }"#;
        let (config, written) = load(text).expect("valid");
        assert_eq!(columns(&config), ["z", "when", "b", "a", "c"]);
        let at = |text: &str| written.find(text).unwrap_or_else(|| panic!("{text} in {written}"));
        assert!(at("z = \"site\"") < at("b = \"who.name\"") && at("b = \"who.name\"") < at("a = \"$id\""));
    }

    #[test]
    fn invalid_columns_are_errors() {
        let cases = [
            (
                r#"columns = { a = "other" }"#,
                "fills column `a` with field `other`, which stream `visits` does not declare",
            ),
            (
                r#"columns = { a = "$now" }"#,
                "fills column `a` with `$now`, which does not exist (special values: `$received`, `$id`, `$address`, `$client`, `$user_agent`)",
            ),
            (r#"columns = { a = { field = "$id", default = "$received" } }"#, "which cannot have a default"),
            (r#"columns = { a = { field = "site", default = "$received" } }"#, "only times can have one"),
            (r#"columns = { a = { field = "at", default = "now" } }"#, "only times can have one"),
            (r#"columns = { a = 1 }"#, "expected \"field\", \"$received\""),
            (r#"columns = { ID = "site" }"#, "has a column `ID`, which is also the column of row numbers"),
            (r#"columns = { a = "site", A = "at" }"#, "has a column `A` twice"),
            ("columns = {}", "needs 1 to 64 columns, but has 0"),
            (r#"columns = { "" = "site" }"#, "has a column whose name is empty"),
            ("table = \"sqlite_x\"", "cannot have table `sqlite_x`"),
        ];
        for (text, message) in cases {
            let error = load(text).expect_err(text);
            assert!(error.contains(message), "{text}\n  says {error}\n  not {message}");
        }
    }
}
