//! Reads bodies, with limits on their size and on how slowly they may arrive, and decompresses them.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, HeaderValue, header};
use event::FieldErrors;
use event::limits::{BODY_DURATION_MAX, BODY_IDLE_DURATION_MAX, BODY_SPAN, BODY_SPAN_BYTES_MIN};
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::content_encoding::{Coding, Decoder};
use super::{ApiError, Share};
use crate::admission::Refusal;

pub const JSON: &str = "application/json";

/// Returns the content type without its parameters; empty if there is none.
pub fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

pub fn expect_json(headers: &HeaderMap) -> Result<(), ApiError> {
    if content_type(headers).eq_ignore_ascii_case(JSON) {
        Ok(())
    } else {
        Err(ApiError::ContentType { expected: JSON })
    }
}

/// Refuses a body whose length a proxy in front of the server might read differently.
pub fn plain_framing(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let (first, more) = (codings.next(), codings.next());
    match (first.map(HeaderValue::as_bytes), more) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(ApiError::BrokenBody("`Transfer-Encoding` must be `chunked`, once".to_owned())),
    }
}

/// A body of any length, read in pieces and decompressed if necessary.
pub struct Pieces {
    body: Body,
    decoder: Option<Decoder>,
    /// Bytes that have arrived and are not decompressed yet.
    coded: Bytes,
    /// The last step left some of `coded`.
    unfinished: bool,
    /// The memory for decompressing, without the output.
    share: Share,
}

impl Pieces {
    pub fn of(headers: &HeaderMap, body: Body) -> Result<Self, ApiError> {
        Ok(Self::new(body, Coding::of(headers)?.decoder(), Bytes::new()))
    }

    fn new(body: Body, decoder: Option<Decoder>, coded: Bytes) -> Self {
        Self { body, decoder, coded, unfinished: false, share: Share::default() }
    }

    /// Returns the next piece; `None` at the end. Pieces stay small even if few bytes expand to many, and other
    /// requests run between them.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        let Some(decoder) = &mut self.decoder else { return piece(&mut self.body).await };
        loop {
            if std::mem::take(&mut self.unfinished) {
                tokio::task::yield_now().await;
            }
            let decoded = decoder.step(&mut self.coded)?;
            self.share.grow_to(decoder.memory_bytes() + self.coded.len())?;
            self.unfinished = !self.coded.is_empty();
            if !decoded.is_empty() {
                return Ok(Some(decoded.into()));
            }
            if self.unfinished {
                continue;
            }
            match piece(&mut self.body).await? {
                Some(coded) => self.coded = coded,
                None => return decoder.finish().map(|()| None),
            }
        }
    }
}

/// A body as it arrives, boxed by the router or not.
pub trait AnyBody: HttpBody<Data = Bytes, Error: std::fmt::Display> + Unpin {}
impl<B: HttpBody<Data = Bytes, Error: std::fmt::Display> + Unpin> AnyBody for B {}

/// Returns the next piece of a body as it was sent; `None` at its end.
async fn piece(body: &mut impl AnyBody) -> Result<Option<Bytes>, ApiError> {
    loop {
        let frame = in_time(body.frame()).await?;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(ApiError::BrokenBody(error.to_string())),
            // Trailers are ignored.
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => return Ok(Some(data)),
                Err(_) => continue,
            },
        }
    }
}

