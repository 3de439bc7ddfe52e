//! Who an event is. An event without a client's id is named by its place in the log, so that no index
//! is needed to find it again; one with a client's id is named by that, so that a repeat has the same
//! name.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Names one log for ever: positions mean nothing without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId(pub [u8; 16]);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A UUID. Version 8 holds a log's first bytes and a position; version 5 is derived from (stream, key's
/// owner, client's id).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId([u8; 16]);

const POSITION_BITS: u32 = 60;
const NAMESPACE: Uuid = Uuid::from_u128(0x6d69_6c6c_7261_5e00_8000_6576_656e_7473);

impl EventId {
    /// The event at `position` of `log`.
    ///
    /// Bits: 48 of the log id, version 8, 12 high bits of the position, variant, 14 zero bits (a
    /// partition, once a log has several), 48 low bits of the position.
    pub fn at(log: LogId, position: u64) -> Self {
        assert!(position >> POSITION_BITS == 0, "a log of 2^60 events");
        let place = position.to_be_bytes();
        let mut bytes = [0_u8; 16];
        bytes[..6].copy_from_slice(&log.0[..6]);
        bytes[6] = 0x80 | (place[0] & 0x0f);
        bytes[7] = place[1];
        bytes[8] = 0x80;
        bytes[10..].copy_from_slice(&place[2..]);
        Self(bytes)
    }

    /// The event that `owner` calls `client_id` in `stream`. The lengths keep (`ab`, `c`) and (`a`, `bc`) apart.
    pub fn derived(stream: &str, owner: &str, client_id: &str) -> Self {
        let name = format!("{}:{stream}{}:{owner}{client_id}", stream.len(), owner.len());
        Self(Uuid::new_v5(&NAMESPACE, name.as_bytes()).into_bytes())
    }

    /// The event at `index` of a request that `owner` sent under an `Idempotency-Key`. No client's id holds a NUL,
    /// so that none is ever the same as a key and an index.
    pub fn derived_by_key(stream: &str, owner: &str, key: &str, index: usize) -> Self {
        Self::derived(stream, owner, &format!("{key}\0{index}"))
    }

    /// The position that this id names, if it names one in `log`.
    pub fn position_in(self, log: LogId) -> Option<u64> {
        if self.0[6] >> 4 != 8 || self.0[..6] != log.0[..6] || self.0[8] != 0x80 || self.0[9] != 0 {
            return None;
        }
        let mut place = [0_u8; 8];
        place[0] = self.0[6] & 0x0f;
        place[1] = self.0[7];
        place[2..].copy_from_slice(&self.0[10..]);
        Some(u64::from_be_bytes(place))
    }

    pub fn is_derived(self) -> bool {
        self.0[6] >> 4 == 5
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    pub const TEXT_BYTES: usize = 36;

    /// What `Display` writes, without memory for it.
    pub fn to_text(self) -> [u8; Self::TEXT_BYTES] {
        let mut text = [0; Self::TEXT_BYTES];
        Uuid::from_bytes(self.0).hyphenated().encode_lower(&mut text);
        text
    }

    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_bytes(self.0).hyphenated().fmt(f)
    }
}

impl FromStr for EventId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Ok(Self(Uuid::try_parse(text)?.into_bytes()))
    }
}

/// Names what a run of lines came from: a file as `send` knows it, or an `Idempotency-Key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(pub [u8; 16]);

impl UploadId {
    /// What `owner` calls `name`: two keys' sources never meet, whatever they are called.
    pub fn derived(stream: &str, owner: &str, name: &str) -> Self {
        Self(*EventId::derived(stream, owner, name).as_bytes())
    }

    /// The lines of a body that `owner` sent under an `Idempotency-Key`.
    pub fn derived_by_key(stream: &str, owner: &str, key: &str) -> Self {
        Self::derived(stream, owner, &format!("key:{key}"))
    }
}

/// Tells whether what was sent twice under one id is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyHash(pub [u8; 8]);

impl BodyHash {
    pub fn of(body: &[u8]) -> Self {
        let digest = Sha256::digest(body);
        let mut hash = [0_u8; 8];
        hash.copy_from_slice(&digest[..8]);
        Self(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_position_comes_back_out_of_its_id(log: [u8; 16], position in 0_u64..1 << POSITION_BITS) {
            let id = EventId::at(LogId(log), position);
            proptest::prop_assert_eq!(id.position_in(LogId(log)), Some(position));
            proptest::prop_assert_eq!(id.to_string().parse::<EventId>().ok(), Some(id));
            proptest::prop_assert_eq!(id.to_string().into_bytes(), id.to_text());
            proptest::prop_assert!(!id.is_derived());
        }
    }

    #[test]
    fn derived_ids_tell_streams_owners_and_ids_apart() {
        let ids = [
            EventId::derived("s", "o", "1"),
            EventId::derived("s", "o", "2"),
            EventId::derived("so", "", "1"),
            EventId::derived("s", "o1", ""),
            EventId::derived("t", "o", "1"),
        ];
        for (index, id) in ids.iter().enumerate() {
            assert!(id.is_derived() && id.position_in(LogId([0; 16])).is_none());
            assert!(!ids[..index].contains(id));
        }
        assert_eq!(ids[0], EventId::derived("s", "o", "1"));
    }
}
