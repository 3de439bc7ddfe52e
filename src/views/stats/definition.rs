//! The rules of statistics in the form in which the store keeps them.

use event::Fields;
use serde::{Deserialize, Serialize};

use super::{CountedField, Stats, StatsFields};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsDefinition {
    group: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    distinct: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    /// In the order of their names, because their order decides nothing.
    counts: Vec<String>,
    distinct_counts: Vec<String>,
}

impl Stats {
    pub fn definition(&self, fields: &Fields) -> StatsDefinition {
        let name = |field: usize| fields.get(field).name.clone();
        let counted = |which: fn(&CountedField) -> bool| {
            let names = self.reads.counts.iter().filter(|counted| which(counted));
            let mut names: Vec<String> = names.map(|counted| counted.name.clone()).collect();
            names.sort_unstable();
            names
        };
        StatsDefinition {
            group: name(self.reads.group),
            distinct: self.reads.distinct.map(name),
            time: self.reads.time.map(name),
            counts: counted(|_| true),
            distinct_counts: counted(|counted| counted.distinct),
        }
    }

    /// Returns the fields that the statistics read.
    pub fn fields_read(&self) -> Vec<usize> {
        let StatsFields { group, distinct, time, counts, .. } = &self.reads;
        let optional = [*distinct, *time].into_iter().flatten();
        optional.chain(counts.iter().map(|counted| counted.field)).chain([*group]).collect()
    }
}

impl StatsDefinition {
    /// Returns statistics with these rules and the tables of `stats`. Tables that only one of them has stay unused.
    pub fn build(&self, fields: &Fields, stats: &Stats) -> Option<Stats> {
        let index = |name: &Option<String>| match name {
            Some(name) => fields.index_of(name).map(Some),
            None => Some(None),
        };
        let has_members = stats.tables.distinct.is_some();
        let counted = |name: &String| {
            let distinct = has_members && self.distinct_counts.contains(name);
            Some(CountedField { field: fields.index_of(name)?, name: name.clone(), distinct })
        };
        let reads = StatsFields {
            group: fields.index_of(&self.group)?,
            group_name: self.group.clone(),
            distinct: index(&self.distinct)?.filter(|_| has_members),
            time: index(&self.time)?,
            counts: self.counts.iter().map(counted).collect::<Option<_>>()?,
        };
        Some(Stats { reads, ..stats.clone() })
    }

    /// Returns the names of the tables among those of `stats` that statistics with these rules write.
    pub fn tables_of(&self, stats: &Stats) -> Vec<String> {
        let of_members = stats.tables.distinct.iter().filter(|_| self.distinct.is_some());
        let of_members = of_members.flat_map(|distinct| [&distinct.members, &distinct.day_gaps]);
        std::iter::once(&stats.tables.counts).chain(of_members).map(|table| table.name.clone()).collect()
    }
}
