//! `[view.NAME]` with `kind = "stats"`: the fields whose values are counted, per group and day.

use event::limits::{COUNTED_FIELDS_MAX, COUNTED_NAME_CHARS_MAX, KEY_CHARS_MAX};
use event::{Kind, SettingErrors, suggestion};
use serde::Deserialize;

use super::{CountedField, Stats, StatsFields};
use crate::views::batch_rule::BatchSection;
use crate::views::section::{StreamFields, table_name};

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
    pub batch: Option<BatchSection>,
}

impl StatsSection {
    /// Builds view `name` on a stream.
    pub fn build(&self, name: &str, stream: StreamFields<'_>, errors: &mut SettingErrors) -> Option<Stats> {
        let group = errors.take(&["group"], self.group(stream));
        let time = errors.take(&["time"], self.time(stream));
        let mut counts = Vec::new();
        for (index, counted) in self.counts.iter().enumerate() {
            let place = index.to_string();
            counts.extend(errors.take(&["counts", &place], self.counted(stream, counted)));
            if self.counts[..index].contains(counted) {
                errors.add(&["counts", &place], format!("counts by field `{counted}` twice"));
            }
        }
        if counts.len() > COUNTED_FIELDS_MAX {
            errors.add(&["counts"], format!("counts by more than {COUNTED_FIELDS_MAX} fields"));
        }
        for (index, other) in self.distinct_counts.iter().enumerate() {
            if !self.counts.contains(other) {
                let names = suggestion(other, "counts", self.counts.iter().map(String::as_str));
                let reason =
                    format!("has `{other}` among `distinct_counts`, which is not among `counts`{names}");
                errors.add(&["distinct_counts", &index.to_string()], reason);
            }
        }
        if self.distinct.is_none() && !self.distinct_counts.is_empty() {
            errors.add(&["distinct_counts"], "has `distinct_counts` but no `distinct` to name the field");
        }
        let distinct = match &self.distinct {
            None => Some(None),
            Some(distinct) => {
                errors.take(&["distinct"], kept(stream, "counts distinct values of", distinct)).map(Some)
            }
        };
        let table = errors.take(&["table"], table_name(self.table.as_deref(), name));
        let reads = StatsFields {
            group: group?,
            group_name: self.group.clone(),
            distinct: distinct?,
            time: time?,
            counts,
        };
        Some(Stats::new(&table?, reads))
    }

    fn group(&self, stream: StreamFields<'_>) -> Result<usize, String> {
        let group = stream.index("is grouped by", &self.group)?;
        let field = stream.fields.get(group);
        if !field.required || !matches!(field.kind, Kind::Text { .. }) {
            return Err(format!("is grouped by field `{}`, which must be required text", self.group));
        }
        kept(stream, "is grouped by", &self.group)
    }

    fn time(&self, stream: StreamFields<'_>) -> Result<Option<usize>, String> {
        let Some(name) = &self.time else { return Ok(None) };
        let time = stream.index("takes its day from", name)?;
        match stream.fields.get(time).kind {
            Kind::Time => Ok(Some(time)),
            _ => Err(format!("takes its day from field `{name}`, which is not a time")),
        }
    }

    fn counted(&self, stream: StreamFields<'_>, name: &str) -> Result<CountedField, String> {
        let field = kept(stream, "counts by", name)?;
        if name.chars().count() > COUNTED_NAME_CHARS_MAX as usize {
            return Err(format!(
                "counts by field `{name}`, whose name is longer than {COUNTED_NAME_CHARS_MAX} characters"
            ));
        }
        let distinct = self.distinct_counts.iter().any(|distinct| distinct == name);
        Ok(CountedField { field, name: name.to_owned(), distinct })
    }
}

/// Returns the index of a field. Fails if values of the field may be too long for a key in a table.
fn kept(stream: StreamFields<'_>, use_of_it: &str, name: &str) -> Result<usize, String> {
    let index = stream.index(use_of_it, name)?;
    match stream.fields.get(index).kind {
        Kind::Text { chars_max, .. } if chars_max > KEY_CHARS_MAX => {
            Err(format!("{use_of_it} field `{name}`, which may be longer than {KEY_CHARS_MAX} characters"))
        }
        Kind::Any => Err(format!("{use_of_it} field `{name}`, which may be of any size")),
        _ => Ok(index),
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
