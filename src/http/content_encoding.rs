//! Decompresses bodies (`Content-Encoding`) in small steps, because a few bytes may expand to very many.

use std::io::{Read, Write};

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, header};
use event::limits::{
    CODED_STEP_BYTES_MAX, GZIP_STATE_BYTES_MAX, QUICK_BODY_BYTES_MAX, ZSTD_STATE_BYTES_MAX,
    ZSTD_WINDOW_BYTES_MAX,
};
use flate2::write::MultiGzDecoder;
use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

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
            Self::Zstd => Some(Decoder::Zstd(Box::default())),
        }
    }
}

pub enum Decoder {
    /// The decoder writes its output into the vector, which is emptied at each step.
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Zstd(Box<Zstd>),
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
            Self::Zstd(decoder) => decoder.finish(),
        }
    }

    /// Returns how much memory the decoder uses.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Gzip(_) => GZIP_STATE_BYTES_MAX,
            Self::Zstd(decoder) => ZSTD_STATE_BYTES_MAX + decoder.decoded.min(decoder.window),
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

/// The next part of a zstd body.
#[derive(Clone, Copy, Default)]
enum Next {
    #[default]
    Frame,
    /// A skippable frame, which contains no data, with this many bytes left.
    Skipped(usize),
    Block,
    /// The end of a frame, after its last block. Some output may still have to be collected.
    Rest,
}

/// Decodes zstd frames block by block, each block as soon as it is complete.
#[derive(Default)]
pub struct Zstd {
    frame: FrameDecoder,
    next: Next,
    /// The bytes of a header or block that is not complete yet.
    partial: Vec<u8>,
    /// How far back the frame may refer.
    window: usize,
    /// An upper bound of the frame's output so far.
    decoded: usize,
    /// How many bytes of the frame's output were collected.
    collected: u64,
    /// The frame ends with a checksum.
    has_checksum: bool,
    any_frame: bool,
}

const BLOCK_HEADER_BYTES: usize = 3;
const BLOCK_BYTES_MAX: usize = 128 * 1024;
const CHECKSUM_BYTES: usize = 4;
const SKIPPED_HEADER_BYTES: usize = 8;

impl Zstd {
    fn step(&mut self, coded: &mut Bytes) -> Result<Vec<u8>, ApiError> {
        let (mut out, mut left, mut worked) = (Vec::new(), CODED_STEP_BYTES_MAX, 0);
        loop {
            self.collect(&mut out)?;
            // Filling a window yields no output, but it is work, too.
            if out.len() >= QUICK_BODY_BYTES_MAX || worked >= QUICK_BODY_BYTES_MAX {
                return Ok(out);
            }
            let wanted = self.wanted();
            let taken = wanted.saturating_sub(self.partial.len()).min(coded.len()).min(left);
            if taken == 0 && self.partial.len() < wanted {
                return Ok(out);
            }
            left -= taken;
            let taken = coded.split_to(taken);
            if let Next::Skipped(rest) = &mut self.next {
                *rest -= taken.len();
                if *rest == 0 {
                    self.next = Next::Frame;
                }
                continue;
            }
            self.partial.extend_from_slice(&taken);
            if self.partial.len() == self.wanted() {
                worked += if matches!(self.next, Next::Block) { BLOCK_BYTES_MAX } else { 0 };
                self.decode_complete()?;
                self.partial.clear();
            }
        }
    }

    /// Returns the length of the current header or block, as far as its first bytes tell.
    fn wanted(&self) -> usize {
        match (self.next, self.partial.as_slice()) {
            (Next::Frame, [_, _, _, _, ..]) if self.is_skipped() => SKIPPED_HEADER_BYTES,
            (Next::Frame, [_, _, _, _, descriptor, ..]) => {
                let single = descriptor & 0x20 != 0;
                let size = match descriptor >> 6 {
                    0 => usize::from(single),
                    power => 1 << power,
                };
                let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
                5 + usize::from(!single) + dictionary + size
            }
            (Next::Frame, _) => 5,
            (Next::Skipped(rest), _) => rest,
            (Next::Block, [first, second, third, ..]) => {
                let size = u32::from_le_bytes([*first, *second, *third, 0]) >> 3;
                // An RLE block contains one byte, which is repeated.
                let bytes = if (first >> 1) & 3 == 1 { 1 } else { size as usize };
                let last = first & 1 == 1;
                // A larger block is refused when its header is decoded.
                let bytes = if bytes > BLOCK_BYTES_MAX { 0 } else { bytes };
                BLOCK_HEADER_BYTES + bytes + if last && self.has_checksum { CHECKSUM_BYTES } else { 0 }
            }
            (Next::Block, _) => BLOCK_HEADER_BYTES,
            (Next::Rest, _) => 0,
        }
    }

