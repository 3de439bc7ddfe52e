//! The bounds of sockets: connections that stay open after their request.

use std::time::Duration;

use super::EVENT_BYTES_MAX;

/// Open sockets and sessions, besides the connections of requests. The process's limit of open files may lower it.
pub const SOCKETS_MAX: usize = 32_768;
/// The part of them that one address (IPv6: one /64) can have, in eighths, so that it cannot take all of them.
pub const SOCKETS_OF_ADDRESS_EIGHTHS: usize = 7;
/// The part of them that connections can have that only subscribe, in eighths.
pub const SUBSCRIBERS_EIGHTHS: usize = 7;
/// Sockets of one address whose clients have not connected to a source yet.
pub const STRANGERS_OF_ADDRESS_MAX: usize = 1_024;
/// Time for a new socket to say who it is. Then it is closed.
pub const SOCKET_SIGN_IN_DURATION_MAX: Duration = Duration::from_secs(15);
/// Refused attempts of one socket to say who it is. Then it is closed.
pub const SOCKET_SIGN_INS_MAX: u32 = 5;
/// One message of a socket: an event, and the protocol's part around it. A larger one ends the connection.
pub const SOCKET_MESSAGE_BYTES_MAX: usize = EVENT_BYTES_MAX + 16 * 1024;
/// A header of the first request that a socket keeps. A longer one is cut, and its key or origin is unknown then.
pub const SOCKET_HEADER_BYTES_MAX: usize = 2 * 1024;
/// One read from a socket.
pub const SOCKET_BUFFER_BYTES: usize = 4 * 1024;
/// A larger buffer of a socket is given back after its message.
pub const SOCKET_BUFFER_KEPT_BYTES_MAX: usize = 16 * 1024;
/// An incomplete message above this size is counted in `BODIES_BYTES_MAX`.
pub const SOCKET_MESSAGE_BYTES_UNCOUNTED_MAX: usize = 16 * 1024;
/// Events of one socket that wait to be durable. Then no more of its messages are read.
pub const SOCKET_EVENTS_PENDING_MAX: usize = 256;
/// The texts of these events together, unless a single one is larger.
pub const SOCKET_EVENTS_PENDING_BYTES_MAX: usize = 256 * 1024;
/// Memory that is counted for the answer to a frame with several events, as a multiple of the frame.
pub const FRAME_ANSWER_FACTOR: usize = 8;
/// The most that is counted: the ids of an array's events, or the faults that one answer lists, need no more.
pub const FRAME_ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// The answers of one WebSocket that wait for earlier ones. Above it, no more of its frames are read.
pub const FRAME_ANSWERS_WAITING_BYTES_MAX: usize = 64 * 1024;
/// Faults that the answer to a frame lists. The others are only counted.
pub const FRAME_FAULTS_LISTED_MAX: usize = 100;
/// Packets of a polling client in one request. A larger single packet is sent alone.
pub const POLLING_PAYLOAD_BYTES: usize = 128 * 1024;
/// The answers to one client that wait to be sent. Above it, no more of its messages are read.
pub const SOCKET_OUTGOING_BYTES_MAX: usize = 64 * 1024;
/// Time in which a client reads nothing of what is sent to it. Then its socket is closed.
pub const SOCKET_WRITE_DURATION_MAX: Duration = Duration::from_secs(20);
/// Time between two pings of a WebSocket, and how long the answer to one may take.
pub const SOCKET_PING_INTERVAL: Duration = Duration::from_secs(25);
pub const SOCKET_PONG_DURATION_MAX: Duration = Duration::from_secs(60);
/// Time for a client to close its side after the server has closed the socket.
pub const SOCKET_CLOSE_DURATION_MAX: Duration = Duration::from_secs(2);
/// Time for a Socket.IO client to finish the change from polling to a WebSocket.
pub const UPGRADE_DURATION_MAX: Duration = Duration::from_secs(10);
/// Requests of one polling session that wait for it. A client sends at most one of each kind at a time.
pub const SESSION_REQUESTS_WAITING_MAX: usize = 4;
/// The packets of a polling client that is in no namespace yet.
pub const SOCKET_FIRST_POST_BYTES_MAX: usize = 64 * 1024;
/// Binary attachments of one Socket.IO message.
pub const ATTACHMENTS_MAX: usize = 16;
/// The text of one `auth` of a Socket.IO client.
pub const SIGN_IN_BYTES_MAX: usize = 4 * 1024;
/// The sender's description of its program, such as a browser's `User-Agent`. A longer one is cut.
pub const USER_AGENT_CHARS_MAX: usize = 512;
/// The name of a connection, which the server gives it.
pub const CLIENT_CHARS_MAX: usize = 64;
