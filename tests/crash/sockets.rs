//! Requests over sockets. Several of them are on their way at once over one connection, which is opened again after it
//! broke.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, Result};
use std::time::Duration;

use serde_json::Value;

use crate::harness::socketio::{Packet, SocketIo};
use crate::harness::websocket::WebSocket;
use crate::harness::{Client, wait_for};
use crate::history::{FrameForm, History, Outcome, Request, Source, Transport};
use crate::load::event_texts;

/// A source over Socket.IO that leads into the same stream, and whose ids have the same scope, as the other requests.
pub const SOCKETIO_SOURCE: &str = r#"
[source.socket_sales]
kind = "socketio"
path = "/socket.io"
event = "sale"
stream = "revenue"
ids = true
answer = '{"status":"success","id":"{eventId}"}'
answer_event = "saleStored"
"#;

const SOCKETIO_PATH: &str = "/socket.io";
const SOCKETIO_EVENT: &str = "sale";
const WEBSOCKET_PATH: &str = "/v1/streams/revenue/socket";

const ANSWER_DURATION_MAX: Duration = Duration::from_secs(60);
/// The maximum of requests that are on their way over one connection. They fit into its buffers, so that neither side
/// waits for the other to read.
const IN_FLIGHT_MAX: usize = 8;

/// The open connections of one sender.
pub struct Sockets<'a> {
    history: &'a History,
    client: Client,
    socketio: Option<Connection>,
    websocket: Option<Connection>,
}

struct Connection {
    number: u64,
    socket: Socket,
}

enum Socket {
    SocketIo(SocketIo),
    WebSocket(WebSocket),
}

enum Answer {
    Stored {
        ids: Vec<String>,
    },
    /// The code of the refusal.
    Refused(String),
}

impl<'a> Sockets<'a> {
    pub fn new(history: &'a History, client: Client) -> Self {
        Self { history, client, socketio: None, websocket: None }
    }

    /// Sends requests, which have the same transport, and records them and their outcomes in the history. If the
    /// connection breaks, the outcomes of the requests without an answer are unknown. Returns false if no connection can
    /// be opened, because the server is gone.
    pub fn send(&mut self, requests: &mut [Request]) -> bool {
        let Some(transport) = requests.first().map(|request| request.source.transport()) else { return true };
        let open = match transport {
            Transport::SocketIo => &mut self.socketio,
            Transport::WebSocket => &mut self.websocket,
            Transport::Http => unreachable!("sent over HTTP"),
        };
        let mut connection = match open.take() {
            Some(connection) => connection,
            None => match Socket::open(transport, &self.client) {
                Ok(socket) => Connection { number: self.history.new_connection(), socket },
                Err(error) if error.kind() == ErrorKind::Other => {
                    println!("the server refuses a socket: {error}");
                    return true;
                }
                Err(_) => return false,
            },
        };
        for request in requests.iter_mut() {
            request.connection.get_or_insert(connection.number);
        }
        self.history.sending(requests);
        match connection.socket.exchange(self.history, requests) {
            Ok(()) => *open = Some(connection),
            Err(error) if [ErrorKind::InvalidData, ErrorKind::TimedOut].contains(&error.kind()) => {
                panic!("{error}; the requests were {requests:?}");
            }
            Err(_) => {}
        }
        true
    }

    /// Sends requests, which have the same transport, until all of them are acknowledged.
    pub fn send_until_acknowledged(&mut self, mut requests: Vec<Request>) {
        wait_for("requests over a socket to be acknowledged", || {
            self.send(&mut requests);
            requests.retain(|request| !self.history.is_acknowledged(request.number));
            requests.is_empty()
        });
    }
}

impl Socket {
    fn open(transport: Transport, client: &Client) -> Result<Self> {
        match transport {
            Transport::SocketIo => SocketIo::open(client, SOCKETIO_PATH, None).map(Self::SocketIo),
            Transport::WebSocket => WebSocket::open(client, WEBSOCKET_PATH).map(Self::WebSocket),
            Transport::Http => unreachable!("sent over HTTP"),
        }
    }

    /// Sends the requests and reads their answers, which come in the order of the requests.
    fn exchange(&mut self, history: &History, requests: &[Request]) -> Result<()> {
        let (mut unsent, mut in_flight) = (requests.iter(), VecDeque::new());
        loop {
            while in_flight.len() < IN_FLIGHT_MAX
                && let Some(request) = unsent.next()
            {
                in_flight.push_back((self.send(request)?, request));
            }
            let Some((ack, request)) = in_flight.pop_front() else { return Ok(()) };
            match self.read_answer(ack)? {
                Answer::Stored { ids } => {
                    assert_eq!(ids.len(), request.sales.len(), "the answer to {request:?}");
                    history.ended(request.number, Outcome::Acknowledged { ids });
                }
                Answer::Refused(code) => match code.as_str() {
                    "disk-full" => history.ended(request.number, Outcome::Refused),
                    "overloaded" | "store-unavailable" | "log-failed" | "stopping" => {}
                    code => panic!("refusal `{code}` of {request:?}"),
                },
            }
        }
    }

    /// Returns the number of the acknowledgement. The answers of a WebSocket have none.
    fn send(&mut self, request: &Request) -> Result<u64> {
        let text = socket_text(request);
        match self {
            Self::SocketIo(socket) => socket.emit_with_ack(SOCKETIO_EVENT, &text),
            Self::WebSocket(socket) => socket.send(&text).map(|()| 0),
        }
    }

    fn read_answer(&mut self, ack: u64) -> Result<Answer> {
        let answer = match self {
            Self::SocketIo(socket) => read_ack(socket, ack)?,
            Self::WebSocket(socket) => {
                let text = socket.read_text(ANSWER_DURATION_MAX)?;
                serde_json::from_str(&text).map_err(|_| unexpected(&text))?
            }
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let (ids, code) = match self {
            Self::SocketIo(_) => (text(&answer["id"]).map(|id| vec![id]), text(&answer["code"])),
            Self::WebSocket(_) => {
                let ids = answer["ids"].as_array().and_then(|ids| ids.iter().map(text).collect());
                let code = text(&answer["error"]["type"]);
                (ids, code.and_then(|kind| kind.rsplit(':').next().map(str::to_owned)))
            }
        };
        match (ids, code) {
            (Some(ids), None) => Ok(Answer::Stored { ids }),
            (None, Some(code)) => Ok(Answer::Refused(code)),
            _ => Err(unexpected(&answer.to_string())),
        }
    }
}

/// Returns the content of the next acknowledgement, which must have this number.
fn read_ack(socket: &mut SocketIo, ack: u64) -> Result<Value> {
    loop {
        match socket.read(ANSWER_DURATION_MAX)? {
            Packet::Ack { number, data } if number == ack => return Ok(data),
            Packet::Ack { number, .. } => {
                return Err(unexpected(&format!("acknowledgement {number} before {ack}")));
            }
            // The same answer as an event, and what greets a new client.
            Packet::Event { .. } => {}
        }
    }
}

/// Returns the data of an event of Socket.IO, or the text of a frame.
fn socket_text(request: &Request) -> String {
    let texts = event_texts(request);
    match request.source {
        Source::Frame { form: FrameForm::Array, .. } => format!("[{}]", texts.join(",")),
        _ => texts.join("\n"),
    }
}

fn unexpected(answer: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("unexpected answer: {answer}"))
}