/// Waits for a frame, for a bounded time. Most bodies arrive together with their head, so a timer starts only if the
/// frame has not arrived at the second poll.
async fn in_time<F: Future>(frame: F) -> Result<F::Output, ApiError> {
    let mut frame = pin!(frame);
    let mut polled = false;
    let soon = poll_fn(|context| match frame.as_mut().poll(context) {
        Poll::Ready(frame) => Poll::Ready(Some(frame)),
        Poll::Pending if polled => Poll::Ready(None),
        Poll::Pending => {
            polled = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    });
    match soon.await {
        Some(frame) => Ok(frame),
        None => tokio::time::timeout(BODY_IDLE_DURATION_MAX, frame).await.map_err(|_| ApiError::SlowBody),
    }
}

/// How fast a body arrives that is kept in memory until it is complete.
struct Pace {
    begun: Instant,
    span_begun: Instant,
    span_bytes: usize,
}

impl Pace {
    fn start(now: Instant) -> Self {
        Self { begun: now, span_begun: now, span_bytes: 0 }
    }

    /// Counts bytes that arrived. Fails if the body takes too long, or if it arrives so slowly that it only occupies
    /// memory.
    fn count(&mut self, bytes: usize, now: Instant) -> Result<(), ApiError> {
        self.span_bytes += bytes;
        if now - self.begun > BODY_DURATION_MAX {
            return Err(ApiError::SlowBody);
        }
        if now - self.span_begun >= BODY_SPAN {
            if self.span_bytes < BODY_SPAN_BYTES_MIN {
                return Err(ApiError::SlowBody);
            }
            (self.span_begun, self.span_bytes) = (now, 0);
        }
        Ok(())
    }
}

/// Reads a complete body of at most `max` bytes, both compressed and decompressed. A body whose `Content-Length` is
/// larger is refused unread.
pub async fn whole(
    headers: &HeaderMap,
    body: impl AnyBody,
    max: usize,
    share: &mut Share,
) -> Result<Bytes, ApiError> {
    match Coding::of(headers)?.decoder() {
        None => as_sent(headers, body, max, share).await,
        // The body is read completely first, so that a slow client does not occupy a decoder.
        Some(decoder) => match as_sent(headers, body, max, share).await? {
            empty if empty.is_empty() => Ok(empty),
            coded => decompressed(decoder, coded, max, share).await,
        },
    }
}

async fn decompressed(
    decoder: Decoder,
    coded: Bytes,
    max: usize,
    share: &mut Share,
) -> Result<Bytes, ApiError> {
    let mut pieces = Pieces::new(Body::empty(), Some(decoder), coded);
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await? {
        if bytes.len() + piece.len() > max {
            return Err(Refusal::TooLarge { what: "the body", bytes_max: max }.into());
        }
        share.grow_to(bytes.len() + piece.len())?;
        bytes.extend_from_slice(&piece);
    }
    share.shrink_to(bytes.len());
    Ok(Bytes::from(bytes))
}

async fn as_sent(
    headers: &HeaderMap,
    mut body: impl AnyBody,
    max: usize,
    share: &mut Share,
) -> Result<Bytes, ApiError> {
    let too_large = || ApiError::from(Refusal::TooLarge { what: "the body", bytes_max: max });
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse().ok());
    if announced.is_some_and(|length: u64| length > max as u64) {
        return Err(too_large());
    }
    let Some(first) = piece(&mut body).await? else { return Ok(Bytes::new()) };
    if body.is_end_stream() {
        return if first.len() > max { Err(too_large()) } else { Ok(first) };
    }
    // The next piece may take long to arrive.
    share.grow_to(first.len())?;
    let mut pace = Pace::start(Instant::now());
    let second = piece(&mut body).await?;
    let Some(second) = second else {
        return if first.len() > max { Err(too_large()) } else { Ok(first) };
    };
    let mut bytes = Vec::with_capacity(announced.map_or(first.len() * 2, |length| length as usize));
    bytes.extend_from_slice(&first);
    let mut next = Some(second);
    while let Some(data) = next {
        if bytes.len() + data.len() > max {
            return Err(too_large());
        }
        pace.count(data.len(), Instant::now())?;
        share.grow_to(bytes.len() + data.len())?;
        bytes.extend_from_slice(&data);
        next = piece(&mut body).await?;
    }
    Ok(Bytes::from(bytes))
}

/// Returns bytes as text; `what` names them in the error.
pub fn utf8<'a>(what: &str, bytes: &'a [u8]) -> Result<&'a str, FieldErrors> {
    std::str::from_utf8(bytes).map_err(|_| FieldErrors::of_event(format!("{what} is not valid UTF-8")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Returns how long a body is read that brings `bytes` every `every` milliseconds, after a burst of 1 MiB.
    fn read_for(bytes: usize, every: u64) -> Duration {
        let begun = Instant::now();
        let mut pace = Pace::start(begun);
        let mut passed = Duration::ZERO;
        let mut counted = pace.count(1 << 20, begun);
        while counted.is_ok() && passed < Duration::from_secs(3600) {
            passed += Duration::from_millis(every);
            counted = pace.count(bytes, begun + passed);
        }
        passed
    }

    #[test]
    fn a_body_that_hardly_arrives_is_refused_and_a_slow_one_is_read() {
        assert!(read_for(1, 18_000) <= 3 * BODY_SPAN, "one byte every 18 s");
        assert!(read_for(100, 1_000) <= 3 * BODY_SPAN);
        let slow = read_for(2_048, 1_000);
        assert!(slow >= BODY_DURATION_MAX, "2 KiB a second, for {slow:?}");
        assert!(slow <= BODY_DURATION_MAX + BODY_SPAN, "2 KiB a second, for {slow:?}");
    }

    /// Sends half a MiB at once, and then one byte every 18 s.
    struct Dripping {
        burst: Option<Bytes>,
        next: std::pin::Pin<Box<tokio::time::Sleep>>,
    }

    impl HttpBody for Dripping {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
            let bytes = match self.burst.take() {
                Some(burst) => burst,
                None => {
                    std::task::ready!(self.next.as_mut().poll(context));
                    self.next = Box::pin(tokio::time::sleep(Duration::from_secs(18)));
                    Bytes::from_static(b"x")
                }
            };
            Poll::Ready(Some(Ok(http_body::Frame::data(bytes))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_hardly_arrives_is_ended_in_time() {
        let begun = Instant::now();
        let next = Box::pin(tokio::time::sleep(Duration::from_secs(18)));
        let body = Dripping { burst: Some(vec![b' '; 512 * 1024].into()), next };
        let mut share = Share::default();
        let read = whole(&HeaderMap::new(), body, 1024 * 1024, &mut share).await;
        assert!(matches!(read, Err(ApiError::SlowBody)), "{read:?}");
        assert!(begun.elapsed() < 4 * BODY_SPAN, "{:?}", begun.elapsed());
    }
}
