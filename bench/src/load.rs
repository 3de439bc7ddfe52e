//! The load generator. It uses raw connections with one request under way each, and requests that were made before.
//! It checks only that an answer is complete, and over HTTP and Socket.IO a success. Anything else ends the run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::JoinSet;

use crate::websocket::first_frame;
use crate::{Outcome, http};

const WARM_UP: Duration = Duration::from_millis(250);
const ANSWER_BYTES_MAX: usize = 8 * 1024;

/// The protocol, which decides when an answer is complete.
#[derive(Clone, Copy)]
pub enum Protocol {
    Http,
    Redis,
    WebSocket,
    /// The answer is complete with the acknowledgement.
    SocketIo,
}

impl Protocol {
    fn answer_bytes(self, buffer: &[u8]) -> Outcome<Option<usize>> {
        match self {
            Self::Http => http::answer_bytes(buffer),
            Self::Redis => redis_answer_bytes(buffer),
            Self::WebSocket => Ok(first_frame(buffer)?.map(|frame| frame.bytes)),
            Self::SocketIo => through_packet(buffer, b"43"),
        }
    }
}

/// Returns the length of the frames up to the first one whose packet begins with `begin`, if they are complete.
fn through_packet(buffer: &[u8], begin: &[u8]) -> Outcome<Option<usize>> {
    let mut bytes = 0;
    while let Some(frame) = first_frame(&buffer[bytes..])? {
        bytes += frame.bytes;
        if frame.content.starts_with(b"42[\"error\"") || frame.content.starts_with(b"44") {
            return Err(format!("refused: {}", String::from_utf8_lossy(frame.content)).into());
        }
        if frame.content.starts_with(begin) {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// Parses the answer of `XADD`: a text with its length before it, as in `$15`.
fn redis_answer_bytes(buffer: &[u8]) -> Outcome<Option<usize>> {
    let Some(head) = memchr::memmem::find(buffer, b"\r\n") else { return Ok(None) };
    let length = std::str::from_utf8(&buffer[..head])?
        .strip_prefix('$')
        .and_then(|length| length.parse::<usize>().ok())
        .ok_or_else(|| format!("expected an id, got: {}", String::from_utf8_lossy(buffer)))?;
    let end = head + 2 + length + 2;
    Ok((buffer.len() >= end).then_some(end))
}

/// The address of a server, and the requests to send.
#[derive(Clone)]
pub struct Target {
    pub address: String,
    pub protocol: Protocol,
    pub requests: Arc<Vec<Vec<u8>>>,
    /// Sent once on each connection, before its requests.
    pub opening: Option<Opening>,
}

/// The begin of a WebSocket.
#[derive(Clone)]
pub struct Opening {
    pub request: Vec<u8>,
    /// The first frame of a Socket.IO client.
    pub sign_in: Option<Vec<u8>>,
}

impl Target {
    pub async fn connect(&self) -> Outcome<TcpStream> {
        let mut stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let Some(Opening { request, sign_in }) = &self.opening else { return Ok(stream) };
        let mut buffer = vec![0; ANSWER_BYTES_MAX];
        let head = |buffer: &[u8]| match memchr::memmem::find(buffer, b"\r\n\r\n") {
            Some(_) if !buffer.starts_with(b"HTTP/1.1 101") => {
                Err(format!("expected 101, got: {}", String::from_utf8_lossy(buffer)).into())
            }
            Some(head) => Ok(Some(head + 4)),
            None => Ok(None),
        };
        stream.write_all(request).await?;
        let (mut filled, end) = read_until(&mut stream, &mut buffer, 0, head).await?;
        buffer.copy_within(end..filled, 0);
        filled -= end;
        if let Some(sign_in) = sign_in {
            stream.write_all(sign_in).await?;
            let welcome = |buffer: &[u8]| through_packet(buffer, b"42[\"welcome\"");
            read_until(&mut stream, &mut buffer, filled, welcome).await?;
        }
        Ok(stream)
    }
}

/// Reads until `end_of` finds an end. Returns the length of what was read, and the end.
async fn read_until(
    stream: &mut TcpStream,
    buffer: &mut [u8],
    mut filled: usize,
    end_of: impl Fn(&[u8]) -> Outcome<Option<usize>>,
) -> Outcome<(usize, usize)> {
    loop {
        if let Some(end) = end_of(&buffer[..filled])? {
            return Ok((filled, end));
        }
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Err("the server closed the connection".into());
        }
        filled += read;
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Answered {
    /// All answers, including those of the warm-up.
    pub total: u64,
    pub per_second: f64,
}

const WARMING: u8 = 0;
const COUNTING: u8 = 1;
const OVER: u8 = 2;

/// Sends as many requests as possible. Each connection sends the next request once it has its answer.
pub fn closed_loop(target: &Target, connections: usize, time: Duration) -> Outcome<Answered> {
    // One thread is enough: it uses less processor time than the server and is never the limit.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut streams = Vec::with_capacity(connections);
        for _ in 0..connections {
            streams.push(target.connect().await?);
        }
        let phase = Arc::new(AtomicU8::new(WARMING));
        let mut tasks = JoinSet::new();
        for (index, stream) in streams.into_iter().enumerate() {
            let first = index * target.requests.len() / connections;
            tasks.spawn(one_connection(stream, target.clone(), first, Arc::clone(&phase)));
        }
        tokio::time::sleep(WARM_UP).await;
        phase.store(COUNTING, Ordering::Relaxed);
        let begun = Instant::now();
        tokio::time::sleep(time).await;
        phase.store(OVER, Ordering::Relaxed);
        let seconds = begun.elapsed().as_secs_f64();
        let (mut total, mut counted) = (0, 0);
        while let Some(outcome) = tasks.join_next().await {
            let (all, these) = outcome??;
            total += all;
            counted += these;
        }
        Ok(Answered { total, per_second: counted as f64 / seconds })
    })
}

/// Returns the number of all answers, and of those in the counting phase.
async fn one_connection(
    mut stream: TcpStream,
    target: Target,
    first: usize,
    phase: Arc<AtomicU8>,
) -> Outcome<(u64, u64)> {
    let mut buffer = vec![0; ANSWER_BYTES_MAX];
    let (mut total, mut counted) = (0, 0);
    for request in target.requests.iter().cycle().skip(first) {
        exchange(&mut stream, request, target.protocol, &mut buffer).await?;
        total += 1;
        match phase.load(Ordering::Relaxed) {
            COUNTING => counted += 1,
            OVER => break,
            _ => {}
        }
    }
    Ok((total, counted))
}

pub async fn exchange(
    stream: &mut TcpStream,
    request: &[u8],
    protocol: Protocol,
    buffer: &mut [u8],
) -> Outcome<()> {
    stream.write_all(request).await?;
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Err("the server closed the connection".into());
        }
        filled += read;
        match protocol.answer_bytes(&buffer[..filled])? {
            Some(end) if end == filled => return Ok(()),
            Some(_) => return Err("the server sent more than one answer".into()),
            None => {}
        }
    }
}

