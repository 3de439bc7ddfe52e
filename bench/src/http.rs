//! A minimal HTTP client for requests with short or long bodies, one after another over a connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::Outcome;

const IO_TIMEOUT: Duration = Duration::from_secs(120);
const PIECE_BYTES: usize = 256 * 1024;

/// Returns the length of the first answer in `buffer` if it is complete. Fails if the status is not 200.
pub fn answer_bytes(buffer: &[u8]) -> Outcome<Option<usize>> {
    let Some(head) = memchr::memmem::find(buffer, b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&buffer[..head])?;
    if !text.starts_with("HTTP/1.1 200") {
        return Err(format!("expected 200, got: {}", String::from_utf8_lossy(buffer)).into());
    }
    let length = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .ok_or("the answer has no content-length")?;
    let end = head + 4 + length.1.trim().parse::<usize>()?;
    Ok((buffer.len() >= end).then_some(end))
}

pub fn request(method: &str, path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// A connection that has one request under way at a time.
pub struct Client {
    stream: TcpStream,
}

impl Client {
    pub fn connect(address: &str) -> Outcome<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(IO_TIMEOUT))?;
        stream.set_write_timeout(Some(IO_TIMEOUT))?;
        Ok(Self { stream })
    }

    pub fn get(&mut self, path: &str) -> Outcome<serde_json::Value> {
        self.stream.write_all(&request("GET", path, "", ""))?;
        Ok(serde_json::from_slice(&self.answer()?)?)
    }

    /// Sends lines of JSON to the stream `revenue`, repeated `times` times in one request.
    pub fn send_lines(&mut self, key: &str, lines: &str, times: usize) -> Outcome<serde_json::Value> {
        self.send_lines_to("revenue", key, lines, times)
    }

    pub fn send_lines_to(
        &mut self,
        stream: &str,
        key: &str,
        lines: &str,
        times: usize,
    ) -> Outcome<serde_json::Value> {
        let head = format!(
            "POST /v1/streams/{stream}/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: {key}\r\n\
             Content-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n",
            lines.len() * times
        );
        self.stream.write_all(head.as_bytes())?;
        for _ in 0..times {
            for piece in lines.as_bytes().chunks(PIECE_BYTES) {
                self.stream.write_all(piece)?;
            }
        }
        Ok(serde_json::from_slice(&self.answer()?)?)
    }

    fn answer(&mut self) -> Outcome<Vec<u8>> {
        let mut buffer = Vec::new();
        let mut piece = [0; 16 * 1024];
        loop {
            let read = self.stream.read(&mut piece)?;
            if read == 0 {
                return Err("the server closed the connection".into());
            }
            buffer.extend_from_slice(&piece[..read]);
            if let Some(end) = answer_bytes(&buffer)? {
                let body = memchr::memmem::find(&buffer, b"\r\n\r\n").map_or(end, |head| head + 4);
                return Ok(buffer[body..end].to_vec());
            }
        }
    }
}
