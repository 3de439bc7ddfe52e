//! The definitions of a view over the log: each applies from its position on, until the next one. An event is folded
//! under the definition of its own position, and a correction under that of the event it undoes, so that the fold
//! reverses what it did.

use event::Fields;

use super::definition::Definition;
use super::{Event, Folded, View};
use crate::store::StoredDefinition;

/// In the order of their positions. Events before the first range belong to it.
#[derive(Default)]
pub struct DefinitionRanges(Vec<DefinitionRange>);

pub struct DefinitionRange {
    /// The position from which on the definition applies.
    from: u64,
    pub stream: String,
    /// `None` for a definition of another kind of view, whose rows are not in this view's tables.
    pub rules: Option<Rules>,
}

/// A view as an earlier or the present definition declares it, with the tables of the present one.
pub struct Rules {
    pub view: View,
    pub fields: Fields,
}

impl DefinitionRanges {
    /// Reads the stored definitions of `view`. Fails if one of them was not written by millrace.
    pub fn read(stored: &[StoredDefinition], view: &View) -> Result<Self, String> {
        let range = |stored: &StoredDefinition| {
            let definition = Definition::parse(&stored.text).map_err(|reason| {
                format!(
                    "the store has a definition of view `{}` that millrace cannot read ({reason}); restore its row in `millrace_definitions`",
                    view.name
                )
            })?;
            let fields = definition.stream_fields();
            let rules = definition.rules_for(view, &fields).map(|view| Rules { view, fields });
            Ok(DefinitionRange { from: stored.from, stream: definition.stream().to_owned(), rules })
        };
        stored.iter().map(range).collect::<Result<_, String>>().map(Self)
    }

    /// Returns the range that `position` belongs to, and the position at which it ends; `None` if there is no range.
    pub fn at(&self, position: u64) -> Option<(&DefinitionRange, Option<u64>)> {
        let index = self.index_of(position);
        Some((self.0.get(index)?, self.0.get(index + 1).map(|next| next.from)))
    }

    /// Returns true if an event undoes one that was folded under an earlier definition than the present one.
    pub fn undo_earlier(&self, events: &[Event<'_>]) -> bool {
        let present = self.0.len().saturating_sub(1);
        present > 0 && events.iter().any(|event| self.index_of(origin(event)) < present)
    }

    /// Folds events, each under its definition.
    pub fn fold(&self, events: &[Event<'_>]) -> Folded {
        let (mut folded, mut before) = (Folded::default(), 0);
        for run in events.chunk_by(|one, next| self.index_of(origin(one)) == self.index_of(origin(next))) {
            let range = run.first().and_then(|event| self.0.get(self.index_of(origin(event))));
            if let Some(Rules { view, fields }) = range.and_then(|range| range.rules.as_ref()) {
                folded.append(view.fold(fields, run), before);
            }
            before += run.len();
        }
        folded
    }

    fn index_of(&self, position: u64) -> usize {
        self.0.partition_point(|range| range.from <= position).saturating_sub(1)
    }
}

/// Returns the position of the event whose effect this event adds or undoes.
fn origin(event: &Event<'_>) -> u64 {
    event.corrects.unwrap_or(event.position)
}
