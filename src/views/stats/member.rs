//! The key of a member in the members table. It has 16 bytes and identifies one member of one group and value.
//! Members are only counted and never shown, so their text is not stored. Short keys that differ early cost a
//! database least.

use sha2::{Digest, Sha256};

use crate::store::{MEMBER_BYTES, MemberKey};

/// Returns the first bytes of the SHA-256 of group, field, value and the member's text. Each text is preceded by its
/// length (four bytes, little-endian), so that different lists of texts are hashed as different bytes.
pub fn key(parts: [&str; 4]) -> MemberKey {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u32).to_le_bytes());
        digest.update(part);
    }
    let mut bytes = MemberKey::default();
    bytes.copy_from_slice(&digest.finalize()[..MEMBER_BYTES]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Existing rows are found by this key. If it changed, every member would be counted again.
    #[test]
    fn the_key_of_a_member_never_changes() {
        let hex = |parts: [&str; 4]| event::hex(&key(parts));
        assert_eq!(hex(["site-111", "", "", "user-1"]), "87691a6978377bcd2752ca7c19f21777");
        assert_eq!(hex(["site-111", "path", "/preise/ä", "user-1"]), "35f9f0c98e51a26a408b9776205e85fb");
    }

    #[test]
    fn texts_with_the_same_concatenation_are_different_members() {
        let keys = [["a", "b", "", ""], ["ab", "", "", ""], ["a", "", "b", ""], ["", "", "", "ab"]].map(key);
        let different: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
    }
}
