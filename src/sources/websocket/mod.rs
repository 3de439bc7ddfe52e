//! The source kind `websocket`: each text frame brings events, and is answered once they are durable. The native API
//! has such a source for each stream, at `GET /v1/streams/{stream}/socket`. A client can watch changes over the same
//! connection, or over one that is only for that, at `GET /v1/live/socket`.

mod endpoint;
mod frame;
mod live_frame;
mod section;
mod session;
mod sign_in;

pub use endpoint::{WebSocketEndpoint, routes};
pub use section::WebSocketSource;
