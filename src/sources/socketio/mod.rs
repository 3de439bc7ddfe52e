//! The source kind `socketio`: Socket.IO 4 clients send events over polling or a WebSocket. Each event is answered once
//! it is durable.
//!
//! `endpoint.rs` answers the HTTP requests at a path. A session is one task (`session.rs`), which owns the transport,
//! the pings, and the conversation in Socket.IO (`conversation.rs`).

mod connection;
mod conversation;
mod endpoint;
mod engine_packet;
mod engine_request;
mod live_event;
mod outgoing;
mod packet;
mod pending_event;
mod section;
mod session;
mod sessions;
mod transport;

pub use endpoint::SocketIoEndpoint;
pub use section::SocketIoSource;
