//! A receiver of webhooks: a blocking HTTP/1.1 server on a free port, which records each request. A test chooses by
//! path how requests are answered, and changes that while the receiver runs.

use std::collections::{BTreeMap, HashMap};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{JoinHandle, Scope};
use std::time::{Duration, Instant};

use super::WAIT_MAX;

const PEER_CHECK_INTERVAL: Duration = Duration::from_millis(20);
const HEAD_BYTES_MAX: usize = 64 * 1024;
const ENDLESS_CHUNK_BYTES: usize = 16 * 1024;

#[derive(Clone, Debug)]
pub struct Received {
    pub method: String,
    /// The request's target: the path and the query.
    pub path: String,
    /// The names are in lower case. The values of a repeated header are joined with `, `.
    pub headers: BTreeMap<String, String>,
    pub body: String,
    /// When the last byte of the request was read.
    pub at: Instant,
}

/// How requests are answered. All requests are recorded, except with `CloseBeforeReading`.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Answers with this status and no body.
    Answer(u16),
    /// Adds `Content-Length`, unless the headers have it or `Transfer-Encoding`.
    AnswerWith { status: u16, headers: Vec<(String, String)>, body: String },
    /// Answers the first requests with the same `webhook-id` with this status, and later ones with 200.
    FailTimes(u32, u16),
    /// Never answers. If the behaviour changes while the client waits, the new one applies to the request.
    Hang,
    /// Answers with 200 after this time.
    Slow(Duration),
    /// Reads the request and resets the connection.
    Reset,
    /// Closes the connection when the request line has arrived, without reading it. The system then resets the
    /// connection.
    CloseBeforeReading,
    /// Answers with 200 and `Connection: close`, and closes the connection.
    AnswerThenClose,
    /// Answers with 200 and a body that does not end.
    Endless,
}

