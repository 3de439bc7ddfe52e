//! Statistics count events by the value of one field, for each day and for all time. They can also count the values
//! of other fields, and distinct users. A query reads only a few rows.

mod definition;
mod fold;
mod group_stats;
mod member;
mod parameters;
mod query;
mod section;
mod sql_views;
mod sums;

use std::sync::Arc;

use event::limits::{COUNTED_NAME_CHARS_MAX, KEY_CHARS_MAX, TOP_VALUES_MAX};

use crate::store::{ColumnKind, MEMBER_BYTES, Table, TopK, ViewTables};

pub use definition::StatsDefinition;
pub use group_stats::GroupStats;
pub use parameters::{ParameterError, StatsParameters};
pub use query::{Counted, Frequent, StatsQuery, Summary};
pub use section::StatsSection;

/// The day under which counts of all time are stored.
const ALL_TIME: i64 = 0;
/// The field name under which the totals of a group are stored.
const ALL: &str = "";
/// The text stored for an absent value. No value is equal to it, because empty text counts as absent.
const ABSENT: &str = "";

/// What the names of the tables end in.
const TABLES: [&str; 5] = ["counts", "top", "floors", "members", "spans"];

#[derive(Clone, Debug)]
pub struct Stats {
    /// The beginning of the tables' names.
    prefix: String,
    reads: StatsFields,
    tables: Tables,
}

/// The fields that statistics read, as indexes into the stream's fields.
#[derive(Clone, Debug)]
pub struct StatsFields {
    pub group: usize,
    pub group_name: String,
    /// The field whose distinct values, called members, are counted.
    pub distinct: Option<usize>,
    /// The field with the event's own time. If it is absent, the time of arrival counts.
    pub time: Option<usize>,
    pub counts: Vec<CountedField>,
}

/// A field whose values are counted.
#[derive(Clone, Debug)]
pub struct CountedField {
    pub field: usize,
    pub name: String,
    /// True if distinct members are also counted for each value.
    pub distinct: bool,
}

/// The view's tables. `totals` is the same table as `counts`, but without the ranking, which totals do not need.
#[derive(Clone, Debug)]
struct Tables {
    totals: Arc<Table>,
    counts: Arc<Table>,
    distinct: Option<Distinct>,
}

#[derive(Clone, Debug)]
struct Distinct {
    members: Arc<Table>,
    day_gaps: Arc<Table>,
}

impl Stats {
    pub fn new(prefix: &str, reads: StatsFields) -> Self {
        let tables = Tables::new(prefix, reads.distinct.is_some());
        Self { prefix: prefix.to_owned(), reads, tables }
    }

    /// Returns the same statistics in tables with another prefix.
    pub fn in_tables(&self, prefix: &str) -> Self {
        Self::new(prefix, self.reads.clone())
    }

    pub fn tables(&self) -> Vec<Table> {
        let Tables { counts, distinct, .. } = &self.tables;
        let distinct = distinct.iter().flat_map(|distinct| [&distinct.members, &distinct.day_gaps]);
        std::iter::once(counts).chain(distinct).map(|table| table.as_ref().clone()).collect()
    }

    /// Returns the tables, and the SQL views through which people read them.
    pub fn view_tables(&self) -> ViewTables {
        ViewTables {
            tables: self.tables(),
            owned: true,
            sql_views: self.sql_views(),
            ..ViewTables::default()
        }
    }

    /// Returns the names of all tables that the view may have, so that no other view takes one of them.
    pub fn table_names(&self) -> Vec<String> {
        TABLES.map(|part| format!("{}_{part}", self.prefix)).into()
    }

    pub fn group_name(&self) -> &str {
        &self.reads.group_name
    }

    /// Returns true if distinct members are counted.
    pub fn counts_distinct(&self) -> bool {
        self.reads.distinct.is_some()
    }

    /// Returns the counted field of this name.
    pub fn counted(&self, name: &str) -> Option<&CountedField> {
        self.reads.counts.iter().find(|counted| counted.name == name)
    }

    pub fn counted_names(&self) -> impl Iterator<Item = &str> {
        self.reads.counts.iter().map(|counted| counted.name.as_str())
    }
}

impl Tables {
    fn new(prefix: &str, distinct: bool) -> Self {
        let name = |part: &str| format!("{prefix}_{part}");
        let (text, integer) = (ColumnKind::Text { chars_max: KEY_CHARS_MAX }, ColumnKind::Integer);
        let field = ColumnKind::Text { chars_max: COUNTED_NAME_CHARS_MAX };
        let columns = [("grp", text), ("field", field), ("day", integer), ("value", text), ("n", integer)];
        let totals = Table::new(&name("counts"), 4, &columns);
        let ranking = TopK { top_table: name("top"), floor_table: name("floors"), limit_max: TOP_VALUES_MAX };
        let counts = Table { ranking: Some(ranking), ..totals.clone() };
        let of_value = [("grp", text), ("field", field), ("value", text)];
        let distinct = distinct.then(|| {
            let between = [("day", integer), ("before", integer), ("n", integer)];
            let day_gaps = Arc::new(Table::new(&name("spans"), 5, &[of_value, between].concat()));
            let member = ColumnKind::Bytes { bytes_max: MEMBER_BYTES as u32 };
            let visits = [("member", member), ("day", integer), ("n", integer)];
            Distinct { members: Arc::new(Table::new(&name("members"), 2, &visits)), day_gaps }
        });
        Self { totals: Arc::new(totals), counts: Arc::new(counts), distinct }
    }
}
