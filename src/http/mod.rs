//! The parts that all HTTP routes share: bodies and their encodings, pages of other sites, request rates,
//! credentials, and errors as responses.

mod access;
pub mod body;
mod body_budget;
mod content_encoding;
mod contract_path;
mod cors;
mod credentials;
mod error_response;
mod event_stream;
mod forwarded;
mod handshake;
mod idempotency_key;
mod json_body;
pub mod key_check;
mod network;
mod page_origin;
mod query;
mod query_error;
mod rate;
mod rate_limits;
mod sockets;
mod trace;
pub mod websocket;
mod wording;

pub use access::Access;
pub use body_budget::Share;
pub use contract_path::{ContractPath, check_path, path_spellings};
pub use cors::{AllowedPage, Origins, checked_origin};
pub use credentials::{credentials, literal_key};
pub use error_response::ApiError;
pub use event_stream::{
    EndlessAnswer, begin_event, event_stream, is_one_line, write_event, write_heartbeat, write_retry,
};
pub use handshake::{Handshake, random_id};
pub use idempotency_key::{idempotency_key, replayed};
pub use json_body::JsonBody;
pub use key_check::{Administrator, HasKeys, Reader, Sender, StreamReader};
pub use network::Network;
pub use page_origin::{Peer, client_address, foreign_page, known_host, sent_from};
pub use query::Query;
pub use rate::Limits;
pub use rate_limits::RateLimits;
pub use sockets::{OpenSocket, Sockets};
pub use trace::traceparent;
pub use wording::{ErrorTexts, Wording, check_placeholders};
