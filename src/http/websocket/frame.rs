//! The frames of RFC 6455: their heads, masks, and the forms in which the server writes its own.

/// The longest content of a control frame.
pub const CONTROL_BYTES_MAX: usize = 125;
/// The longest head of a client's frame.
const HEAD_BYTES_MAX: usize = 14;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

/// The head of a client's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub opcode: Opcode,
    /// The last frame of its message.
    pub is_last: bool,
    /// The length of the head.
    pub bytes: usize,
    pub content_bytes: usize,
    pub mask: [u8; 4],
}

/// The client broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Opcode {
    fn of(number: u8) -> Option<Self> {
        Some(match number {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xA => Self::Pong,
            _ => return None,
        })
    }

    fn number(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

impl Head {
    /// Returns `None` if the head is not complete yet.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let [first, second, ..] = *bytes else { return Ok(None) };
        // Extensions would use these bits, and none is agreed on.
        if first & 0x70 != 0 {
            return Err(Malformed);
        }
        let opcode = Opcode::of(first & 0x0F).ok_or(Malformed)?;
        let is_last = first & 0x80 != 0;
        if second & 0x80 == 0 {
            // A client masks all of its frames.
            return Err(Malformed);
        }
        let (content_bytes, head) = match second & 0x7F {
            126 => match bytes.get(2..4) {
                Some(length) => (u64::from(u16::from_be_bytes([length[0], length[1]])), 4),
                None => return Ok(None),
            },
            127 => match bytes.get(2..10).and_then(|length| length.try_into().ok()) {
                Some(length) => (u64::from_be_bytes(length), 10),
                None => return Ok(None),
            },
            short => (u64::from(short), 2),
        };
        if opcode.is_control() && (!is_last || content_bytes > CONTROL_BYTES_MAX as u64) {
            return Err(Malformed);
        }
        let Some(mask) = bytes.get(head..head + 4).and_then(|mask| mask.try_into().ok()) else {
            return Ok(None);
        };
        debug_assert!(head + 4 <= HEAD_BYTES_MAX);
        // A length that the machine cannot address is too large in any case.
        let content_bytes = usize::try_from(content_bytes).unwrap_or(usize::MAX);
        Ok(Some(Self { opcode, is_last, bytes: head + 4, content_bytes, mask }))
    }
}

/// Removes the mask from a frame's content.
pub fn unmask(content: &mut [u8], mask: [u8; 4]) {
    let mask = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let (chunks, rest) = content.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ mask).to_ne_bytes();
    }
    let mask = mask.to_ne_bytes();
    rest.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
}

/// Writes a frame of the server: a whole message, without a mask.
pub fn encode(opcode: Opcode, content: &[u8], output: &mut Vec<u8>) {
    output.reserve(HEAD_BYTES_MAX + content.len());
    output.push(0x80 | opcode.number());
    match content.len() {
        short @ 0..=125 => output.push(short as u8),
        medium @ 126..=0xFFFF => {
            output.push(126);
            output.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            output.push(127);
            output.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    output.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Writes a frame as a client does.
    fn masked(opcode: Opcode, content: &[u8], mask: [u8; 4]) -> Vec<u8> {
        let mut plain = Vec::new();
        encode(opcode, content, &mut plain);
        let head = plain.len() - content.len();
        plain[1] |= 0x80;
        let mut frame = plain[..head].to_vec();
        frame.extend_from_slice(&mask);
        let mut content = content.to_vec();
        content.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        frame.extend_from_slice(&content);
        frame
    }

    #[test]
    fn the_examples_of_the_specification_are_read_and_written() {
        let mut frame = vec![0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        let head = Head::decode(&frame).expect("valid").expect("complete");
        assert_eq!((head.opcode, head.is_last, head.bytes, head.content_bytes), (Opcode::Text, true, 6, 5));
        unmask(&mut frame[6..], head.mask);
        assert_eq!(&frame[6..], b"Hello");
        let mut written = Vec::new();
        encode(Opcode::Text, b"Hello", &mut written);
        assert_eq!(written, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        let mut medium = Vec::new();
        encode(Opcode::Binary, &[0; 256], &mut medium);
        assert_eq!(medium[..4], [0x82, 0x7E, 0x01, 0x00]);
        let mut long = Vec::new();
        encode(Opcode::Binary, &vec![0; 65_536], &mut long);
        assert_eq!(long[..10], [0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn frames_that_no_client_may_send_are_malformed() {
        for (first, second) in [
            // An extension, an unknown opcode, no mask, a control frame in parts, a long control frame.
            (0xC1, 0x80),
            (0x83, 0x80),
            (0x81, 0x05),
            (0x09, 0x80),
            (0x88, 0xFE),
        ] {
            let bytes = [first, second, 0, 126, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            assert_eq!(Head::decode(&bytes), Err(Malformed), "{first:x} {second:x}");
        }
        let huge = [0x82, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3, 4];
        assert_eq!(Head::decode(&huge).map(|head| head.map(|head| head.content_bytes)), Ok(Some(usize::MAX)));
    }

    proptest! {
        #[test]
        fn a_masked_frame_is_read_from_any_number_of_its_bytes(
            content in proptest::collection::vec(any::<u8>(), 0..300), mask: [u8; 4], cut in 0_usize..320,
        ) {
            let mut frame = masked(Opcode::Binary, &content, mask);
            let head = Head::decode(&frame).expect("valid").expect("complete");
            prop_assert_eq!(head.bytes + head.content_bytes, frame.len());
            let part = Head::decode(&frame[..cut.min(frame.len())]).expect("valid so far");
            prop_assert_eq!(part, (cut >= head.bytes).then_some(head));
            unmask(&mut frame[head.bytes..], head.mask);
            prop_assert_eq!(&frame[head.bytes..], &content[..]);
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes: Vec<u8>) {
            let _ = Head::decode(&bytes);
        }
    }
}
