//! One connection that is kept alive, and the requests and answers on it as bytes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

const PATIENCE: Duration = Duration::from_secs(60);

/// A request as it is going to stand on the wire.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
    /// Sent in pieces whose lengths are said one by one, instead of with its own.
    pub chunked: bool,
    /// Not meant to be HTTP: its path may hold what no path does.
    pub broken: bool,
}

impl Asked {
    pub fn new(method: &str, path: &str, body: &[u8]) -> Self {
        let (method, path, body) = (method.to_owned(), path.to_owned(), body.to_vec());
        Self { method, path, headers: Vec::new(), body, chunked: false, broken: false }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.set(name, value.as_bytes());
        self
    }

    /// In the place of what it was before.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_vec()));
    }

    /// With its body as a client may send it that has a slow line.
    pub fn compress(&mut self, coding: &str) {
        self.body = match coding {
            "gzip" => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(&self.body).unwrap();
                encoder.finish().unwrap()
            }
            _ => compress_to_vec(self.body.as_slice(), CompressionLevel::Fastest),
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
pub struct Answered {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answered {
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
    /// How often the server ended it between an answer and the next request, as HTTP lets it.
    pub ended: u64,
}

impl Connection {
    pub fn new(address: &str) -> Self {
        Self { address: address.to_owned(), stream: None, ended: 0 }
    }

    /// Over a new connection, whatever the server does but answer is an error. One that was kept may have
    /// been ended before it got this request, where the body of the last one was not worth reading.
    pub fn ask(&mut self, asked: &Asked) -> std::io::Result<Answered> {
        if let Some(kept) = self.stream.take() {
            match self.ask_over(kept, asked) {
                Err(Broken::BeforeAnswer(_)) => self.ended += 1,
                Err(Broken::Within(error)) => return Err(error),
                Ok(answered) => return Ok(answered),
            }
        }
        let stream = TcpStream::connect(&self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        self.ask_over(BufReader::new(stream), asked).map_err(|broken| match broken {
            Broken::BeforeAnswer(error) | Broken::Within(error) => error,
        })
    }

    fn ask_over(&mut self, mut stream: BufReader<TcpStream>, asked: &Asked) -> Result<Answered, Broken> {
        stream.get_mut().write_all(&asked.bytes()).map_err(Broken::BeforeAnswer)?;
        stream.fill_buf().map_err(Broken::BeforeAnswer).and_then(|bytes| match bytes.is_empty() {
            true => Err(Broken::BeforeAnswer(std::io::ErrorKind::UnexpectedEof.into())),
            false => Ok(()),
        })?;
        let answered = read(&mut stream, &asked.method).map_err(Broken::Within)?;
        if !asked.broken && answered.header("connection") != Some("close") {
            self.stream = Some(stream);
        }
        Ok(answered)
    }
}

enum Broken {
    BeforeAnswer(std::io::Error),
    Within(std::io::Error),
}

fn read(stream: &mut BufReader<TcpStream>, method: &str) -> std::io::Result<Answered> {
    let broken = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
    let first = line(stream)?;
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status: u16 = status.ok_or_else(|| broken(&format!("no answer, but `{first}`")))?;
    let mut headers = Vec::new();
    loop {
        let line = line(stream)?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let mut answered = Answered { status, headers, body: Vec::new() };
    if status == 100 {
        return read(stream, method);
    }
    if method == "HEAD" {
        return Ok(answered);
    }
    if answered.header("transfer-encoding") == Some("chunked") {
        answered.body = chunks(stream)?;
        return Ok(answered);
    }
    let length = answered.header("content-length").map(str::parse::<usize>);
    let length = length.transpose().map_err(|_| broken("no length"))?.unwrap_or(0);
    answered.body.resize(length, 0);
    stream.read_exact(&mut answered.body)?;
    Ok(answered)
}

/// A body in pieces, each after its length; the last one is empty.
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
