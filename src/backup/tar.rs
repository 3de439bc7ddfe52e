//! The part of the tar format that a backup needs: plain files with short names. It is not from a library, because
//! the reader has to check every byte. A header is valid only if it equals the header that would be written for the
//! same name, size and time.

pub const BLOCK_BYTES: usize = 512;
pub type Block = [u8; BLOCK_BYTES];

const NAME: std::ops::Range<usize> = 0..100;
const SIZE: std::ops::Range<usize> = 124..136;
const TIME: std::ops::Range<usize> = 136..148;
const CHECKSUM: std::ops::Range<usize> = 148..156;
/// The largest number that fits eleven octal digits. A larger one is written in binary, as GNU tar does it.
const OCTAL_MAX: u64 = 0o777_7777_7777;
const BINARY: u8 = 0x80;

/// The header of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub name: String,
    pub bytes: u64,
    /// Seconds since 1970.
    pub time: u64,
}

impl Header {
    pub fn to_block(&self) -> Block {
        let mut block = [0; BLOCK_BYTES];
        let name = &self.name.as_bytes()[..self.name.len().min(NAME.len())];
        block[..name.len()].copy_from_slice(name);
        block[100..108].copy_from_slice(b"0000600\0");
        block[108..116].copy_from_slice(b"0000000\0");
        block[116..124].copy_from_slice(b"0000000\0");
        block[SIZE].copy_from_slice(&number(self.bytes));
        block[TIME].copy_from_slice(&number(self.time));
        block[156] = b'0';
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[CHECKSUM].copy_from_slice(b"        ");
        let checksum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[CHECKSUM].copy_from_slice(format!("{checksum:06o}\0 ").as_bytes());
        block
    }

    /// Parses a header. Returns `None` if the block differs from the header that `to_block` would write.
    pub fn parse(block: &Block) -> Option<Self> {
        let end = block[NAME].iter().position(|byte| *byte == 0)?;
        let header = Self {
            name: std::str::from_utf8(&block[..end]).ok()?.to_owned(),
            bytes: parse_number(&block[SIZE])?,
            time: parse_number(&block[TIME])?,
        };
        (header.to_block() == *block).then_some(header)
    }
}

/// Returns the number of zeros that follow a content of this size.
pub fn padding(bytes: u64) -> usize {
    let over = (bytes % BLOCK_BYTES as u64) as usize;
    (BLOCK_BYTES - over) % BLOCK_BYTES
}

fn number(number: u64) -> [u8; 12] {
    let mut field = [0; 12];
    if number <= OCTAL_MAX {
        field[..11].copy_from_slice(format!("{number:011o}").as_bytes());
    } else {
        field[0] = BINARY;
        field[4..].copy_from_slice(&number.to_be_bytes());
    }
    field
}

fn parse_number(field: &[u8]) -> Option<u64> {
    match field[0] {
        BINARY => Some(u64::from_be_bytes(field[4..12].try_into().ok()?)),
        _ => u64::from_str_radix(std::str::from_utf8(&field[..11]).ok()?, 8).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_header_is_read_back_and_refused_if_a_byte_has_changed(
            name in "[a-z0-9./]{1,60}", bytes: u64, time in 0..OCTAL_MAX, at in 0..BLOCK_BYTES, change in 1..=255_u8,
        ) {
            let header = Header { name, bytes, time };
            let mut block = header.to_block();
            prop_assert_eq!(Header::parse(&block), Some(header));
            block[at] ^= change;
            prop_assert_eq!(Header::parse(&block), None);
        }
    }

    #[test]
    fn sizes_up_to_64_bits_can_be_written() {
        for bytes in [0, 1, OCTAL_MAX, OCTAL_MAX + 1, u64::MAX] {
            let header = Header { name: "a".to_owned(), bytes, time: 0 };
            assert_eq!(Header::parse(&header.to_block()).map(|header| header.bytes), Some(bytes));
        }
        assert_eq!([0, 1, 511, 512, 513].map(padding), [0, 511, 1, 0, 511]);
    }
}
