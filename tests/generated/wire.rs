//! A keep-alive connection, and the bytes of its requests and responses.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

const RESPONSE_DURATION_MAX: Duration = Duration::from_secs(60);

/// A request before it is encoded.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    /// Sends the body with chunked transfer encoding instead of `Content-Length`.
    pub chunked: bool,
    /// The request may violate HTTP, for example with spaces in its path.
    pub malformed: bool,
}

impl Request {
    pub fn new(method: &str, path: &str, body: &[u8]) -> Self {
        let (method, path, body) = (method.to_owned(), path.to_owned(), body.to_vec());
        Self { method, path, headers: Vec::new(), body, chunked: false, malformed: false }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.set(name, value.as_bytes());
        self
    }

    /// Replaces the header if it exists.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_vec()));
    }

    /// Compresses the body.
    pub fn compress(&mut self, coding: &str) {
        self.body = match coding {
            "gzip" => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(&self.body).unwrap();
                encoder.finish().unwrap()
            }
            _ => zstd::encode_all(self.body.as_slice(), 1).unwrap(),
        };
        self.set("Content-Encoding", coding.as_bytes());
    }

    pub fn route(&self) -> &str {
        self.path.split('?').next().unwrap()
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.path).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        if self.chunked {
            bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            for piece in self.body.chunks(self.body.len() / 2 + 1) {
                bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                bytes.extend_from_slice(piece);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        } else {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", self.body.len()).as_bytes());
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

pub struct Connection {
    address: String,
    stream: Option<BufReader<TcpStream>>,
    /// Number of times that the server closed the connection between two requests, as HTTP permits.
    pub closed: u64,
}

impl Connection {
    pub fn new(address: &str) -> Self {
        Self { address: address.to_owned(), stream: None, closed: 0 }
    }

    /// Sends a request and reads its response. The server may have closed a kept connection after a refusal;
    /// then the request is sent again over a new one, on which anything but a response is an error.
    pub fn send(&mut self, request: &Request) -> std::io::Result<Response> {
        if let Some(kept) = self.stream.take() {
            match self.send_over(kept, request) {
                Err(Failure::BeforeResponse(_)) => self.closed += 1,
                Err(Failure::InResponse(error)) => return Err(error),
                Ok(response) => return Ok(response),
            }
        }
        let stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(RESPONSE_DURATION_MAX))?;
        self.send_over(BufReader::new(stream), request).map_err(|failure| match failure {
            Failure::BeforeResponse(error) | Failure::InResponse(error) => error,
        })
    }

    fn send_over(
        &mut self,
        mut stream: BufReader<TcpStream>,
        request: &Request,
    ) -> Result<Response, Failure> {
        stream.get_mut().write_all(&request.bytes()).map_err(Failure::BeforeResponse)?;
        stream.fill_buf().map_err(Failure::BeforeResponse).and_then(|bytes| {
            if bytes.is_empty() {
                Err(Failure::BeforeResponse(std::io::ErrorKind::UnexpectedEof.into()))
            } else {
                Ok(())
            }
        })?;
        let response = read(&mut stream, &request.method).map_err(Failure::InResponse)?;
        if !request.malformed && response.header("connection") != Some("close") {
            self.stream = Some(stream);
        }
        Ok(response)
    }
}

enum Failure {
    BeforeResponse(std::io::Error),
    InResponse(std::io::Error),
}

fn read(stream: &mut BufReader<TcpStream>, method: &str) -> std::io::Result<Response> {
    let invalid = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
    let first = line(stream)?;
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status: u16 = status.ok_or_else(|| invalid(&format!("expected a response, got `{first}`")))?;
    let mut headers = Vec::new();
    loop {
        let line = line(stream)?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let mut response = Response { status, headers, body: Vec::new() };
    if status == 100 {
        return read(stream, method);
    }
    if method == "HEAD" {
        return Ok(response);
    }
    if response.header("transfer-encoding") == Some("chunked") {
        response.body = chunks(stream)?;
        return Ok(response);
    }
    let length = response.header("content-length").map(str::parse::<usize>);
    let length = length.transpose().map_err(|_| invalid("Content-Length is not a number"))?.unwrap_or(0);
    response.body.resize(length, 0);
    stream.read_exact(&mut response.body)?;
    Ok(response)
}

/// Reads a chunked body.
fn chunks(stream: &mut BufReader<TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let length = usize::from_str_radix(&line(stream)?, 16).map_err(std::io::Error::other)?;
        let at = body.len();
        body.resize(at + length, 0);
        stream.read_exact(&mut body[at..])?;
        line(stream)?;
        if length == 0 {
            return Ok(body);
        }
    }
}

fn line(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    stream.read_until(b'\n', &mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}
