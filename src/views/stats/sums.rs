//! Adds up a batch and makes its rows. Each text gets a number when it first occurs, so an event looks up each of
//! its texts once and is counted by numbers. Texts are sorted at the end, because rows are written in key order.
//! The counts of all time are the sums of the days.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::member;
use super::{ALL_TIME, StatsFields};
use crate::store::{Cell, Visit};

/// The values of one event. `counted` are the values of the counted fields, in the order of the fields.
pub struct Facts<'e, C> {
    pub group: Cow<'e, str>,
    pub day: i64,
    pub member: Option<Cow<'e, str>>,
    pub counted: C,
}

/// The key of a count, with the numbers of its texts. In the totals of a group, field and value are the empty text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Count {
    group: u32,
    field: u32,
    day: i64,
    value: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct VisitKey {
    group: u32,
    field: u32,
    value: u32,
    member: u32,
    day: i64,
}

/// The number of the empty text.
const EMPTY: u32 = 0;

pub struct Sums<'e> {
    texts: Texts<'e>,
    /// For each counted field, the number of its name, and true if distinct members are counted for its values.
    fields: Vec<(u32, bool)>,
    counts: HashMap<Count, i64>,
    visits: HashMap<VisitKey, i64>,
}

/// The rows that change. Those of totals and counts are in key order.
pub struct Rows {
    pub totals: Vec<Cell>,
    pub counts: Vec<Cell>,
    pub visits: Vec<Visit>,
}

impl<'e> Sums<'e> {
    pub fn new(reads: &'e StatsFields) -> Self {
        let mut texts = Texts::default();
        texts.number(Cow::Borrowed(""));
        let fields = reads.counts.iter().map(|field| (texts.number((&*field.name).into()), field.distinct));
        let fields = fields.collect();
        Self { texts, fields, counts: HashMap::new(), visits: HashMap::new() }
    }

    /// Counts an event: `n` is 1, or -1 for a correction.
    pub fn add(&mut self, facts: Facts<'e, impl Iterator<Item = Cow<'e, str>>>, n: i64) {
        let Self { texts, fields, counts, visits } = self;
        let Facts { day, counted, .. } = facts;
        let group = texts.number(facts.group);
        let member = facts.member.map(|member| texts.number(member));
        let mut note = |field: u32, value: u32, distinct: bool| {
            *counts.entry(Count { group, field, day, value }).or_default() += n;
            if let (true, Some(member)) = (distinct, member) {
                *visits.entry(VisitKey { group, field, value, member, day }).or_default() += n;
            }
        };
        note(EMPTY, EMPTY, true);
        for ((field, distinct), value) in fields.iter().zip(counted) {
            note(*field, texts.number(value), *distinct);
        }
    }

    pub fn rows(self) -> Rows {
        let ordered = self.texts.in_order();
        let (mut totals, mut counts) = (Vec::new(), Vec::new());
        for (Count { group, field, day, value }, n) in with_all_time(self.counts, &ordered) {
            let cells = if field == EMPTY { &mut totals } else { &mut counts };
            let [group, field, value] = [group, field, value].map(|rank| ordered.cell(rank));
            cells.extend([group, field, Cell::Integer(day), value, Cell::Integer(n)]);
        }
        Rows { totals, counts, visits: visits(self.visits, &ordered) }
    }
}

/// Adds the counts of all time, replaces the numbers of texts by their ranks, and sorts by key.
fn with_all_time(of_days: HashMap<Count, i64>, ordered: &Ordered<'_>) -> Vec<(Count, i64)> {
    let mut all_time: HashMap<Count, i64> = HashMap::with_capacity(of_days.len());
    for (count, n) in &of_days {
        *all_time.entry(Count { day: ALL_TIME, ..*count }).or_default() += n;
    }
    let mut counts: Vec<_> = all_time.into_iter().chain(of_days).filter(|(_, n)| *n != 0).collect();
    for (Count { group, field, value, .. }, _) in &mut counts {
        for number in [group, field, value] {
            *number = ordered.rank(*number);
        }
    }
    counts.sort_unstable();
    counts
}

fn visits(sums: HashMap<VisitKey, i64>, ordered: &Ordered<'_>) -> Vec<Visit> {
    let mut groups: HashMap<[u32; 3], Arc<[Cell]>> = HashMap::new();
    let visit = |(VisitKey { group, field, value, member, day }, added): (VisitKey, i64)| {
        let parts = [group, field, value, member].map(|number| ordered.text(ordered.rank(number)));
        let cells = || [group, field, value].map(|number| ordered.cell(ordered.rank(number))).into();
        let group = Arc::clone(groups.entry([group, field, value]).or_insert_with(cells));
        Visit { member: member::key(parts), day, added, group }
    };
    sums.into_iter().map(visit).collect()
}

/// The texts of a batch, each with its number.
#[derive(Default)]
struct Texts<'e>(HashMap<Cow<'e, str>, u32>);

impl<'e> Texts<'e> {
    fn number(&mut self, text: Cow<'e, str>) -> u32 {
        let next = u32::try_from(self.0.len()).expect("a batch is far below 4 GiB");
        *self.0.entry(text).or_insert(next)
    }

    fn in_order(self) -> Ordered<'e> {
        let mut texts: Vec<_> = self.0.into_iter().collect();
        texts.sort_unstable();
        let mut ranks = vec![0; texts.len()];
        for (rank, (_, number)) in (0..).zip(&texts) {
            ranks[*number as usize] = rank;
        }
        Ordered { texts: texts.into_iter().map(|(text, _)| text).collect(), ranks }
    }
}

/// The texts in order. The rank of a text is its index. The empty text has rank 0, which is also its number.
struct Ordered<'e> {
    texts: Vec<Cow<'e, str>>,
    /// The rank of each text, by its number.
    ranks: Vec<u32>,
}

impl Ordered<'_> {
    fn rank(&self, number: u32) -> u32 {
        self.ranks[number as usize]
    }

    fn text(&self, rank: u32) -> &str {
        &self.texts[rank as usize]
    }

    fn cell(&self, rank: u32) -> Cell {
        Cell::Text(self.text(rank).to_owned())
    }
}
