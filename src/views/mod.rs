//! Views: what a stream becomes. Each runs by itself: its own position, its own transaction, its own
//! trouble. A view kind is a folder with its fold, its tables and its queries; here is the list of them.

mod batch;
mod bisect;
mod dead_letter;
mod erasure;
mod ledger;
mod rebuild;
mod runner;

use crate::event::Fields;
use crate::store::{ViewTables, Write};

pub use batch::{BatchError, Event};
pub use dead_letter::{LetterError, drop_letter, only_view, retry};
pub use erasure::{Eraser, ErasureError, Erasures, Person};
pub use ledger::{Amount, Balance, Ledger, Rule};
pub use rebuild::{Difference, RebuildError, Report, compare, rebuild};
pub use runner::{Runner, Running};

/// One view as declared.
#[derive(Clone)]
pub struct View {
    pub name: String,
    pub stream: String,
    pub kind: ViewKind,
}

/// A closed set; each kind has a folder.
#[derive(Clone)]
pub enum ViewKind {
    Ledger(Ledger),
}

/// What a fold makes of a batch: rows, and the events it could not read, with the reason.
#[derive(Default)]
pub struct Folded {
    pub writes: Vec<Write>,
    pub refused: Vec<(usize, String)>,
}

impl View {
    fn fold(&self, fields: &Fields, events: &[Event<'_>]) -> Folded {
        match &self.kind {
            ViewKind::Ledger(ledger) => ledger.fold(fields, events),
        }
    }

    fn tables(&self) -> ViewTables {
        match &self.kind {
            ViewKind::Ledger(ledger) => ViewTables {
                tables: vec![ledger.table().as_ref().clone()],
                opening: Some(ledger.opening(&self.name)),
                owned: true,
            },
        }
    }
}
