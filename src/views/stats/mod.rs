//! Statistics: for each value of one field, how many events there were, on each day and in all, how many of
//! each value of some other fields, and how many distinct users. Each answer is a few rows.

mod fold;
mod member;
mod query;
mod sums;

use std::sync::Arc;

use event::limits::{COUNTED_NAME_CHARS_MAX, KEY_CHARS_MAX, TOP_VALUES_MAX};

use crate::store::{ColumnKind, DayGaps, DerivedIndex, Table, TopK};
use member::MEMBER_BYTES;

pub use query::{Counted, Frequent, StatsQuery, Summary};

/// Day 0 stands for all time, and a field without a name for all events of a group.
const ALL_TIME: i64 = 0;
const ALL: &str = "";
/// The text of what an event does not have: empty text counts as absent, and so is free for it.
const ABSENT: &str = "";

#[derive(Clone)]
pub struct Stats {
    reads: StatsFields,
    tables: Tables,
}

/// Which fields it reads, by their index among the stream's.
#[derive(Clone)]
pub struct StatsFields {
    pub group: usize,
    pub group_name: String,
    /// Whose values are counted as distinct members.
    pub distinct: Option<usize>,
    /// The event's own time; without one, that of arrival counts.
    pub time: Option<usize>,
    pub counts: Vec<CountedField>,
}

/// A field whose values are counted.
#[derive(Clone)]
pub struct CountedField {
    pub field: usize,
    pub name: String,
    /// Whether distinct members are counted for each value, too.
    pub distinct: bool,
}

/// The view's own tables. Totals are rows of `counts`, and need no ranking.
#[derive(Clone)]
struct Tables {
    totals: Arc<Table>,
    counts: Arc<Table>,
    distinct: Option<Distinct>,
}

#[derive(Clone)]
struct Distinct {
    members: Arc<Table>,
    spans: Arc<Table>,
}

impl Stats {
    pub fn new(prefix: &str, reads: StatsFields) -> Self {
        let tables = Tables::new(prefix, reads.distinct.is_some());
        Self { reads, tables }
    }

    /// The same statistics in other tables.
    pub fn in_tables(&self, prefix: &str) -> Self {
        Self::new(prefix, self.reads.clone())
    }

    pub fn tables(&self) -> Vec<Table> {
        let Tables { counts, distinct, .. } = &self.tables;
        let distinct = distinct.iter().flat_map(|distinct| [&distinct.members, &distinct.spans]);
        std::iter::once(counts).chain(distinct).map(|table| table.as_ref().clone()).collect()
    }

    pub fn group_name(&self) -> &str {
        &self.reads.group_name
    }

    /// Whether distinct members are counted.
    pub fn counts_distinct(&self) -> bool {
        self.reads.distinct.is_some()
    }

    /// The field of this name, if its values are counted.
    pub fn counted(&self, name: &str) -> Option<&CountedField> {
        self.reads.counts.iter().find(|counted| counted.name == name)
    }
}

impl Tables {
    fn new(prefix: &str, distinct: bool) -> Self {
        let name = |part: &str| format!("{prefix}_{part}");
        let (text, integer) = (ColumnKind::Text { chars_max: KEY_CHARS_MAX }, ColumnKind::Integer);
        let field = ColumnKind::Text { chars_max: COUNTED_NAME_CHARS_MAX };
        let columns = [("grp", text), ("field", field), ("day", integer), ("value", text), ("n", integer)];
        let totals = Table::new(&name("counts"), 4, &columns);
        let ranking = TopK { boards: name("top"), floors: name("floors"), asked_max: TOP_VALUES_MAX };
        let counts = totals.clone().with(DerivedIndex::TopK(ranking));
        let of_value = [("grp", text), ("field", field), ("value", text)];
        let distinct = distinct.then(|| {
            let between = [("day", integer), ("before", integer), ("n", integer)];
            let spans = Arc::new(Table::new(&name("spans"), 5, &[of_value, between].concat()));
            let member = ColumnKind::Bytes { bytes_max: MEMBER_BYTES };
            let visits = [("member", member), ("day", integer), ("n", integer)];
            let derived_index = DerivedIndex::DayGaps(DayGaps { table: Arc::clone(&spans) });
            Distinct {
                members: Arc::new(Table::new(&name("members"), 2, &visits).with(derived_index)),
                spans,
            }
        });
        Self { totals: Arc::new(totals), counts: Arc::new(counts), distinct }
    }
}