/// The receiver. It stops on drop and closes all connections.
pub struct Receiver {
    port: u16,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Receiver {
    pub fn start() -> Self {
        Self::start_on(0)
    }

    /// Starts a receiver on this port, or on a free one if it is 0. A test starts it on the port of an earlier receiver
    /// to simulate a receiver that was down.
    pub fn start_on(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let in_thread = Arc::clone(&shared);
        let acceptor = std::thread::spawn(move || in_thread.accept(&listener));
        Self { port, shared, acceptor: Some(acceptor) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Returns the requests in the order in which they arrived.
    pub fn requests(&self) -> Vec<Received> {
        self.shared.state.lock().unwrap().requests.clone()
    }

    pub fn count(&self) -> usize {
        self.shared.state.lock().unwrap().requests.len()
    }

    /// Blocks until at least `count` requests have arrived, and returns all of them. Panics after a deadline.
    pub fn wait_for(&self, count: usize, what: &str) -> Vec<Received> {
        let state = self.shared.state.lock().unwrap();
        let (state, _) = self
            .shared
            .arrived
            .wait_timeout_while(state, WAIT_MAX, |state| state.requests.len() < count)
            .unwrap();
        let requests = state.requests.clone();
        // A panic must not poison the lock, which the threads of the connections need.
        drop(state);
        let arrived = requests.len();
        assert!(arrived >= count, "timed out waiting for {what}: {arrived} of {count} requests arrived");
        requests
    }

    /// Sets how requests whose path starts with `path_prefix` are answered, also those that `Hang` holds. The longest
    /// prefix decides. Requests without a matching prefix get 200. The counts of `FailTimes` start again.
    pub fn behave(&self, path_prefix: &str, behaviour: Behaviour) {
        let mut state = self.shared.state.lock().unwrap();
        state.rules.retain(|rule| rule.path_prefix != path_prefix);
        let failed = Mutex::default();
        state.rules.push(Arc::new(Rule { path_prefix: path_prefix.to_owned(), behaviour, failed }));
        self.shared.changed.notify_all();
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock().unwrap();
        state.is_stopped = true;
        for stream in state.connections.values() {
            // Fails if the peer has reset the connection.
            drop(stream.shutdown(Shutdown::Both));
        }
        drop(state);
        self.shared.changed.notify_all();
        // Wakes the acceptor.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        drop(self.acceptor.take().unwrap().join());
    }
}

struct Rule {
    path_prefix: String,
    behaviour: Behaviour,
    /// The number of failed requests of each `webhook-id`.
    failed: Mutex<HashMap<String, u32>>,
}

#[derive(Default)]
struct State {
    rules: Vec<Arc<Rule>>,
    requests: Vec<Received>,
    connections: HashMap<u64, Arc<TcpStream>>,
    is_stopped: bool,
}

impl State {
    fn rule(&self, path: &str) -> Option<Arc<Rule>> {
        let matching = self.rules.iter().filter(|rule| path.starts_with(&rule.path_prefix));
        matching.max_by_key(|rule| rule.path_prefix.len()).cloned()
    }
}

/// What the test and the threads of the connections use together.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// A request arrived.
    arrived: Condvar,
    /// A behaviour changed, or the receiver stopped.
    changed: Condvar,
}

#[derive(PartialEq, Eq)]
enum Next {
    KeepAlive,
    Close,
    Reset,
}

impl Shared {
    /// Accepts connections until the receiver stops, and then waits until all of them have ended.
    fn accept(&self, listener: &TcpListener) {
        std::thread::scope(|scope| {
            for (id, stream) in (0..).zip(listener.incoming()) {
                // A connection can break before it is accepted.
                let Ok(stream) = stream.map(Arc::new) else { continue };
                let mut state = self.state.lock().unwrap();
                if state.is_stopped {
                    break;
                }
                state.connections.insert(id, Arc::clone(&stream));
                drop(state);
                self.spawn(scope, id, stream);
            }
        });
    }

    fn spawn<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, id: u64, stream: Arc<TcpStream>) {
        scope.spawn(move || {
            let outcome = self.serve(&stream);
            match outcome {
                Ok(Next::Reset) => set_zero_linger(&stream),
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    eprintln!("receiver: a request is not valid HTTP: {error}");
                    drop((&*stream).write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"));
                }
                // The peer has closed or reset the connection, or the connection has ended as it should.
                _ => {}
            }
            self.state.lock().unwrap().connections.remove(&id);
            // The last owner of the stream closes it here.
        });
    }

    /// Serves the requests of a connection until one of them ends it.
    fn serve(&self, stream: &TcpStream) -> Result<Next> {
        stream.set_nodelay(true)?;
        let mut reader = Reader { stream, bytes: Vec::new() };
        loop {
            let Some(path) = reader.peek_path()? else { return Ok(Next::Close) };
            if let Some(Behaviour::CloseBeforeReading) = self.behaviour(&path) {
                return Ok(Next::Close);
            }
            let request = reader.request()?;
            let wants_close =
                request.headers.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            let mut state = self.state.lock().unwrap();
            state.requests.push(request.clone());
            drop(state);
            self.arrived.notify_all();
            let next = self.answer(stream, &request)?;
            if next != Next::KeepAlive || wants_close {
                return Ok(next);
            }
        }
    }

    fn behaviour(&self, path: &str) -> Option<Behaviour> {
        self.state.lock().unwrap().rule(path).map(|rule| rule.behaviour.clone())
    }

    fn answer(&self, stream: &TcpStream, request: &Received) -> Result<Next> {
        loop {
            let rule = self.state.lock().unwrap().rule(&request.path);
            let Some(rule) = rule else { return send(stream, 200, &[], "") };
            match &rule.behaviour {
                Behaviour::Answer(status) => return send(stream, *status, &[], ""),
                Behaviour::AnswerWith { status, headers, body } => {
                    return send(stream, *status, headers, body);
                }
                Behaviour::FailTimes(count, status) => {
                    let status = if rule.fails(request, *count) { *status } else { 200 };
                    return send(stream, status, &[], "");
                }
                Behaviour::Hang => {
                    if !self.hang(stream, request, &rule) {
                        return Ok(Next::Close);
                    }
                }
                Behaviour::Slow(duration) => {
                    self.pause(*duration);
                    return send(stream, 200, &[], "");
                }
                Behaviour::Reset => return Ok(Next::Reset),
                Behaviour::CloseBeforeReading => return Ok(Next::Close),
                Behaviour::AnswerThenClose => {
                    return send(stream, 200, &[("Connection".to_owned(), "close".to_owned())], "");
                }
                Behaviour::Endless => return send_endless(stream),
            }
        }
    }

    /// Waits for another behaviour. Returns false if the client closes the connection or the receiver stops.
    fn hang(&self, stream: &TcpStream, request: &Received, rule: &Arc<Rule>) -> bool {
        loop {
            let state = self.state.lock().unwrap();
            let is_same =
                |state: &State| state.rule(&request.path).is_some_and(|current| Arc::ptr_eq(&current, rule));
            let (state, _) = self
                .changed
                .wait_timeout_while(state, PEER_CHECK_INTERVAL, |state| !state.is_stopped && is_same(state))
                .unwrap();
            let (is_stopped, is_same) = (state.is_stopped, is_same(&state));
            drop(state);
            // A request that nobody waits for must not use up a count of `FailTimes`.
            if is_stopped || is_closed_by_peer(stream) {
                return false;
            }
            if !is_same {
                return true;
            }
        }
    }

    /// Waits for this duration, or until the receiver stops.
    fn pause(&self, duration: Duration) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_timeout_while(state, duration, |state| !state.is_stopped).unwrap());
    }
}

