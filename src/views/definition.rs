//! The definition of a view: the part of its configuration that decides which rows an event makes. The store keeps it,
//! so that a changed configuration is noticed, and so that events are folded again under the definition that made
//! their rows. Names of tables, of a ledger's columns, and the bounds of fields decide no value and are not part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use event::{Field, Fields, Form, Kind};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::ledger::LedgerDefinition;
use super::notifications::NotificationsDefinition;
use super::stats::StatsDefinition;
use super::table::RowTableDefinition;
use super::{View, ViewKind};
use crate::store::{DefinitionHash, NewDefinition, Table};

/// A definition with its stored form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    content: Content,
    stored: NewDefinition,
}

/// The stored form is this as JSON. Its hash identifies the definition, so the form of an unchanged definition must
/// not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Content {
    from: String,
    #[serde(flatten)]
    rules: Rules,
    /// The types of the fields that the view reads.
    fields: BTreeMap<String, FieldType>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Rules {
    Ledger(LedgerDefinition),
    Stats(StatsDefinition),
    Table(RowTableDefinition),
    Notifications(NotificationsDefinition),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FieldType {
    Text,
    Integer,
    Decimal,
    Time,
    Boolean,
    Any,
}

/// A setting that differs between two definitions, with its values as JSON; `None` if one of them has no such setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangedSetting {
    pub setting: String,
    pub was: Option<Value>,
    pub is: Option<Value>,
}

impl Definition {
    /// Returns the definition of a view on a stream with these fields.
    pub fn of(view: &View, fields: &Fields) -> Self {
        let (rules, read) = match &view.kind {
            ViewKind::Ledger(ledger) => (Rules::Ledger(ledger.definition(fields)), ledger.fields_read()),
            ViewKind::Stats(stats) => (Rules::Stats(stats.definition(fields)), stats.fields_read()),
            ViewKind::Table(table) => (Rules::Table(table.definition(fields)), table.fields_read()),
            ViewKind::Notifications(notifications) => {
                (Rules::Notifications(notifications.definition(fields)), notifications.fields_read())
            }
        };
        let typed = |index: usize| {
            let field = fields.get(index);
            (field.name.clone(), FieldType::of(field.kind))
        };
        Content { from: view.stream.clone(), fields: read.into_iter().map(typed).collect(), rules }.into()
    }

    /// Returns the stored form.
    pub fn stored(&self) -> &NewDefinition {
        &self.stored
    }

    /// Reads a definition of `view` from the store.
    pub fn stored_for(view: &str, text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|reason| {
            format!(
                "the store has a definition of view `{view}` that millrace cannot read ({reason}); restore its row in `millrace_definitions`"
            )
        })
    }

    /// Returns whether rows of `self`, the earlier definition, can stay when `new` applies from some event on. A view of
    /// another stream or kind has other rows.
    pub fn can_be_continued_by(&self, new: &Self) -> bool {
        let kind = std::mem::discriminant(&self.content.rules);
        self.content.from == new.content.from && kind == std::mem::discriminant(&new.content.rules)
    }

    /// Reads the stored form.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str::<Content>(text).map(Self::from).map_err(|error| error.to_string())
    }

    /// Returns the fields that the definition reads, without bounds: the source has checked those of each event, and
    /// they may have changed since.
    pub fn stream_fields(&self) -> Fields {
        let field = |(name, kind): (&String, &FieldType)| Field {
            name: name.clone(),
            kind: kind.without_bounds(),
            required: false,
            one_of: Vec::new(),
        };
        // A fold does not ask which field is the stream's key.
        Fields::new(self.content.fields.iter().map(field).collect(), 0)
    }

    /// Returns `view` with the rules of this definition: it reads events as defined here, and writes the tables of
    /// `view`. Returns `None` if the definition is of another kind, because its rows cannot be in these tables.
    pub fn rules_for(&self, view: &View, fields: &Fields) -> Option<View> {
        let kind = match (&self.content.rules, &view.kind) {
            (Rules::Ledger(rules), ViewKind::Ledger(view)) => ViewKind::Ledger(rules.build(fields, view)?),
            (Rules::Stats(rules), ViewKind::Stats(view)) => ViewKind::Stats(rules.build(fields, view)?),
            (Rules::Table(rules), ViewKind::Table(view)) => ViewKind::Table(rules.build(fields, view)?),
            (Rules::Notifications(rules), ViewKind::Notifications(view)) => {
                ViewKind::Notifications(rules.build(fields, view)?)
            }
            _ => return None,
        };
        Some(View { stream: self.content.from.clone(), kind, ..view.clone() })
    }

    /// Returns the tables of `view` that a view of this earlier definition did not have.
    pub fn missing_tables(&self, view: &View) -> Vec<Table> {
        match (&self.content.rules, &view.kind) {
            (Rules::Stats(rules), ViewKind::Stats(stats)) => {
                let had = rules.tables_of(stats);
                view.tables().tables.into_iter().filter(|table| !had.contains(&table.name)).collect()
            }
            // Views of the other kinds have the same tables under each definition.
            _ => Vec::new(),
        }
    }

    /// Returns the settings in which `self`, the earlier definition, differs from `new`.
    pub fn changes(&self, new: &Self) -> Vec<ChangedSetting> {
        let (was, is) = (self.settings(), new.settings());
        let names: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
        let mut changes = Vec::new();
        for setting in names {
            let (was, is) = (was.get(setting), is.get(setting));
            // Which fields are read follows from the other settings. Only a change of a field's type is worth a line.
            let only_used_by_one = setting.starts_with(FIELDS) && (was.is_none() || is.is_none());
            if was != is && !only_used_by_one {
                changes.push(ChangedSetting { setting: setting.clone(), was: was.cloned(), is: is.cloned() });
            }
        }
        changes
    }

    /// Returns each setting by its name. A setting inside another has the names of both, joined by a dot.
    fn settings(&self) -> BTreeMap<String, Value> {
        let json = serde_json::to_value(&self.content).expect("a definition has only text keys");
        let mut settings = BTreeMap::new();
        flatten("", json, &mut settings);
        settings
    }
}

