//! Compressed bodies. Any bytes are decompressed or refused, with the same result for pieces of any size. Content
//! that was compressed comes out unchanged.

use std::convert::Infallible;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, header};
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Frame;
use millrace::admission::Refusal;
use millrace::http::ApiError;
use millrace::http::Share;
use millrace::http::body::{Pieces, whole};

/// Enough for several steps of the decoders. A larger body is refused.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Runs one input. Its first byte selects the coding, whether the rest is coded already or must be compressed first,
/// and the size of the pieces.
pub fn run(bytes: &[u8]) {
    let Some((&first, rest)) = bytes.split_first() else { return };
    let coding = if first & 1 == 0 { "gzip" } else { "zstd" };
    let coded = if first & 2 == 0 { rest.to_vec() } else { compressed(rest, coding.as_bytes()) };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
    let pieces = InPieces { left: Bytes::from(coded.clone()), length: 1 << (first >> 2 & 7) };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (at_once, in_pieces) = runtime.block_on(async {
        let at_once = whole(&headers, Body::from(coded), BODY_BYTES_MAX, &mut Share::default()).await;
        (at_once, joined(&headers, Body::new(pieces)).await)
    });
    if first & 2 != 0 && !rest.is_empty() {
        assert_eq!(at_once.as_deref(), Ok(rest), "compressed content is changed");
    }
    match (&at_once, &in_pieces) {
        (Ok(at_once), Ok(in_pieces)) => assert_eq!(at_once, in_pieces),
        // No bytes at all are a complete, empty body, but not a stream of either coding.
        (Ok(at_once), Err(_)) => assert!(at_once.is_empty(), "refused only in pieces: {in_pieces:?}"),
        (Err(at_once), Ok(_)) => panic!("refused only as a whole: {at_once:?}"),
        (Err(_), Err(_)) => {}
    }
}

async fn joined(headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    let (mut pieces, mut bytes) = (Pieces::of(headers, body)?, Vec::new());
    while let Some(piece) = pieces.next().await? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > BODY_BYTES_MAX {
            return Err(Refusal::TooLarge { what: "the body", bytes_max: BODY_BYTES_MAX }.into());
        }
    }
    Ok(bytes.into())
}

/// Compresses `bytes` as a client may do. With an unknown coding they stay unchanged.
pub fn compressed(bytes: &[u8], coding: &[u8]) -> Vec<u8> {
    match coding {
        b"gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("a write to memory cannot fail")
        }
        b"zstd" => zstd::encode_all(bytes, 1).expect("a write to memory cannot fail"),
        _ => bytes.to_vec(),
    }
}

/// A body that arrives in pieces of the same length.
struct InPieces {
    left: Bytes,
    length: usize,
}

impl hyper::body::Body for InPieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.length.min(self.left.len());
        let piece = self.left.split_to(length);
        Poll::Ready((!piece.is_empty()).then_some(Ok(Frame::data(piece))))
    }
}
