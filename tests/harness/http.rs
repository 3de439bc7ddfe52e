//! A small HTTP client that sends exactly the bytes that a test gives it, even if they are not valid HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

#[derive(Clone)]
pub struct Client {
    address: String,
    headers: Vec<(String, String)>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl Client {
    pub fn new(address: &str) -> Self {
        Self { address: address.to_owned(), headers: Vec::new() }
    }

    /// Returns the same client for a server at another address.
    pub fn at(&self, address: &str) -> Self {
        Self { address: address.to_owned(), headers: self.headers.clone() }
    }

    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, None)
    }

    pub fn post(&self, path: &str, body: &str) -> Answer {
        self.request("POST", path, Some(("application/json", body.as_bytes())))
    }

    pub fn post_lines(&self, path: &str, body: &str) -> Answer {
        self.request("POST", path, Some(("application/x-ndjson", body.as_bytes())))
    }

    pub fn request(&self, method: &str, path: &str, body: Option<(&str, &[u8])>) -> Answer {
        self.try_request(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Sends one request over a new connection.
    pub fn try_request(
        &self,
        method: &str,
        path: &str,
        body: Option<(&str, &[u8])>,
    ) -> std::io::Result<Answer> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let bytes = match body {
            Some((kind, bytes)) => {
                if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                    head.push_str(&format!("Content-Type: {kind}\r\n"));
                }
                head.push_str(&format!("Content-Length: {}\r\n", bytes.len()));
                bytes
            }
            None => &[],
        };
        head.push_str("\r\n");
        let mut stream = self.connect()?;
        stream.write_all(head.as_bytes())?;
        // A server that refuses a request because of its head may close before it has read the body.
        let sent = stream.write_all(bytes);
        let answer = read_answer(&mut stream);
        if answer.is_err() {
            sent?;
        }
        answer
    }

    /// Returns the head of a request with this client's headers. The caller sends the body of `length` bytes.
    pub fn head(&self, method: &str, path: &str, kind: &str, length: usize) -> String {
        let headers: String =
            self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        )
    }

    /// Asks for a WebSocket. Returns the connection and the answer, whose body is what followed its head.
    pub fn upgrade(&self, path: &str, key: &str) -> std::io::Result<(TcpStream, Answer)> {
        let mut head = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        );
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let mut stream = self.connect()?;
        stream.write_all(head.as_bytes())?;
        let answer = read_answer(&mut stream)?;
        Ok((stream, answer))
    }

    pub fn connect(&self) -> std::io::Result<TcpStream> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(stream)
    }

    /// Sends bytes unchanged and reads one answer.
    pub fn raw(&self, bytes: &[u8]) -> std::io::Result<Answer> {
        let mut stream = self.connect()?;
        stream.write_all(bytes)?;
        read_answer(&mut stream)
    }
}

/// Reads one answer, which must have a `Content-Length` if it has a body.
pub fn read_answer(stream: &mut TcpStream) -> std::io::Result<Answer> {
    let broken = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
    let mut bytes = Vec::new();
    let mut buffer = [0_u8; 16 * 1024];
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        match read(stream, &mut buffer)? {
            0 => return Err(broken("the connection was closed before an answer")),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut body = bytes.split_off(head_end);
    while body.len() < length {
        match read(stream, &mut buffer)? {
            0 => return Err(broken("the connection was closed within an answer")),
            count => body.extend_from_slice(&buffer[..count]),
        }
    }
    Ok(Answer { status: status.ok_or_else(|| broken("no status"))?, headers, body })
}

/// Retries a read that a signal interrupted; other threads of the tests receive signals.
pub fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}