    fn is_skipped(&self) -> bool {
        self.partial[0] >> 4 == 5 && self.partial[1..4] == [0x2a, 0x4d, 0x18]
    }

    /// Decodes the header or block that is complete.
    fn decode_complete(&mut self) -> Result<(), ApiError> {
        match self.next {
            Next::Block => {
                let one_block = BlockDecodingStrategy::UptoBlocks(1);
                let last = self.frame.decode_blocks(self.partial.as_slice(), one_block).map_err(refusal)?;
                self.decoded += BLOCK_BYTES_MAX;
                self.next = if last { Next::Rest } else { Next::Block };
            }
            _ if self.is_skipped() => {
                let length = [self.partial[4], self.partial[5], self.partial[6], self.partial[7]];
                self.next = match u32::from_le_bytes(length) {
                    0 => Next::Frame,
                    length => Next::Skipped(length as usize),
                };
            }
            _ => {
                // A reused decoder would allocate the whole window, which may never be filled.
                self.frame = FrameDecoder::new();
                self.frame.set_max_window_size(ZSTD_WINDOW_BYTES_MAX as u64);
                self.frame.init(self.partial.as_slice()).map_err(refusal)?;
                let (descriptor, window) = (self.partial[4], self.partial[5]);
                self.window = if descriptor & 0x20 != 0 {
                    self.frame.content_size() as usize
                } else {
                    (8 + usize::from(window & 7)) << (7 + (window >> 3))
                };
                self.has_checksum = descriptor & 4 != 0;
                (self.decoded, self.collected, self.any_frame) = (0, 0, true);
                self.next = Next::Block;
            }
        }
        Ok(())
    }

    /// Collects output that no later block of the frame can refer to. At the end of the frame, collects the rest.
    fn collect(&mut self, out: &mut Vec<u8>) -> Result<(), ApiError> {
        let (at, space) = (out.len(), QUICK_BODY_BYTES_MAX.saturating_sub(out.len()));
        out.resize(at + self.frame.can_collect().min(space), 0);
        let read = self.frame.read(&mut out[at..]).map_err(|_| ApiError::NotDecoded("zstd"))?;
        out.truncate(at + read);
        self.collected += read as u64;
        if matches!(self.next, Next::Rest) && self.frame.can_collect() == 0 {
            let announced = self.frame.content_size();
            let checksum = self.frame.get_checksum_from_data();
            let valid = (announced == 0 || announced == self.collected)
                && (checksum.is_none() || checksum == self.frame.get_calculated_checksum());
            if !valid {
                return Err(ApiError::NotDecoded("zstd"));
            }
            self.next = Next::Frame;
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), ApiError> {
        if self.any_frame && self.partial.is_empty() && matches!(self.next, Next::Frame) {
            Ok(())
        } else {
            Err(ApiError::NotDecoded("zstd"))
        }
    }
}

fn refusal(error: FrameDecoderError) -> ApiError {
    match error {
        FrameDecoderError::WindowSizeTooBig { .. } => {
            Refusal::TooLarge { what: "the window of the zstd body", bytes_max: ZSTD_WINDOW_BYTES_MAX }.into()
        }
        _ => ApiError::NotDecoded("zstd"),
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).expect("into memory");
        encoder.finish().expect("into memory")
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
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
                    decoder.memory_bytes() <= before + QUICK_BODY_BYTES_MAX + BLOCK_BYTES_MAX,
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
        for text in ["", "x", &lines] {
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
    fn a_window_is_filled_in_steps_and_counted() {
        let block = [(128 << 10 << 3 | 2) as u8, 0, 0x10, b'x'];
        let frame = [&[0x28, 0xb5, 0x2f, 0xfd, 0, 13 << 3][..], &block.repeat(64)].concat();
        let (mut decoder, mut coded) = (Coding::Zstd.decoder().expect("a decoder"), Bytes::from(frame));
        let mut steps = 0;
        while !coded.is_empty() {
            assert_eq!(decoder.step(&mut coded), Ok(Vec::new()));
            steps += 1;
        }
        assert_eq!((steps, decoder.memory_bytes()), (64, ZSTD_STATE_BYTES_MAX + ZSTD_WINDOW_BYTES_MAX));
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
