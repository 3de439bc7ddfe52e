//! A TCP stream with timeouts for slow clients.
//!
//! A client that does not read would hold its connection without end, so writing fails after a time.
//!
//! A client that still sends when its connection ends would get a reset instead of the answer. So the server closes
//! its own side first, and discards what arrives for a short time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use event::limits::{LINGER_DURATION_MAX, LINGER_IDLE_DURATION_MAX};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

pub struct IdleTimeoutStream {
    stream: TcpStream,
    answer_idle_max: Duration,
    /// Runs while the client does not read and a write is pending.
    write_timeout: Option<Pin<Box<Sleep>>>,
    closing: Option<Closing>,
}

/// The time limits after the server has closed its own side.
struct Closing {
    latest: Instant,
    idle: Pin<Box<Sleep>>,
}

impl IdleTimeoutStream {
    pub fn new(stream: TcpStream, answer_idle_max: Duration) -> Self {
        Self { stream, answer_idle_max, write_timeout: None, closing: None }
    }

    /// Fails a write that has been pending for too long.
    fn check_write(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if outcome.is_ready() {
            self.write_timeout = None;
            return outcome;
        }
        let timeout = self.write_timeout.get_or_insert_with(|| Box::pin(sleep(self.answer_idle_max)));
        timeout.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for IdleTimeoutStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for IdleTimeoutStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.check_write(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.check_write(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, closing, .. } = self.get_mut();
        if closing.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
        }
        let now = Instant::now();
        let Closing { latest, idle } = closing.get_or_insert_with(|| Closing {
            latest: now + LINGER_DURATION_MAX,
            idle: Box::pin(sleep_until(now + LINGER_IDLE_DURATION_MAX)),
        });
        let mut dropped = [0_u8; 16 * 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut dropped);
            match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    idle.as_mut().reset((Instant::now() + LINGER_IDLE_DURATION_MAX).min(*latest));
                }
                // The client has closed its side, or the connection has failed.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return idle.as_mut().poll(context).map(Ok),
            }
            if Instant::now() >= *latest {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair(answer_idle_max: Duration) -> (IdleTimeoutStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        (IdleTimeoutStream::new(server.expect("accepted").0, answer_idle_max), client.expect("connected"))
    }

    #[tokio::test]
    async fn writing_to_a_client_that_does_not_read_times_out() {
        let (mut server, _client) = pair(Duration::from_millis(20)).await;
        let answer = vec![0; 64 * 1024];
        let error = loop {
            if let Err(error) = server.write_all(&answer).await {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn writing_to_a_client_that_reads_succeeds() {
        let (mut server, mut client) = pair(Duration::from_secs(20)).await;
        let answer = vec![7; 8 * 1024 * 1024];
        let reading = tokio::spawn(async move {
            let mut read = Vec::new();
            client.read_to_end(&mut read).await.map(|count| count as u64)
        });
        server.write_all(&answer).await.expect("written");
        server.shutdown().await.expect("ended");
        assert_eq!(reading.await.expect("joined").expect("read"), answer.len() as u64);
    }
}
