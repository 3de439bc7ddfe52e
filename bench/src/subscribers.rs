//! Readers of live balances: connections over which Server-Sent Events come. They note when each balance came.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::Outcome;
use crate::events::user_id;
use crate::servers::millrace::Millrace;

/// Connections that are opened at the same time.
pub const OPENED_AT_ONCE: usize = 256;
const BALANCE: &[u8] = b"\"balance\":";
const USER: &[u8] = b"\"user-";

/// A balance that came: whose, which, and when.
#[derive(Clone, Copy)]
pub struct Seen {
    pub user: usize,
    /// Rounded down; 0 for a user without one.
    pub balance: u64,
    pub at: Instant,
}

/// Readers that are connected. They read until they are dropped.
pub struct Subscribers {
    tasks: JoinSet<()>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Subscribers {
    /// Opens a connection for each of these users, and returns once each has its present balance. Runs in a runtime.
    pub async fn open(server: &Millrace, users: impl Iterator<Item = usize>) -> Outcome<Self> {
        Self::open_at(&server.address, &server.key, users, OPENED_AT_ONCE).await
    }

    /// The same for a server at this address, with `at_once` connections opened at the same time.
    pub async fn open_at(
        address: &str,
        key: &str,
        users: impl Iterator<Item = usize>,
        at_once: usize,
    ) -> Outcome<Self> {
        let mut subscribers = Self { tasks: JoinSet::new(), seen: Arc::default() };
        let users: Vec<usize> = users.collect();
        for some in users.chunks(at_once) {
            let mut opening = JoinSet::new();
            for &user in some {
                let request = format!(
                    "GET /v1/views/revenue/live?key={} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\n\r\n",
                    user_id(user),
                    key
                );
                let (address, seen) = (address.to_owned(), Arc::clone(&subscribers.seen));
                opening.spawn(async move {
                    let mut stream = TcpStream::connect(address).await?;
                    stream.write_all(request.as_bytes()).await?;
                    let mut reader = Reader { stream, seen, text: Vec::new() };
                    while reader.read().await? == 0 {}
                    Outcome::Ok(reader)
                });
            }
            while let Some(reader) = opening.join_next().await {
                let mut reader = reader??;
                subscribers.tasks.spawn(async move { while reader.read().await.is_ok() {} });
            }
        }
        Ok(subscribers)
    }

    /// Opens one connection that watches all these users, and returns once it has their present balances.
    pub async fn open_one(server: &Millrace, users: std::ops::Range<usize>) -> Outcome<Self> {
        let subscription =
            |user| format!("subscribe=%7B%22view%22:%22revenue%22,%22key%22:%22{}%22%7D", user_id(user));
        let all: Vec<String> = users.clone().map(subscription).collect();
        let request = format!(
            "GET /v1/live?{} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\n\r\n",
            all.join("&"),
            server.key
        );
        let mut subscribers = Self { tasks: JoinSet::new(), seen: Arc::default() };
        let mut stream = TcpStream::connect(&server.address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut reader = Reader { stream, seen: Arc::clone(&subscribers.seen), text: Vec::new() };
        let mut missing = users.len();
        while missing > 0 {
            missing -= reader.read().await?;
        }
        subscribers.tasks.spawn(async move { while reader.read().await.is_ok() {} });
        Ok(subscribers)
    }

    /// Takes what came since the last call.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().expect("no panic while holding the lock"))
    }
}

struct Reader {
    stream: TcpStream,
    seen: Arc<Mutex<Vec<Seen>>>,
    text: Vec<u8>,
}

impl Reader {
    /// Reads what has come, and returns how many balances were in it.
    async fn read(&mut self) -> Outcome<usize> {
        if self.stream.read_buf(&mut self.text).await? == 0 {
            return Err("the server closed a subscription".into());
        }
        let at = Instant::now();
        if self.text.starts_with(b"HTTP/1.1 ") && !self.text.starts_with(b"HTTP/1.1 200") {
            return Err(String::from_utf8_lossy(&self.text).into_owned().into());
        }
        let mut count = 0;
        while let Some(end) = memchr::memmem::find(&self.text, b"\n\n") {
            if let Some(begin) = memchr::memmem::find(&self.text[..end], BALANCE) {
                let balance = number(&self.text[begin + BALANCE.len()..end]);
                let user = memchr::memmem::find(&self.text[..end], USER).ok_or("a balance without a user")?;
                let user = number(&self.text[user + USER.len()..end]) as usize;
                self.seen.lock().expect("no panic while holding the lock").push(Seen { user, balance, at });
                count += 1;
            }
            self.text.drain(..end + 2);
        }
        Ok(count)
    }
}

/// Returns the number at the beginning of a text; 0 if there is none.
fn number(text: &[u8]) -> u64 {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| 10 * number + u64::from(digit - b'0'))
}
