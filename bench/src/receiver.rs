//! A receiver of webhooks. It answers 200 to each request, and notes when its first byte came.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use memchr::memmem::find;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::Outcome;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const SIGNATURE: &[u8] = b"\r\nwebhook-signature: v1,";

/// Counts the requests to a path of the receiver: `/0`, `/1` and so on.
#[derive(Default)]
struct Path {
    count: AtomicU64,
    /// Requests get no answer.
    hangs: AtomicBool,
}

pub struct Receiver {
    pub address: String,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    paths: Vec<Path>,
    unsigned: AtomicU64,
    /// The number after `"number":` in each body, and when the request's first byte came.
    arrivals: Mutex<Vec<(u64, Instant)>>,
}

impl Receiver {
    /// Starts a receiver in a thread of its own.
    pub fn start(paths: usize) -> Outcome<Self> {
        let mut state = State::default();
        state.paths.resize_with(paths, Path::default);
        let state = Arc::new(state);
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?.to_string();
        let (stop, stopped) = oneshot::channel();
        let of_thread = Arc::clone(&state);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                tokio::select! {
                    () = accept(listener, of_thread) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { address, state, stop: Some(stop), thread: Some(thread) })
    }

    pub fn url(&self, path: usize) -> String {
        format!("http://{}/{path}", self.address)
    }

    pub fn hang(&self, path: usize, hangs: bool) {
        self.state.paths[path].hangs.store(hangs, Ordering::Relaxed);
    }

    /// Returns how many requests these paths have taken.
    pub fn count(&self, paths: impl Iterator<Item = usize>) -> u64 {
        paths.map(|path| self.state.paths[path].count.load(Ordering::Relaxed)).sum()
    }

    pub fn take_arrivals(&self) -> Vec<(u64, Instant)> {
        std::mem::take(&mut self.state.arrivals.lock().expect("no panic while holding the lock"))
    }

    /// Fails if a request had no signature.
    pub fn expect_signed(&self) -> Outcome<()> {
        match self.state.unsigned.load(Ordering::Relaxed) {
            0 => Ok(()),
            count => Err(format!("{count} requests had no signature").into()),
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        drop(stream.set_nodelay(true));
        // A connection that breaks has no more requests.
        let state = Arc::clone(&state);
        tokio::spawn(async move { drop(serve(stream, &state).await) });
    }
}

async fn serve(mut stream: TcpStream, state: &State) -> Outcome<()> {
    let (mut text, mut begun) = (Vec::new(), None);
    while stream.read_buf(&mut text).await? > 0 {
        let begun_at = *begun.get_or_insert_with(Instant::now);
        let Some(head) = find(&text, b"\r\n\r\n").map(|end| end + 4) else { continue };
        let length = number_after(&text[..head], b"content-length: ").ok_or("a request without a length")?;
        let end = head + length as usize;
        if text.len() < end {
            continue;
        }
        let path = number_after(&text[..head], b" /").ok_or("a request without a path")? as usize;
        let path = state.paths.get(path).ok_or("an unknown path")?;
        if path.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        if find(&text[..head], SIGNATURE).is_none() {
            state.unsigned.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(number) = number_after(&text[head..end], br#""number":"#) {
            state.arrivals.lock().expect("no panic while holding the lock").push((number, begun_at));
        }
        path.count.fetch_add(1, Ordering::Relaxed);
        text.drain(..end);
        begun = None;
        stream.write_all(ANSWER).await?;
    }
    Ok(())
}

/// Returns the number that follows the first occurrence of `before`.
fn number_after(text: &[u8], before: &[u8]) -> Option<u64> {
    let begin = find(text, before)? + before.len();
    let digits = text[begin..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&text[begin..begin + digits]).ok()?.parse().ok()
}
