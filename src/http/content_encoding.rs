//! Decompresses bodies (`Content-Encoding`) in small steps, because a few bytes may expand to very many.

use std::io::Write;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, header};
use event::limits::{
    CODED_STEP_BYTES_MAX, GZIP_STATE_BYTES_MAX, QUICK_BODY_BYTES_MAX, ZSTD_STATE_BYTES_MAX,
    ZSTD_WINDOW_BYTES_MAX,
};
use flate2::write::MultiGzDecoder;
use zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use super::ApiError;
use crate::admission::Refusal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    Identity,
    Gzip,
    Zstd,
}

impl Coding {
    /// Reads the header. Fails if it names several codings or an unknown one.
    pub fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut named = headers.get_all(header::CONTENT_ENCODING).iter().map(HeaderValue::as_bytes);
        let Some(name) = named.next() else { return Ok(Self::Identity) };
        match name.trim_ascii().to_ascii_lowercase().as_slice() {
            _ if named.next().is_some() => Err(ApiError::ContentEncoding),
            b"identity" => Ok(Self::Identity),
            b"gzip" | b"x-gzip" => Ok(Self::Gzip),
            b"zstd" => Ok(Self::Zstd),
            _ => Err(ApiError::ContentEncoding),
        }
    }

    pub fn decoder(self) -> Option<Decoder> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some(Decoder::Gzip(Box::new(MultiGzDecoder::new(Vec::new())))),
            Self::Zstd => Some(Decoder::Zstd(Zstd::new())),
        }
    }
}

pub enum Decoder {
    /// The decoder writes its output into the vector, which is emptied at each step.
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Zstd(Zstd),
}

impl Decoder {
    /// Decodes a part of `coded` and returns the output, about `QUICK_BODY_BYTES_MAX` bytes at most. If more input is
    /// needed first, the output is empty and so is `coded`.
    pub fn step(&mut self, coded: &mut Bytes) -> Result<Vec<u8>, ApiError> {
        match self {
            Self::Gzip(decoder) => gunzip(decoder, coded).map_err(|_| ApiError::NotDecoded("gzip")),
            Self::Zstd(decoder) => decoder.step(coded),
        }
    }

    /// Fails if the stream is incomplete.
    pub fn finish(&mut self) -> Result<(), ApiError> {
        match self {
            Self::Gzip(decoder) => decoder.try_finish().map_err(|_| ApiError::NotDecoded("gzip")),
            Self::Zstd(decoder) if decoder.complete => Ok(()),
            Self::Zstd(_) => Err(ApiError::NotDecoded("zstd")),
        }
    }

    /// Returns how much memory the decoder uses.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Gzip(_) => GZIP_STATE_BYTES_MAX,
            Self::Zstd(decoder) => decoder.memory_bytes(),
        }
    }
}

fn gunzip(decoder: &mut MultiGzDecoder<Vec<u8>>, coded: &mut Bytes) -> std::io::Result<Vec<u8>> {
    let mut left = CODED_STEP_BYTES_MAX.min(coded.len());
    while left > 0 && decoder.get_ref().len() < QUICK_BODY_BYTES_MAX {
        let taken = decoder.write(&coded[..left])?;
        drop(coded.split_to(taken));
        left -= taken;
    }
    decoder.flush()?;
    Ok(std::mem::take(decoder.get_mut()))
}

/// Decodes zstd frames, one after another.
pub struct Zstd {
    state: DCtx<'static>,
    /// How many bytes were decoded, at least.
    decoded: usize,
    /// The last step filled its output, so that there may be more without further input.
    has_more: bool,
    /// The last frame is complete.
    complete: bool,
}

impl Zstd {
    fn new() -> Self {
        let mut state = DCtx::create();
        let window = DParameter::WindowLogMax(ZSTD_WINDOW_BYTES_MAX.ilog2());
        // The library accepts every window up to 2 GiB.
        state.set_parameter(window).expect("a valid window");
        Self { state, decoded: 0, has_more: false, complete: false }
    }