impl From<Content> for Definition {
    fn from(content: Content) -> Self {
        let text = serde_json::to_string(&content).expect("a definition has only text keys");
        let hash = DefinitionHash(Sha256::digest(text.as_bytes()).into());
        Self { content, stored: NewDefinition { hash, text } }
    }
}

impl Serialize for Definition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.content.serialize(serializer)
    }
}

/// The prefix of the settings that are types of fields.
const FIELDS: &str = "fields.";

/// Adds the settings of an object under their names. Lists and texts are settings as a whole.
fn flatten(prefix: &str, value: Value, settings: &mut BTreeMap<String, Value>) {
    let Value::Object(object) = value else {
        settings.insert(prefix.to_owned(), value);
        return;
    };
    for (name, value) in object {
        let name = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        flatten(&name, value, settings);
    }
}

impl fmt::Display for ChangedSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.was, &self.is) {
            (Some(was), Some(is)) => write!(f, "`{}` was {was} and is now {is}", self.setting),
            (Some(was), None) => write!(f, "`{}` was {was} and is now absent", self.setting),
            (None, Some(is)) => write!(f, "`{}` was absent and is now {is}", self.setting),
            (None, None) => Ok(()),
        }
    }
}

impl FieldType {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Text { .. } => Self::Text,
            Kind::Integer { .. } => Self::Integer,
            Kind::Decimal { .. } => Self::Decimal,
            Kind::Time => Self::Time,
            Kind::Boolean => Self::Boolean,
            Kind::Any => Self::Any,
        }
    }

    fn without_bounds(self) -> Kind {
        match self {
            Self::Text => Kind::Text { chars_min: 0, chars_max: u32::MAX, form: Form::Free },
            Self::Integer => Kind::Integer { min: i64::MIN, max: i64::MAX },
            Self::Decimal => Kind::AMOUNT,
            Self::Time => Kind::Time,
            Self::Boolean => Kind::Boolean,
            Self::Any => Kind::Any,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Overrides};

    /// Returns each view of the presets with its definition.
    fn of_presets() -> Vec<(View, Definition)> {
        let config = Config::load(None, &Overrides::default()).expect("the presets are valid");
        let defined = |view: &View| (view.clone(), Definition::of(view, &config.streams[&view.stream]));
        config.views.values().map(defined).collect()
    }

    #[test]
    fn a_stored_definition_gives_the_same_rules_again() {
        for (view, definition) in of_presets() {
            let read = Definition::parse(&definition.stored().text).expect("the stored form");
            assert_eq!(read, definition, "{}", view.name);
            let fields = read.stream_fields();
            let rules = read.rules_for(&view, &fields).expect("the same kind");
            assert_eq!(Definition::of(&rules, &fields), definition, "{}", view.name);
            assert!(definition.changes(&read).is_empty());
        }
    }

    /// A changed form has another hash, so every view would pause after an upgrade.
    #[test]
    fn the_stored_form_stays_as_it_is() {
        let text = |name: &str| {
            let (_, definition) =
                of_presets().into_iter().find(|(view, _)| view.name == name).expect("a view");
            definition.stored().text.clone()
        };
        assert_eq!(
            text("revenue"),
            r#"{"from":"revenue","kind":"ledger","key":"userId","by":"name","amount":{"add_revenue":"+value","subtract_revenue":"-value"},"fields":{"name":"text","userId":"text","value":"decimal"}}"#
        );
        assert_eq!(
            text("site_stats"),
            r#"{"from":"site_events","kind":"stats","group":"site_id","distinct":"user_id","time":"timestamp","counts":["event_type","path"],"distinct_counts":[],"fields":{"event_type":"text","path":"text","site_id":"text","timestamp":"time","user_id":"text"}}"#
        );
        assert_eq!(
            text("inventory"),
            r#"{"from":"inventory","kind":"table","columns":{"created_at":"$received","price":"price","product_id":"productId","product_name":"productName","quantity":"quantity","updated_at":"$received"},"fields":{"price":"decimal","productId":"integer","productName":"text","quantity":"integer"}}"#
        );
        assert_eq!(
            text("notifications"),
            r#"{"from":"notifications","kind":"notifications","to":"payload.email","type":"eventType","payload":"payload","message":[{"words":"Hello "},{"field":"payload.username"},{"words":", welcome! (Type: "},{"field":"eventType"},{"words":")"}],"channel":"log","fields":{"eventType":"text","payload":"any","payload.email":"text","payload.username":"text"}}"#
        );
    }

    #[test]
    fn a_definition_of_another_kind_has_no_rules_for_a_view() {
        let views = of_presets();
        for (view, definition) in &views {
            let kinds = views.iter().filter(|(other, _)| other.kind_name() != view.kind_name());
            for (_, other) in kinds {
                assert!(other.rules_for(view, &other.stream_fields()).is_none());
                assert!(!other.can_be_continued_by(definition) && definition.can_be_continued_by(definition));
            }
        }
    }
}
