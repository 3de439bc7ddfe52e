//! What a plan does to dead letters.

use event::{EventId, LogId, Millis};

/// A change that a plan makes to a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadLetterChange {
    New(NewDeadLetter),
    /// A dead letter that was sent again has been applied.
    Applied {
        id: EventId,
        at: Millis,
    },
    /// A dead letter of `view`, sent again at `position`, has failed again.
    Again {
        id: EventId,
        view: String,
        position: u64,
        reason: String,
        at: Millis,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDeadLetter {
    pub id: EventId,
    pub view: String,
    pub position: u64,
    pub event_id: EventId,
    pub stream: String,
    pub reason: String,
    pub event: String,
    pub at: Millis,
    /// The notification that could not be sent, and its destination.
    pub delivery: Option<(String, String)>,
}

impl NewDeadLetter {
    /// Returns the id of the dead letter for a view and a position in a log. The id is always the same, so writing
    /// the dead letter again does not create a second one.
    pub fn id(view: &str, log: LogId, position: u64) -> EventId {
        EventId::derived("dead-letter", view, &format!("{log}:{position}"))
    }
}
