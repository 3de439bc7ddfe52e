//! A small blocking Socket.IO 4 client for the main namespace, over a WebSocket. Unlike the JavaScript clients, it does
//! not connect again by itself, and sends nothing twice.

use std::io::{Error, ErrorKind, Result};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::http::Client;
use super::websocket::WebSocket;

const OPEN_DURATION_MAX: Duration = Duration::from_secs(20);

/// What the server sends after the client has connected. `data` is the first argument.
#[derive(Clone, Debug, PartialEq)]
pub enum Packet {
    Event { name: String, data: Value },
    Ack { number: u64, data: Value },
}

pub struct SocketIo {
    socket: WebSocket,
    /// The name of the connection, which events have as their `clientId`.
    pub sid: String,
    /// The number of the next acknowledgement.
    next_ack: u64,
}

impl SocketIo {
    /// Opens a session at a path such as `/socket.io` with the headers of `client`, and connects with `token`, if there
    /// is one. Fails with `ErrorKind::Other` if the server refuses one of the two.
    pub fn open(client: &Client, path: &str, token: Option<&str>) -> Result<Self> {
        let mut socket = WebSocket::open(client, &format!("{path}/?EIO=4&transport=websocket"))?;
        let opened = socket.read_text(OPEN_DURATION_MAX)?;
        if !opened.starts_with("0{") {
            return Err(unexpected(&opened));
        }
        let auth = token.map(|token| json!({ "token": token }).to_string()).unwrap_or_default();
        socket.send(&format!("40{auth}"))?;
        let mut client = Self { socket, sid: String::new(), next_ack: 0 };
        let answer = client.read_message(Instant::now() + OPEN_DURATION_MAX)?;
        match answer.split_at_checked(1) {
            Some(("0", about)) => {
                let about = parse(about, &answer)?;
                client.sid = about["sid"].as_str().ok_or_else(|| unexpected(&answer))?.to_owned();
                Ok(client)
            }
            Some(("4", refusal)) => Err(Error::other(refusal)),
            _ => Err(unexpected(&answer)),
        }
    }

    /// Sends an event. `data` is JSON, and its text is sent as it is.
    pub fn emit(&mut self, name: &str, data: &str) -> Result<()> {
        self.socket.send(&format!("42[{},{data}]", Value::from(name)))
    }

    /// Sends an event that the server has to acknowledge, and returns the number of the acknowledgement. Others may be
    /// on their way.
    pub fn emit_with_ack(&mut self, name: &str, data: &str) -> Result<u64> {
        let ack = self.next_ack;
        self.next_ack += 1;
        self.socket.send(&format!("42{ack}[{},{data}]", Value::from(name)))?;
        Ok(ack)
    }

    /// Returns the next event or acknowledgement. Answers pings. Fails if none comes in time, or if the connection ends.
    pub fn read(&mut self, within: Duration) -> Result<Packet> {
        let message = self.read_message(Instant::now() + within)?;
        let (kind, rest) = message.split_at_checked(1).ok_or_else(|| unexpected(&message))?;
        match kind {
            "1" => Err(Error::new(ErrorKind::ConnectionAborted, "the server disconnected this client")),
            "2" => {
                let mut arguments = parse(rest, &message)?;
                let name = arguments[0].as_str().ok_or_else(|| unexpected(&message))?.to_owned();
                Ok(Packet::Event { name, data: arguments[1].take() })
            }
            "3" => {
                let at = rest.find('[').ok_or_else(|| unexpected(&message))?;
                let number = rest[..at].parse().map_err(|_| unexpected(&message))?;
                Ok(Packet::Ack { number, data: parse(&rest[at..], &message)?[0].take() })
            }
            _ => Err(unexpected(&message)),
        }
    }

    /// Returns the data of an acknowledgement, and skips what comes before it.
    pub fn read_ack(&mut self, number: u64, within: Duration) -> Result<Value> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.read(left)? {
                Packet::Ack { number: found, data } if found == number => return Ok(data),
                _ => {}
            }
        }
    }

    /// Disconnects, and closes the connection.
    pub fn close(mut self) -> Result<()> {
        self.socket.send("41")?;
        self.socket.close().map(drop)
    }

    /// Returns the next packet of Socket.IO.
    fn read_message(&mut self, deadline: Instant) -> Result<String> {
        loop {
            let packet = self.socket.read_text(deadline.saturating_duration_since(Instant::now()))?;
            match packet.split_at_checked(1) {
                Some(("2", "")) => self.socket.send("3")?,
                Some(("4", message)) => return Ok(message.to_owned()),
                Some(("1", "")) => {
                    return Err(Error::new(ErrorKind::ConnectionAborted, "the server closed the session"));
                }
                _ => return Err(unexpected(&packet)),
            }
        }
    }
}

fn parse(json: &str, packet: &str) -> Result<Value> {
    serde_json::from_str(json).map_err(|_| unexpected(packet))
}

fn unexpected(packet: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("unexpected packet `{packet}`"))
}