    fn step(&mut self, coded: &mut Bytes) -> Result<Vec<u8>, ApiError> {
        if coded.is_empty() && !self.has_more {
            return Ok(Vec::new());
        }
        let taken = coded.slice(..coded.len().min(CODED_STEP_BYTES_MAX));
        let mut decoded = Vec::with_capacity(QUICK_BODY_BYTES_MAX);
        let (mut input, mut output) = (InBuffer::around(&taken), OutBuffer::around(&mut decoded));
        loop {
            let needed = self.state.decompress_stream(&mut output, &mut input).map_err(refusal)?;
            let full = output.pos() == output.capacity();
            self.complete = needed == 0;
            // A complete frame has no more output, and a step without input would begin another frame.
            self.has_more = full && !self.complete;
            if full || input.pos == taken.len() {
                break;
            }
        }
        drop(coded.split_to(input.pos));
        self.decoded = self.decoded.saturating_add(decoded.len());
        Ok(decoded)
    }

    /// The library allocates the whole window of a frame at once. The system provides the memory as it is filled.
    fn memory_bytes(&self) -> usize {
        self.state.sizeof().min(ZSTD_STATE_BYTES_MAX + self.decoded)
    }
}

fn refusal(code: usize) -> ApiError {
    let window_too_large = ZSTD_ErrorCode::ZSTD_error_frameParameter_windowTooLarge as usize;
    if code.wrapping_neg() == window_too_large {
        Refusal::TooLarge { what: "the window of the zstd body", bytes_max: ZSTD_WINDOW_BYTES_MAX }.into()
    } else {
        ApiError::NotDecoded("zstd")
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).expect("into memory");
        encoder.finish().expect("into memory")
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).expect("into memory")
    }

    /// Returns all output of `coded`, which is decoded in pieces of `size` bytes.
    fn decoded(coding: Coding, coded: &[u8], size: usize) -> Result<Vec<u8>, ApiError> {
        let (mut decoder, mut out) = (coding.decoder().expect("a decoder"), Vec::new());
        for piece in coded.chunks(size) {
            let mut piece = Bytes::copy_from_slice(piece);
            loop {
                let before = decoder.memory_bytes();
                let part = decoder.step(&mut piece)?;
                assert!(
                    decoder.memory_bytes() <= before + QUICK_BODY_BYTES_MAX + ZSTD_STATE_BYTES_MAX,
                    "too much memory"
                );
                assert!(part.len() <= QUICK_BODY_BYTES_MAX + 64 * 1024, "a step of {}", part.len());
                if part.is_empty() && piece.is_empty() {
                    break;
                }
                out.extend_from_slice(&part);
            }
        }
        decoder.finish().map(|()| out)
    }

    #[test]
    fn compressed_bodies_are_restored_from_pieces_of_any_size() {
        let lines: String = (0..60_000).map(|line| format!("{{\"n\":{line}}}\n")).collect();
        let (one_step, two_steps) = ("x".repeat(QUICK_BODY_BYTES_MAX), "y".repeat(2 * QUICK_BODY_BYTES_MAX));
        for text in ["", "x", &lines, &one_step, &two_steps] {
            let bytes = text.as_bytes();
            let halves = bytes.split_at(bytes.len() / 2);
            for size in [1, 7, 4096, usize::MAX] {
                for (coding, coded) in [
                    (Coding::Gzip, gzip(bytes)),
                    (Coding::Gzip, [gzip(halves.0), gzip(b""), gzip(halves.1)].concat()),
                    (Coding::Zstd, zstd(bytes)),
                    (Coding::Zstd, [zstd(halves.0), SKIPPED.to_vec(), zstd(b""), zstd(halves.1)].concat()),
                ] {
                    let back = decoded(coding, &coded, size).expect("valid");
                    assert!(back == bytes, "{coding:?} of {} bytes in pieces of {size}", bytes.len());
                }
            }
        }
        assert_eq!(decoded(Coding::Zstd, OF_THE_ZSTD_COMMAND, 3).expect("valid"), b"aaaaaaaaaabaaaaaaaaaa\n");
    }

    /// A skippable frame of seven bytes.
    const SKIPPED: &[u8] = b"\x5a\x2a\x4d\x18\x07\0\0\0skipped";
    /// `zstd -19` of a line from a pipe: a window, no size, a checksum.
    const OF_THE_ZSTD_COMMAND: &[u8] = &[
        0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x68, 0x75, 0x00, 0x00, 0x62, 0x81, 0x02, 0x05, 0xf0, 0x39, 0xfb, 0x2c,
        0x8f, 0xfc, 0xdf, 0xff, 0x01, 0x00, 0x42, 0x15, 0xef, 0x88,
    ];

    #[test]
    fn truncated_or_altered_streams_are_refused() {
        let bytes = "a line of some length, and another\n".repeat(200).into_bytes();
        for (coding, coded) in [(Coding::Gzip, gzip(&bytes)), (Coding::Zstd, zstd(&bytes))] {
            for end in 0..coded.len() {
                assert!(decoded(coding, &coded[..end], 64).is_err(), "{coding:?} cut at {end}");
            }
            let more = [coded.as_slice(), b"x"].concat();
            assert!(decoded(coding, &more, 64).is_err(), "{coding:?} with a byte after its end");
        }
        let mut altered = OF_THE_ZSTD_COMMAND.to_vec();
        *altered.last_mut().expect("bytes") ^= 1;
        assert_eq!(decoded(Coding::Zstd, &altered, 64), Err(ApiError::NotDecoded("zstd")));
        let mut altered = gzip(&bytes);
        let checksum = altered.len() - 5;
        altered[checksum] ^= 1;
        assert_eq!(decoded(Coding::Gzip, &altered, 64), Err(ApiError::NotDecoded("gzip")));
    }

    #[test]
    fn a_window_is_counted_as_it_is_filled() {
        let block = [(128 << 10 << 3 | 2) as u8, 0, 0x10, b'x'];
        let frame = [&[0x28, 0xb5, 0x2f, 0xfd, 0, 13 << 3][..], &block.repeat(100)].concat();
        let (mut decoder, mut coded) = (Coding::Zstd.decoder().expect("a decoder"), Bytes::from(frame));
        let (mut steps, mut bytes) = (0, 0);
        loop {
            let part = decoder.step(&mut coded).expect("valid");
            if part.is_empty() && coded.is_empty() {
                break;
            }
            (steps, bytes) = (steps + 1, bytes + part.len());
            let most = ZSTD_STATE_BYTES_MAX + bytes.min(ZSTD_WINDOW_BYTES_MAX);
            assert!(decoder.memory_bytes() <= most, "{} bytes", decoder.memory_bytes());
        }
        assert_eq!((steps, bytes), (100, 100 * QUICK_BODY_BYTES_MAX));
        assert!(decoder.memory_bytes() >= ZSTD_WINDOW_BYTES_MAX);
    }

    #[test]
    fn a_window_that_is_too_large_is_refused_by_its_header() {
        let window = |descriptor: u8| [0x28, 0xb5, 0x2f, 0xfd, 0, descriptor, 1, 0, 0];
        assert_eq!(decoded(Coding::Zstd, &window(13 << 3), 64), Ok(Vec::new()));
        let refused = decoded(Coding::Zstd, &window(13 << 3 | 1), 64).expect_err("too large");
        assert_eq!(refused.status(), 413, "{refused:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused_without_a_panic(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), size in 1_usize..200,
            text in "[a-c]{0,300}[a-z0-9]{0,300}", random: Vec<u8>,
        ) {
            for (coding, mut coded) in [(Coding::Gzip, gzip(text.as_bytes())), (Coding::Zstd, zstd(text.as_bytes()))] {
                changes.iter().for_each(|(at, byte)| *at.get_mut(&mut coded) = *byte);
                drop(decoded(coding, &coded, size));
                drop(decoded(coding, &random, size));
                drop(decoded(coding, &[&coded[..coded.len() / 2], &random].concat(), size));
            }
        }
    }

    #[test]
    fn codings_are_recognised_by_name() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            values.iter().for_each(|value| {
                headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(value));
            });
            Coding::of(&headers)
        };
        assert_eq!(of(&[]), Ok(Coding::Identity));
        assert_eq!(of(&["identity"]), Ok(Coding::Identity));
        assert_eq!((of(&["gzip"]), of(&["X-GZip"])), (Ok(Coding::Gzip), Ok(Coding::Gzip)));
        assert_eq!(of(&["zstd"]), Ok(Coding::Zstd));
        for others in [&["br"][..], &["gzip, zstd"], &["gzip", "gzip"], &["deflate"], &[""]] {
            assert_eq!(of(others), Err(ApiError::ContentEncoding), "{others:?}");
        }
    }
}
