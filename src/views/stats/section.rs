//! `[view.NAME]` with `kind = "stats"`: the fields whose values are counted, per group and day.

use event::limits::{COUNTED_FIELDS_MAX, COUNTED_NAME_CHARS_MAX, KEY_CHARS_MAX};
use event::{Fields, Kind};
use serde::Deserialize;

use super::{CountedField, Stats, StatsFields};
use crate::views::section::{field_index, table_name};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatsSection {
    pub from: String,
    group: String,
    distinct: Option<String>,
    time: Option<String>,
    #[serde(default)]
    counts: Vec<String>,
    #[serde(default)]
    distinct_counts: Vec<String>,
    table: Option<String>,
}

impl StatsSection {
    /// Builds view `name` on a stream with these fields.
    pub fn build(&self, name: &str, fields: &Fields) -> Result<Stats, String> {
        let group = field_index(fields, &self.from, "is grouped by", &self.group)?;
        if !fields.get(group).required || !matches!(fields.get(group).kind, Kind::Text { .. }) {
            return Err(format!("is grouped by field `{}`, which must be required text", self.group));
        }
        self.check_kept(fields, "is grouped by", group)?;
        let time = self
            .time
            .as_ref()
            .map(|time| field_index(fields, &self.from, "takes its day from", time))
            .transpose()?;
        if let Some(time) = time.filter(|time| fields.get(*time).kind != Kind::Time) {
            return Err(format!("takes its day from field `{}`, which is not a time", fields.get(time).name));
        }
        let counts: Vec<CountedField> =
            self.counts.iter().map(|counted| self.counted(fields, counted)).collect::<Result<_, _>>()?;
        if counts.len() > COUNTED_FIELDS_MAX {
            return Err(format!("counts by more than {COUNTED_FIELDS_MAX} fields"));
        }
        if let Some(twice) =
            self.counts.iter().find(|one| self.counts.iter().filter(|two| two == one).count() > 1)
        {
            return Err(format!("counts by field `{twice}` twice"));
        }
        if let Some(other) = self.distinct_counts.iter().find(|name| !self.counts.contains(name)) {
            return Err(format!("has `{other}` among `distinct_counts`, which is not among `counts`"));
        }
        let distinct = match &self.distinct {
            None if !self.distinct_counts.is_empty() => {
                return Err("has `distinct_counts` but no `distinct` to name the field".to_owned());
            }
            None => None,
            Some(distinct) => {
                let field = field_index(fields, &self.from, "counts distinct values of", distinct)?;
                self.check_kept(fields, "counts distinct values of", field)?;
                Some(field)
            }
        };
        let table = table_name(self.table.as_deref(), name)?;
        Ok(Stats::new(&table, StatsFields { group, group_name: self.group.clone(), distinct, time, counts }))
    }

    fn counted(&self, fields: &Fields, name: &str) -> Result<CountedField, String> {
        let field = field_index(fields, &self.from, "counts by", name)?;
        self.check_kept(fields, "counts by", field)?;
        if name.chars().count() > COUNTED_NAME_CHARS_MAX as usize {
            return Err(format!(
                "counts by field `{name}`, whose name is longer than {COUNTED_NAME_CHARS_MAX} characters"
            ));
        }
        let distinct = self.distinct_counts.iter().any(|distinct| distinct == name);
        Ok(CountedField { field, name: name.to_owned(), distinct })
    }

    /// Fails if values of the field may be too long for a key in a table.
    fn check_kept(&self, fields: &Fields, use_of_it: &str, field: usize) -> Result<(), String> {
        let field = fields.get(field);
        match field.kind {
            Kind::Text { chars_max, .. } if chars_max > KEY_CHARS_MAX => Err(format!(
                "{use_of_it} field `{}`, which may be longer than {KEY_CHARS_MAX} characters",
                field.name
            )),
            Kind::Any => Err(format!("{use_of_it} field `{}`, which may be of any size", field.name)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Overrides};

    fn load(view: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.toml");
        let stream = r#"
            presets = ["analytics"]
            [stream.visits]
            key = "site"
            fields.site = { type = "text", required = true }
            fields.page = { type = "text", max = 300 }
            fields.kind = { type = "text" }
            fields.who = { type = "integer" }
            fields.at = { type = "time" }
            fields.more = { type = "any" }
            fields.a_name_that_goes_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on = { type = "text" }
            [view.visits]
            kind = "stats"
            from = "visits"
            "#;
        std::fs::write(&path, format!("{stream}{view}")).expect("written");
        Config::load(Some(&path), &Overrides::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_can_declare_statistics() {
        let config = load("group = \"site\"\ndistinct = \"who\"\ntime = \"at\"\ncounts = [\"kind\"]\ndistinct_counts = [\"kind\"]")
            .expect("valid");
        let stats = config.views["visits"].stats().expect("view `visits` is of kind `stats`");
        assert_eq!(stats.table_names()[0], "visits_counts");
        assert!(stats.counted("kind").is_some_and(|counted| counted.distinct));
    }

    #[test]
    fn fields_that_cannot_be_counted_are_errors() {
        let cases = [
            ("group = \"kind\"", "is grouped by field `kind`, which must be required text"),
            ("group = \"other\"", "is grouped by field `other`, which stream `visits` does not declare"),
            ("group = \"site\"\ntime = \"kind\"", "takes its day from field `kind`, which is not a time"),
            (
                "group = \"site\"\ncounts = [\"page\"]",
                "counts by field `page`, which may be longer than 255 characters",
            ),
            ("group = \"site\"\ncounts = [\"more\"]", "counts by field `more`, which may be of any size"),
            (
                "group = \"site\"\ncounts = [\"a_name_that_goes_on_and_on_and_on_and_on_and_on_and_on_and_on_and_on\"]",
                "whose name is longer than 64 characters",
            ),
            ("group = \"site\"\ncounts = [\"kind\", \"kind\"]", "counts by field `kind` twice"),
            (
                "group = \"site\"\ndistinct = \"more\"",
                "counts distinct values of field `more`, which may be of any size",
            ),
            (
                "group = \"site\"\ncounts = [\"kind\"]\ndistinct_counts = [\"who\"]",
                "has `who` among `distinct_counts`, which is not among `counts`",
            ),
            (
                "group = \"site\"\ncounts = [\"kind\"]\ndistinct_counts = [\"kind\"]",
                "has `distinct_counts` but no `distinct` to name the field",
            ),
            ("group = \"site\"\ntable = \"millrace_x\"", "cannot have table `millrace_x`"),
            (
                "group = \"site\"\ntable = \"Site_Stats\"",
                "view `visits` and view `site_stats` both write table",
            ),
        ];
        for (text, message) in cases {
            let error = load(text).expect_err(text);
            assert!(error.contains(message), "{text}\n  says {error}\n  not {message}");
        }
    }
}