impl Rule {
    fn fails(&self, request: &Received, count: u32) -> bool {
        let id = request.headers.get("webhook-id").cloned().unwrap_or_default();
        let mut failed = self.failed.lock().unwrap();
        let failed = failed.entry(id).or_default();
        let fails = *failed < count;
        *failed += u32::from(fails);
        fails
    }
}

/// Reads requests from a connection.
struct Reader<'a> {
    stream: &'a TcpStream,
    /// Bytes that were read and not used yet.
    bytes: Vec<u8>,
}

impl Reader<'_> {
    /// Waits for the next request line, and returns its path without reading it. Returns `None` if the peer closes the
    /// connection first.
    fn peek_path(&self) -> Result<Option<String>> {
        let mut buffer = [0; 8 * 1024];
        loop {
            let mut peeked = self.bytes.clone();
            if !peeked.contains(&b'\n') {
                let count = uninterrupted(|| self.stream.peek(&mut buffer))?;
                if count == 0 {
                    return Ok(None);
                }
                peeked.extend_from_slice(&buffer[..count]);
            }
            if let Some(line) = peeked.split_inclusive(|byte| *byte == b'\n').next()
                && line.ends_with(b"\n")
            {
                return Ok(String::from_utf8_lossy(line).split(' ').nth(1).map(str::to_owned));
            }
            if peeked.len() >= buffer.len() {
                return Err(invalid("the request line is too long"));
            }
            // Peeking returns at once while a part of the line is there.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn request(&mut self) -> Result<Received> {
        let head = self.take_through(b"\r\n\r\n")?;
        let head = String::from_utf8(head).map_err(|_| invalid("the head is not UTF-8"))?;
        let mut lines = head.trim_end().split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(path), Some("HTTP/1.1"), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(invalid(&format!("the request line of {head:?}")));
        };
        let mut headers = BTreeMap::new();
        for line in lines {
            let (name, value) = line.split_once(':').ok_or_else(|| invalid(line))?;
            headers
                .entry(name.to_ascii_lowercase())
                .and_modify(|values: &mut String| *values += &format!(", {}", value.trim()))
                .or_insert_with(|| value.trim().to_owned());
        }
        let body = self.body(&headers)?;
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Received { method: method.to_owned(), path: path.to_owned(), headers, body, at: Instant::now() })
    }

    fn body(&mut self, headers: &BTreeMap<String, String>) -> Result<Vec<u8>> {
        if headers.get("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            let mut stream = self.stream;
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if headers.get("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return self.chunks();
        }
        match headers.get("content-length") {
            Some(length) => self.take(length.parse().map_err(|_| invalid("the Content-Length"))?),
            None => Ok(Vec::new()),
        }
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.take_through(b"\r\n")?;
            let line = String::from_utf8_lossy(&line);
            let length = line.trim_end().split(';').next().unwrap_or_default();
            let length = usize::from_str_radix(length, 16).map_err(|_| invalid("the length of a chunk"))?;
            if length == 0 {
                // Trailers are not used.
                while self.take_through(b"\r\n")? != b"\r\n" {}
                return Ok(body);
            }
            body.extend(self.take(length)?);
            if self.take(2)? != b"\r\n" {
                return Err(invalid("the end of a chunk"));
            }
        }
    }

    fn take_through(&mut self, end: &[u8]) -> Result<Vec<u8>> {
        loop {
            if let Some(at) = self.bytes.windows(end.len()).position(|window| window == end) {
                return self.take(at + end.len());
            }
            if self.bytes.len() >= HEAD_BYTES_MAX {
                return Err(invalid("a line or the head is too long"));
            }
            self.read()?;
        }
    }

    fn take(&mut self, count: usize) -> Result<Vec<u8>> {
        while self.bytes.len() < count {
            self.read()?;
        }
        let rest = self.bytes.split_off(count);
        Ok(std::mem::replace(&mut self.bytes, rest))
    }

    fn read(&mut self) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        let mut stream = self.stream;
        match uninterrupted(|| stream.read(&mut buffer))? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            count => {
                self.bytes.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }
}

