//! What a batch adds up to, and the rows of it. Texts are numbered as they come, so that an event looks each of
//! its texts up once and is counted by numbers. The order of texts, which rows are written in, is found at the
//! end, and all time is the sum of the days.

use std::borrow::Cow;
use std::collections::HashMap;

use super::member;
use super::{ALL_TIME, StatsFields};
use crate::store::Cell;

/// What one event says; `counted` are the values of the fields that are counted, in their order.
pub struct Facts<'e, C> {
    pub group: Cow<'e, str>,
    pub day: i64,
    pub member: Option<Cow<'e, str>>,
    pub counted: C,
}

/// Numbers in the place of texts. Those of all events of a group have no field and no value: the empty text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Count {
    group: u32,
    field: u32,
    day: i64,
    value: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Visit {
    group: u32,
    field: u32,
    value: u32,
    member: u32,
    day: i64,
}

const EMPTY: u32 = 0;

pub struct Sums<'e> {
    texts: Texts<'e>,
    /// The number of each counted field's name, and whether each of its values has members of its own.
    fields: Vec<(u32, bool)>,
    counts: HashMap<Count, i64>,
    visits: HashMap<Visit, i64>,
}

/// Cells of rows, row by row in the order of keys.
pub struct Rows {
    pub totals: Vec<Cell>,
    pub counts: Vec<Cell>,
    pub visits: Vec<Cell>,
}

impl<'e> Sums<'e> {
    pub fn new(reads: &'e StatsFields) -> Self {
        let mut texts = Texts::default();
        texts.number(Cow::Borrowed(""));
        let fields = reads.counts.iter().map(|field| (texts.number((&*field.name).into()), field.distinct));
        let fields = fields.collect();
        Self { texts, fields, counts: HashMap::new(), visits: HashMap::new() }
    }

    /// An event comes (1), or is taken back (-1).
    pub fn add(&mut self, facts: Facts<'e, impl Iterator<Item = Cow<'e, str>>>, n: i64) {
        let Self { texts, fields, counts, visits } = self;
        let Facts { day, counted, .. } = facts;
        let group = texts.number(facts.group);
        let member = facts.member.map(|member| texts.number(member));
        let mut note = |field: u32, value: u32, distinct: bool| {
            *counts.entry(Count { group, field, day, value }).or_default() += n;
            if let (true, Some(member)) = (distinct, member) {
                *visits.entry(Visit { group, field, value, member, day }).or_default() += n;
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
            let [group, field, value] = [group, field, value].map(|place| ordered.cell(place));
            cells.extend([group, field, Cell::Integer(day), value, Cell::Integer(n)]);
        }
        Rows { totals, counts, visits: visits(self.visits, &ordered) }
    }
}

/// In the order of keys, with the places of texts for their numbers.
fn with_all_time(of_days: HashMap<Count, i64>, ordered: &Ordered<'_>) -> Vec<(Count, i64)> {
    let mut all_time: HashMap<Count, i64> = HashMap::with_capacity(of_days.len());
    for (count, n) in &of_days {
        *all_time.entry(Count { day: ALL_TIME, ..*count }).or_default() += n;
    }
    let mut counts: Vec<_> = all_time.into_iter().chain(of_days).filter(|(_, n)| *n != 0).collect();
    for (Count { group, field, value, .. }, _) in &mut counts {
        for number in [group, field, value] {
            *number = ordered.place(*number);
        }
    }
    counts.sort_unstable();
    counts
}

/// In the order of the members' names.
fn visits(visits: HashMap<Visit, i64>, ordered: &Ordered<'_>) -> Vec<Cell> {
    let named = |(visit, n): (Visit, i64)| {
        let Visit { group, field, value, member, day } = visit;
        let parts = [group, field, value, member].map(|number| ordered.text(ordered.place(number)));
        (member::name(parts), day, parts, n)
    };
    let mut named: Vec<_> = visits.into_iter().filter(|(_, n)| *n != 0).map(named).collect();
    named.sort_unstable();
    let cells = named.into_iter().flat_map(|(name, day, [group, field, value, _], n)| {
        let [group, field, value] = [group, field, value].map(|text| Cell::Text(text.to_owned()));
        [group, field, value, Cell::Bytes(name.to_vec()), Cell::Integer(day), Cell::Integer(n)]
    });
    cells.collect()
}

/// Each text once, with its number.
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
        let mut places = vec![0; texts.len()];
        for (place, (_, number)) in (0..).zip(&texts) {
            places[*number as usize] = place;
        }
        Ordered { texts: texts.into_iter().map(|(text, _)| text).collect(), places }
    }
}

/// The empty text is the first here as well.
struct Ordered<'e> {
    texts: Vec<Cow<'e, str>>,
    /// By the texts' numbers.
    places: Vec<u32>,
}

impl Ordered<'_> {
    fn place(&self, number: u32) -> u32 {
        self.places[number as usize]
    }

    fn text(&self, place: u32) -> &str {
        &self.texts[place as usize]
    }

    fn cell(&self, place: u32) -> Cell {
        Cell::Text(self.text(place).to_owned())
    }
}
