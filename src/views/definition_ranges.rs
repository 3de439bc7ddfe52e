//! The definitions of a view over the log: each applies from its position on, until the next one. An event is folded
//! under the definition of its own position, and a correction under that of the event it undoes, so that the fold
//! reverses what it did.

use event::Fields;

use super::definition::Definition;
use super::{Event, Folded, View, ViewKind};
use crate::store::StoredDefinition;

#[derive(Default)]
pub struct DefinitionRanges {
    /// In the order of their positions. Events before the first range belong to it.
    ranges: Vec<DefinitionRange>,
    /// True for a table of rows: a correction finds its row by the event's position and needs no definition.
    has_row_positions: bool,
}

/// A view as a stored definition declares it, with the tables of the present one.
pub struct DefinitionRange {
    /// The position from which on the definition applies.
    from: u64,
    pub view: View,
    pub fields: Fields,
}

impl DefinitionRanges {
    /// Reads the stored definitions of `view`. Fails if one of them was not written by millrace.
    pub fn read(stored: &[StoredDefinition], view: &View) -> Result<Self, String> {
        let range = |stored: &StoredDefinition| {
            let definition = Definition::stored_for(&view.name, &stored.text)?;
            let fields = definition.stream_fields();
            let rules = definition.rules_for(view, &fields).ok_or_else(|| {
                format!(
                    "the store has a definition of view `{}` of another kind; run `millrace view rebuild {}`",
                    view.name, view.name
                )
            })?;
            Ok(DefinitionRange { from: stored.from, view: rules, fields })
        };
        let ranges = stored.iter().map(range).collect::<Result<_, String>>()?;
        Ok(Self { ranges, has_row_positions: matches!(view.kind, ViewKind::Table(_)) })
    }

    /// Returns the range that `position` belongs to, and the position at which it ends; `None` if there is no range.
    pub fn at(&self, position: u64) -> Option<(&DefinitionRange, Option<u64>)> {
        let index = self.index_of(position);
        Some((self.ranges.get(index)?, self.ranges.get(index + 1).map(|next| next.from)))
    }

    /// Returns true if an event undoes one that was folded under an earlier definition than the present one.
    pub fn undo_earlier(&self, events: &[Event<'_>]) -> bool {
        let present = self.ranges.len().saturating_sub(1);
        present > 0 && events.iter().any(|event| self.index_of(self.origin(event)) < present)
    }

    /// Folds events, each under its definition.
    pub fn fold(&self, events: &[Event<'_>]) -> Folded {
        let (mut folded, mut before) = (Folded::default(), 0);
        let range_of = |event: &Event<'_>| self.index_of(self.origin(event));
        for run in events.chunk_by(|one, next| range_of(one) == range_of(next)) {
            if let Some(DefinitionRange { view, fields, .. }) =
                run.first().and_then(|event| self.ranges.get(range_of(event)))
            {
                folded.append(view.fold(fields, run), before);
            }
            before += run.len();
        }
        folded
    }

    fn index_of(&self, position: u64) -> usize {
        self.ranges.partition_point(|range| range.from <= position).saturating_sub(1)
    }

    /// Returns the position of the event whose definition decides.
    fn origin(&self, event: &Event<'_>) -> u64 {
        event.corrects.filter(|_| !self.has_row_positions).unwrap_or(event.position)
    }
}
