//! The ids of events and uploads. The id of an event contains its position in the log, so that no index is
//! needed to find the event. If the client sent an id, the event's id is derived from that instead, so that a repeat
//! gets the same id.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::LogId;

/// A UUID. Version 8 contains the first bytes of the log id and a position. Version 5 is derived from the stream, the
/// name of the key and the client's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId([u8; 16]);

const POSITION_BITS: u32 = 60;
const NAMESPACE: Uuid = Uuid::from_u128(0x6d69_6c6c_7261_5e00_8000_6576_656e_7473);

impl EventId {
    /// Returns the id of the event at `position` of `log`.
    ///
    /// Its bits are: 48 of the log id, version 8, the 12 high bits of the position, the variant, 14 zero bits, and
    /// the 48 low bits of the position. The zero bits are reserved for a partition, once a log has several.
    pub fn at(log: LogId, position: u64) -> Self {
        assert!(position >> POSITION_BITS == 0, "positions are below 2^60");
        let position = position.to_be_bytes();
        let mut bytes = [0_u8; 16];
        bytes[..6].copy_from_slice(&log.0[..6]);
        bytes[6] = 0x80 | (position[0] & 0x0f);
        bytes[7] = position[1];
        bytes[8] = 0x80;
        bytes[10..].copy_from_slice(&position[2..]);
        Self(bytes)
    }

    /// Returns the id of the event that `owner` sent as `client_id` in `stream`. The hashed name contains the
    /// lengths, so that (`ab`, `c`) and (`a`, `bc`) give different ids.
    pub fn derived(stream: &str, owner: &str, client_id: &str) -> Self {
        let name = format!("{}:{stream}{}:{owner}{client_id}", stream.len(), owner.len());
        Self(Uuid::new_v5(&NAMESPACE, name.as_bytes()).into_bytes())
    }

    /// Returns the id of the event at `index` of a request that `owner` sent with an `Idempotency-Key`. Client ids
    /// contain no NUL, so that a client id never gives the same id as a key and an index.
    pub fn derived_by_key(stream: &str, owner: &str, key: &str, index: usize) -> Self {
        Self::derived(stream, owner, &format!("{key}\0{index}"))
    }

    /// Returns the position that this id contains, or `None` if it is not an id of a position in `log`.
    pub fn position_in(self, log: LogId) -> Option<u64> {
        if self.0[6] >> 4 != 8 || self.0[..6] != log.0[..6] || self.0[8] != 0x80 || self.0[9] != 0 {
            return None;
        }
        let mut position = [0_u8; 8];
        position[0] = self.0[6] & 0x0f;
        position[1] = self.0[7];
        position[2..].copy_from_slice(&self.0[10..]);
        Some(u64::from_be_bytes(position))
    }

    pub fn is_derived(self) -> bool {
        self.0[6] >> 4 == 5
    }

    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    pub const TEXT_BYTES: usize = 36;

    /// Returns the text that `Display` writes, without an allocation.
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

/// The id of an upload: the name that `send` gives a file, or an `Idempotency-Key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(pub [u8; 16]);

impl UploadId {
    /// Returns the id of the upload that `owner` calls `name`. Uploads of different owners never have the same id.
    pub fn derived(stream: &str, owner: &str, name: &str) -> Self {
        Self(*EventId::derived(stream, owner, name).as_bytes())
    }

    /// Returns the id for the lines of a body that `owner` sent with an `Idempotency-Key`.
    pub fn derived_by_key(stream: &str, owner: &str, key: &str) -> Self {
        Self::derived(stream, owner, &format!("key:{key}"))
    }
}

/// The first 8 bytes of a SHA-256. If two events have the same id, it tells a repeat from a misused id.
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
        fn the_id_of_a_position_contains_it(log: [u8; 16], position in 0_u64..1 << POSITION_BITS) {
            let id = EventId::at(LogId(log), position);
            proptest::prop_assert_eq!(id.position_in(LogId(log)), Some(position));
            proptest::prop_assert_eq!(id.to_string().parse::<EventId>().ok(), Some(id));
            proptest::prop_assert_eq!(id.to_string().into_bytes(), id.to_text());
            proptest::prop_assert!(!id.is_derived());
        }
    }

    #[test]
    fn derived_ids_differ_by_stream_owner_and_client_id() {
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
