//! The end of a connection whose client is still sending: the kernel resets what is closed with unread
//! bytes, and a reset overtakes the answer. So the answer is ended first, and what comes in is dropped for
//! a while.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::event::limits::{LINGER_DURATION_MAX, LINGER_IDLE_DURATION_MAX};

pub struct Lingering {
    stream: TcpStream,
    ending: Option<Ending>,
}

/// Our side is closed.
struct Ending {
    latest: Instant,
    idle: Pin<Box<Sleep>>,
}

impl Lingering {
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, ending: None }
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, ending } = self.get_mut();
        if ending.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
        }
        let now = Instant::now();
        let Ending { latest, idle } = ending.get_or_insert_with(|| Ending {
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
                // The client has ended its side, one way or another.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return idle.as_mut().poll(context).map(Ok),
            }
            if Instant::now() >= *latest {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
