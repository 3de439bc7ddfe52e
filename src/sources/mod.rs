//! Sources: ways in, a file per transport or format. A source authenticates the sender, offers its events to
//! admission, and acknowledges them only when the log says that they are durable.

mod cloud_events;
mod event_texts;
mod export_line;
mod heartbeat;
mod http;
mod id_settings;
mod json_events;
mod line_buffer;
pub mod native;
mod native_request;
mod ndjson;
mod pending;
mod session_clock;
mod socket_end;
mod socket_services;
mod socketio;
mod source;
mod template;
mod watching;
mod websocket;

pub use http::HttpSource;
pub use socket_services::SocketServices;
pub use socketio::{SocketIoEndpoint, SocketIoSource};
pub use source::Source;
pub use websocket::{WebSocketEndpoint, WebSocketSource, routes as websocket_routes};