/// Sends an answer. Its headers decide whether the connection stays open.
fn send(mut stream: &TcpStream, status: u16, headers: &[(String, String)], body: &str) -> Result<Next> {
    // The reason after the status may be empty.
    let mut text = format!("HTTP/1.1 {status} \r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let framing = ["content-length", "transfer-encoding"];
    let is_framed = headers.iter().any(|(name, _)| framing.contains(&name.to_ascii_lowercase().as_str()));
    // These statuses have no body.
    if !is_framed && status >= 200 && status != 204 && status != 304 {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    stream.write_all(format!("{text}\r\n{body}").as_bytes())?;
    let is_last = |(name, value): &(String, String)| {
        name.eq_ignore_ascii_case("connection") && value.eq_ignore_ascii_case("close")
    };
    Ok(if headers.iter().any(is_last) { Next::Close } else { Next::KeepAlive })
}

/// Sends until the client closes the connection or the receiver stops, which shuts the connection down.
fn send_endless(mut stream: &TcpStream) -> Result<Next> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let content = "x".repeat(ENDLESS_CHUNK_BYTES);
    let chunk = format!("{ENDLESS_CHUNK_BYTES:x}\r\n{content}\r\n");
    loop {
        stream.write_all(chunk.as_bytes())?;
    }
}

/// Makes the next close reset the connection.
fn set_zero_linger(stream: &TcpStream) {
    // The standard library has no stable call for it. The option belongs to the connection, not to this copy.
    let socket = tokio::net::TcpSocket::from_std_stream(stream.try_clone().unwrap());
    socket.set_zero_linger().unwrap();
}

fn is_closed_by_peer(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let peeked = uninterrupted(|| stream.peek(&mut [0]));
    stream.set_nonblocking(false).unwrap();
    match peeked {
        Ok(count) => count == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// Retries a call that a signal interrupted; other threads of the tests receive signals.
fn uninterrupted(mut call: impl FnMut() -> Result<usize>) -> Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what.to_owned())
}
