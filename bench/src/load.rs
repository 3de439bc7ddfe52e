//! The load generator. Raw connections, each with one request under way; requests are made beforehand
//! and an answer is read no further than to know that it is whole and a yes. Anything else ends the run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::task::JoinSet;

use crate::{Outcome, http};

const WARM_UP: Duration = Duration::from_millis(250);
const ANSWER_BYTES_MAX: usize = 8 * 1024;

/// How an answer is told from half of one.
#[derive(Clone, Copy)]
pub enum Protocol {
    Http,
    Redis,
}

impl Protocol {
    fn answer_bytes(self, buffer: &[u8]) -> Outcome<Option<usize>> {
        match self {
            Self::Http => http::answer_bytes(buffer),
            Self::Redis => redis_answer_bytes(buffer),
        }
    }
}

/// `XADD` answers with a text, whose length comes first: `$15`.
fn redis_answer_bytes(buffer: &[u8]) -> Outcome<Option<usize>> {
    let Some(head) = memchr::memmem::find(buffer, b"\r\n") else { return Ok(None) };
    let length = std::str::from_utf8(&buffer[..head])?
        .strip_prefix('$')
        .and_then(|length| length.parse::<usize>().ok())
        .ok_or_else(|| format!("expected an id, got: {}", String::from_utf8_lossy(buffer)))?;
    let end = head + 2 + length + 2;
    Ok((buffer.len() >= end).then_some(end))
}

/// Whom to ask, and what.
#[derive(Clone)]
pub struct Target {
    pub address: String,
    pub protocol: Protocol,
    pub requests: Arc<Vec<Vec<u8>>>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Answered {
    /// All, the warm-up's too.
    pub whole: u64,
    pub a_second: f64,
}

const WARMING: u8 = 0;
const COUNTING: u8 = 1;
const OVER: u8 = 2;

/// As many requests as will go, over so many connections, each sending its next once it has its answer.
pub fn closed_loop(target: &Target, connections: usize, time: Duration) -> Outcome<Answered> {
    // One thread: it uses less of the machine than the server does, and never is the limit.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut streams = Vec::with_capacity(connections);
        for _ in 0..connections {
            let stream = TcpStream::connect(&target.address).await?;
            stream.set_nodelay(true)?;
            streams.push(stream);
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
        let (mut whole, mut counted) = (0, 0);
        while let Some(outcome) = tasks.join_next().await {
            let (all, these) = outcome??;
            whole += all;
            counted += these;
        }
        Ok(Answered { whole, a_second: counted as f64 / seconds })
    })
}

/// All answers, and those of the counting phase.
async fn one_connection(
    mut stream: TcpStream,
    target: Target,
    first: usize,
    phase: Arc<AtomicU8>,
) -> Outcome<(u64, u64)> {
    let mut buffer = vec![0; ANSWER_BYTES_MAX];
    let (mut whole, mut counted) = (0, 0);
    for request in target.requests.iter().cycle().skip(first) {
        exchange(&mut stream, request, target.protocol, &mut buffer).await?;
        whole += 1;
        match phase.load(Ordering::Relaxed) {
            COUNTING => counted += 1,
            OVER => break,
            _ => {}
        }
    }
    Ok((whole, counted))
}

async fn exchange(
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
            Some(_) => return Err("more was answered than was asked".into()),
            None => {}
        }
    }
}

/// One part of an open loop: so many connections, sending at fixed times whatever the answers do.
pub struct Stream {
    pub target: Target,
    pub connections: usize,
    pub a_second: f64,
}

/// Sends at the given rates; the times from when a request was due to its answer, for each stream. A
/// connection whose answer is late sends the next at once, and its lateness counts.
pub fn open_loop(streams: Vec<Stream>, time: Duration) -> Outcome<Vec<Vec<Duration>>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        let begin = Instant::now() + WARM_UP;
        for (number, stream) in streams.iter().enumerate() {
            let period = Duration::from_secs_f64(stream.connections as f64 / stream.a_second);
            for index in 0..stream.connections {
                let connection = TcpStream::connect(&stream.target.address).await?;
                connection.set_nodelay(true)?;
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
