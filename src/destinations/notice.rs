//! A notification that is being queued, as templates see it.

use event::Millis;

#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    pub id: &'a str,
    pub event_id: &'a str,
    pub event_type: &'a str,
    pub recipient: &'a str,
    pub message: &'a str,
    pub view: &'a str,
    pub created: Millis,
    /// JSON text.
    pub payload: &'a str,
    /// The whole event, as JSON text.
    pub event: &'a str,
}