/// One part of an open loop. Its connections send at fixed times, however long the answers take.
pub struct Stream {
    pub target: Target,
    pub connections: usize,
    pub per_second: f64,
}

/// Sends at the given rates. Returns the times from the moment at which a request was due to its answer, for each
/// stream. After a late answer a connection sends the next request immediately, and the delay counts.
pub fn open_loop(streams: Vec<Stream>, time: Duration) -> Outcome<Vec<Vec<Duration>>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        let begin = Instant::now() + WARM_UP;
        for (number, stream) in streams.iter().enumerate() {
            let period = Duration::from_secs_f64(stream.connections as f64 / stream.per_second);
            for index in 0..stream.connections {
                let connection = stream.target.connect().await?;
                let first = index * stream.target.requests.len() / stream.connections;
                let begin = begin + period.mul_f64(index as f64 / stream.connections as f64);
                let timed = timed_connection(connection, stream.target.clone(), first, begin, period, time);
                tasks.spawn(async move { timed.await.map(|times| (number, times)) });
            }
        }
        let mut times = vec![Vec::new(); streams.len()];
        while let Some(outcome) = tasks.join_next().await {
            let (number, these) = outcome??;
            times[number].extend(these);
        }
        Ok(times)
    })
}

async fn timed_connection(
    mut stream: TcpStream,
    target: Target,
    first: usize,
    begin: Instant,
    period: Duration,
    time: Duration,
) -> Outcome<Vec<Duration>> {
    let mut buffer = vec![0; ANSWER_BYTES_MAX];
    let count = (time.as_secs_f64() / period.as_secs_f64()) as u32;
    let mut times = Vec::with_capacity(count as usize);
    for (turn, request) in (0..count).zip(target.requests.iter().cycle().skip(first)) {
        let due = begin + period * turn;
        tokio::time::sleep_until(due.into()).await;
        exchange(&mut stream, request, target.protocol, &mut buffer).await?;
        times.push(due.elapsed());
    }
    Ok(times)
}
