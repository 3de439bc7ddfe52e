//! The source kind `websocket`: each text frame brings events, and is answered once they are durable. The native API
//! has such a source for each stream, at `GET /v1/streams/{stream}/socket`.

mod endpoint;
mod frame;
mod section;
mod session;
mod sign_in;

pub use endpoint::{WebSocketEndpoint, routes};
pub use section::WebSocketSource;
