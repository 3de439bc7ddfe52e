//! WebSockets (RFC 6455), the server's side. It is written here, because a library's buffers cannot be bounded: the
//! memory of an incomplete message counts as that of a body, and a socket gives the buffer of a large message back.

mod frame;
mod socket;
mod upgrade;

pub use socket::{CloseReason, Message, WebSocket};
pub use upgrade::{Upgrade, wants_websocket};
