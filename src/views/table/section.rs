//! `[view.NAME]` with `kind = "table"`: the columns of a row, and the fields that fill them.

use std::collections::BTreeSet;
use std::fmt;

use event::limits::FIELDS_MAX;
use event::{Fields, Kind};
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};

use super::{ColumnSource, EnvelopeField, RowTable};
use crate::views::section::{field_index, table_name};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowTableSection {
    pub from: String,
    table: Option<String>,
    id_column: Option<String>,
    columns: Option<Columns>,
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
    /// Builds view `name` on a stream with these fields.
    pub fn build(&self, name: &str, fields: &Fields) -> Result<RowTable, String> {
        let columns: Vec<(String, ColumnSource)> = match &self.columns {
            Some(columns) => {
                let column = |(name, section): &(String, ColumnSection)| {
                    Ok((name.clone(), self.column(name, section, fields)?))
                };
                columns.0.iter().map(column).collect::<Result<_, String>>()?
            }
            // SQL has to quote a name with dots.
            None => fields
                .iter()
                .enumerate()
                .map(|(field, declared)| {
                    (declared.name.replace('.', "_"), ColumnSource::Field { field, default: None })
                })
                .collect(),
        };
        let id_column = self.id_column.as_deref().unwrap_or("id");
        if columns.is_empty() || columns.len() > FIELDS_MAX {
            return Err(format!("needs 1 to {FIELDS_MAX} columns, but has {}", columns.len()));
        }
        // Databases ignore case in column names.
        let mut names = BTreeSet::from([id_column.to_ascii_lowercase()]);
        for column in std::iter::once(id_column).chain(columns.iter().map(|(name, _)| name.as_str())) {
            if column.is_empty() || column.contains('\0') {
                return Err("has a column whose name is empty or contains NUL".to_owned());
            }
        }
        if let Some((twice, _)) = columns.iter().find(|(name, _)| !names.insert(name.to_ascii_lowercase())) {
            let reason = if twice.eq_ignore_ascii_case(id_column) {
                format!("has a column `{twice}`, which is also the column of row numbers; change `id_column`")
            } else {
                format!("has a column `{twice}` twice")
            };
            return Err(reason);
        }
        Ok(RowTable::new(&table_name(self.table.as_deref(), name)?, id_column, &columns, fields))
    }

    fn column(&self, name: &str, section: &ColumnSection, fields: &Fields) -> Result<ColumnSource, String> {
        let (from, default) = match section {
            ColumnSection::From(from) => (from, None),
            ColumnSection::Field(WithDefault { field, default }) => (field, default.as_deref()),
        };
        if let Some(envelope) = from.strip_prefix('$') {
            let envelope = match envelope {
                "received" => EnvelopeField::Received,
                "id" => EnvelopeField::Id,
                "address" => EnvelopeField::Address,
                _ => {
                    return Err(format!(
                        "fills column `{name}` with `{from}`; the special values are `$received`, `$id`, `$address`"
                    ));
                }
            };
            return match default {
                None => Ok(ColumnSource::Envelope(envelope)),
                Some(_) => Err(format!("fills column `{name}` with `{from}`, which cannot have a default")),
            };
        }
        let field = field_index(fields, &self.from, &format!("fills column `{name}` with"), from)?;
        let default = match default {
            None => None,
            Some("$received") if fields.get(field).kind == Kind::Time => Some(EnvelopeField::Received),
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
        let written = effective(Some(&path), &[]).map_err(|error| error.to_string())?;
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
                "fills column `a` with `$now`; the special values are `$received`, `$id`, `$address`",
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
