//! What a member is called in the table of members: 16 bytes that tell the same one among the same group and
//! value, and no other. Only how many there are is ever asked, and a key of short rows that are all unlike
//! costs a database least.

use sha2::{Digest, Sha256};

pub const MEMBER_BYTES: u32 = 16;

pub type Name = [u8; MEMBER_BYTES as usize];

/// The first bytes of the SHA-256 of group, field, value and the member's text, each with its length in
/// front (four bytes, the smallest first), so that no two lists of texts run into the same bytes.
pub fn name(parts: [&str; 4]) -> Name {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update((part.len() as u32).to_le_bytes());
        digest.update(part);
    }
    let mut name = Name::default();
    name.copy_from_slice(&digest.finalize()[..MEMBER_BYTES as usize]);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of earlier versions are found by it: another form would count everybody anew.
    #[test]
    fn a_member_keeps_its_name() {
        let hex = |parts: [&str; 4]| event::hex(&name(parts));
        assert_eq!(hex(["site-111", "", "", "user-1"]), "87691a6978377bcd2752ca7c19f21777");
        assert_eq!(hex(["site-111", "path", "/preise/ä", "user-1"]), "35f9f0c98e51a26a408b9776205e85fb");
    }

    #[test]
    fn texts_that_join_to_the_same_are_not_the_same_member() {
        let names =
            [["a", "b", "", ""], ["ab", "", "", ""], ["a", "", "b", ""], ["", "", "", "ab"]].map(name);
        let different: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(different.len(), names.len());
    }
}
