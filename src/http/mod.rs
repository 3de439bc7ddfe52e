//! The parts that all HTTP routes share: bodies and their encodings, pages of other sites, request rates,
//! credentials, and errors as responses.

pub mod body;
mod body_budget;
mod content_encoding;
mod cors;
mod credentials;
mod error_response;
mod forwarded;
mod idempotency_key;
mod json_body;
pub mod key_check;
mod page_origin;
mod query;
mod rate_limits;
mod trace;
mod wording;

pub use body_budget::Share;
pub use cors::{AllowedPage, Origins};
pub use credentials::credentials;
pub use error_response::ApiError;
pub use idempotency_key::idempotency_key;
pub use json_body::JsonBody;
pub use key_check::{Administrator, Reader, Sender, StreamReader};
pub use page_origin::{Peer, client_address, foreign_page, known_host};
pub use query::Query;
pub use rate_limits::RateLimits;
pub use trace::traceparent;
pub use wording::Wording;
