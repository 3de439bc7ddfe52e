//! Deciding on one request and one event: who sends it, and whether it is what its stream declares.
//! Either it is admitted, or it is refused with a reason; nothing of a refused one is stored.

pub mod body;
mod coding;
mod cors;
mod forwarded;
mod keys;
mod origin;
mod rate;
mod recent;
mod refusal;
mod share;
mod targets;
mod trace;
mod wording;

pub use cors::{AllowedPage, Origins};
pub use keys::{Key, KeyError, Keys, NewKey, Scope, weak_key};
pub use origin::{Peer, foreign_page, known_host, origin};
pub use rate::RateLimits;
pub use recent::RecentIds;
pub use refusal::{Indexed, Place, Refusal};
pub use share::Share;
pub use targets::{Targets, TargetsHeld, Whose};
pub use trace::traceparent;
pub use wording::Wording;
