//! A frame is one atomic append on disk. The queue writes it; scan, walk and reader read it. FORMAT.md describes the
//! layout.

use crate::LogId;

/// The largest payload of one append.
pub const PAYLOAD_BYTES_MAX: usize = 32 << 20;

pub(crate) const FRAME_HEADER_BYTES: usize = 28;

/// The kind of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// An append.
    Data,
    /// Written by `repair` in place of destroyed events, so that later events keep their positions.
    Lost,
}

/// One append, borrowed from the buffer into which it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The position of its first event.
    pub position: u64,
    /// The number of its events; each event has one position.
    pub count: u32,
    pub kind: FrameKind,
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// The position after its last event.
    pub fn end(&self) -> u64 {
        self.position + u64::from(self.count)
    }
}

/// Why some bytes are not an intact frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("a frame is incomplete: it needs {need} bytes")]
    Short { need: usize },
    #[error("a frame header has a payload length above the limit")]
    Length,
    #[error("a frame header has an invalid kind, count or position")]
    Header,
    #[error("a frame's checksum does not match its bytes")]
    Checksum,
}

/// The header of a frame. The payload follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub payload_bytes: u32,
    pub checksum: u32,
    pub position: u64,
    pub count: u32,
    pub unsynced: u32,
    pub kind: FrameKind,
}

/// An intact frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parsed<'a> {
    pub frame: Frame<'a>,
    /// The number of bytes directly before the frame that were not synced when it was written.
    pub unsynced: u32,
    /// The length of header and payload.
    pub bytes: usize,
}

/// Computes the part of a frame's checksum that does not depend on its position, so that this happens outside the
/// queue's lock.
pub(crate) fn payload_checksum(payload: &[u8]) -> u32 {
    crc32fast::hash(payload)
}

/// Appends the frame, header and payload, to `out`.
pub(crate) fn write(out: &mut Vec<u8>, id: &LogId, frame: Frame<'_>, unsynced: u32, payload_checksum: u32) {
    let header = FrameHeader {
        payload_bytes: frame.payload.len() as u32,
        checksum: 0,
        position: frame.position,
        count: frame.count,
        unsynced,
        kind: frame.kind,
    };
    let header = FrameHeader { checksum: header.checksum_after(payload_checksum, id), ..header };
    out.extend_from_slice(&header.to_bytes());
    out.extend_from_slice(frame.payload);
}

/// Parses the frame at the start of `bytes` and verifies its header and checksum.
pub(crate) fn parse<'a>(bytes: &'a [u8], id: &LogId) -> Result<Parsed<'a>, Fault> {
    let header = FrameHeader::parse(bytes)?;
    let end = FRAME_HEADER_BYTES + header.payload_bytes as usize;
    let payload = bytes.get(FRAME_HEADER_BYTES..end).ok_or(Fault::Short { need: end })?;
    if header.checksum_after(payload_checksum(payload), id) != header.checksum {
        return Err(Fault::Checksum);
    }
    Ok(Parsed { frame: header.with(payload), unsynced: header.unsynced, bytes: end })
}

/// Parses the frame at the start of `bytes` without the checksum, which must have been verified before. Returns the
/// frame and the bytes after it.
pub(crate) fn parse_checked(bytes: &[u8]) -> Option<(Frame<'_>, &[u8])> {
    let header = FrameHeader::parse(bytes).ok()?;
    let (payload, rest) = bytes[FRAME_HEADER_BYTES..].split_at_checked(header.payload_bytes as usize)?;
    Some((header.with(payload), rest))
}

impl FrameHeader {
    /// Parses a header and checks everything that does not need the payload.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let Some(bytes) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else {
            return Err(Fault::Short { need: FRAME_HEADER_BYTES });
        };
        let header = Self {
            payload_bytes: u32_at(bytes, 0),
            checksum: u32_at(bytes, 4),
            position: u64_at(bytes, 8),
            count: u32_at(bytes, 16),
            unsynced: u32_at(bytes, 20),
            kind: match bytes[24..28] {
                [1, 0, 0, 0] => FrameKind::Data,
                [2, 0, 0, 0] => FrameKind::Lost,
                _ => return Err(Fault::Header),
            },
        };
        if header.payload_bytes as usize > PAYLOAD_BYTES_MAX {
            return Err(Fault::Length);
        }
        // Zeros are not a frame, because their count would be 0.
        if header.count == 0 || header.position.checked_add(header.count.into()).is_none() {
            return Err(Fault::Header);
        }
        Ok(header)
    }

    pub(crate) fn to_bytes(self) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.checksum.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.position.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.count.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.unsynced.to_le_bytes());
        bytes[24] = self.kind.code();
        bytes
    }

    fn checksum_after(&self, payload_checksum: u32, id: &LogId) -> u32 {
        let mut covered = [0; 37];
        covered[0..16].copy_from_slice(&id.0);
        covered[16..24].copy_from_slice(&self.position.to_le_bytes());
        covered[24..28].copy_from_slice(&self.count.to_le_bytes());
        covered[28] = self.kind.code();
        covered[29..33].copy_from_slice(&self.unsynced.to_le_bytes());
        covered[33..37].copy_from_slice(&self.payload_bytes.to_le_bytes());
        let mut hasher = crc32fast::Hasher::new_with_initial(payload_checksum);
        hasher.update(&covered);
        hasher.finalize()
    }

    fn with(self, payload: &[u8]) -> Frame<'_> {
        Frame { position: self.position, count: self.count, kind: self.kind, payload }
    }
}

impl FrameKind {
    fn code(self) -> u8 {
        match self {
            Self::Data => 1,
            Self::Lost => 2,
        }
    }
}

/// Reads a little-endian number. The caller's layout guarantees that it is in bounds.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_frame_survives_a_round_trip(
            payload in proptest::collection::vec(any::<u8>(), 0..300),
            id: [u8; 16],
            position in 0..u64::MAX - u64::from(u32::MAX),
            count in 1..u32::MAX,
            unsynced: u32,
            lost: bool,
        ) {
            let id = LogId(id);
            let kind = if lost { FrameKind::Lost } else { FrameKind::Data };
            let frame = Frame { position, count, kind, payload: &payload };
            let mut bytes = Vec::new();
            write(&mut bytes, &id, frame, unsynced, payload_checksum(&payload));
            let parsed = parse(&bytes, &id).expect("is intact");
            prop_assert_eq!(parsed.frame, frame);
            prop_assert_eq!(parsed.unsynced, unsynced);
            prop_assert_eq!(parsed.bytes, bytes.len());
            let header = FrameHeader::parse(&bytes).expect("is intact");
            prop_assert_eq!(&header.to_bytes()[..], &bytes[..FRAME_HEADER_BYTES]);
        }

        #[test]
        fn parsing_arbitrary_bytes_does_not_panic(bytes: Vec<u8>, id: [u8; 16]) {
            let _ = parse(&bytes, &LogId(id));
            let _ = parse_checked(&bytes);
        }
    }
}
