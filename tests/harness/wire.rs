//! The parts of the wire protocols of PostgreSQL and MariaDB that show a COMMIT and its answer.

use super::servers::Kind;

/// Splits the bytes of one direction of a connection into protocol frames.
pub struct Frames {
    kind: Kind,
    of_client: bool,
    /// PostgreSQL frames begin with a type byte, except for the first messages of a client.
    started: bool,
    waiting: Vec<u8>,
}

impl Frames {
    pub fn of_client(kind: Kind) -> Self {
        Self { kind, of_client: true, started: false, waiting: Vec::new() }
    }

    pub fn of_server(kind: Kind) -> Self {
        Self { kind, of_client: false, started: false, waiting: Vec::new() }
    }

    /// Adds bytes and returns the frames that are complete now.
    pub fn take(&mut self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        self.waiting.extend(bytes);
        let mut frames = Vec::new();
        while let Some(length) = self.length().filter(|length| *length <= self.waiting.len()) {
            let rest = self.waiting.split_off(length);
            frames.push(std::mem::replace(&mut self.waiting, rest));
        }
        frames
    }

    fn length(&mut self) -> Option<usize> {
        let bytes = &self.waiting;
        let big = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
        match self.kind {
            Kind::Mariadb => {
                Some(u32::from_le_bytes([*bytes.first()?, *bytes.get(1)?, *bytes.get(2)?, 0]) as usize + 4)
            }
            Kind::Postgres if self.started => Some(1 + big(1)?),
            // A single `N` means that the server has no TLS. After `S` the proxy could not read the frames.
            Kind::Postgres if !self.of_client => {
                self.started = true;
                match bytes.first()? {
                    b'N' if bytes.len() == 1 => Some(1),
                    _ => Some(1 + big(1)?),
                }
            }
            Kind::Postgres => {
                let length = big(0)?;
                // After a request for TLS (this number), the startup message follows.
                self.started = big(4)? != 80_877_103;
                Some(length)
            }
        }
    }
}

/// Returns whether a client's frame contains a COMMIT.
pub fn commits(kind: Kind, frame: &[u8]) -> bool {
    let text = match (kind, frame) {
        (Kind::Postgres, [b'Q', _, _, _, _, text @ ..]) => text,
        // A parse message counts as the COMMIT itself: no client keeps a prepared COMMIT.
        (Kind::Postgres, [b'P', _, _, _, _, rest @ ..]) => {
            let name_end = rest.iter().position(|byte| *byte == 0).unwrap_or(0);
            &rest[name_end + 1..]
        }
        (Kind::Mariadb, [_, _, _, 0, 3, text @ ..]) => text,
        _ => return false,
    };
    let text = String::from_utf8_lossy(text);
    let mut statements = text.split([';', '\0']).map(str::trim);
    statements.any(|statement| statement.eq_ignore_ascii_case("COMMIT"))
}

/// Returns whether a server's frame after a COMMIT reports success (`true`) or failure (`false`), or `None` if the
/// frame is not the answer to the COMMIT.
pub fn committed(kind: Kind, frame: &[u8]) -> Option<bool> {
    match (kind, frame) {
        (Kind::Postgres, [b'C', _, _, _, _, tag @ ..]) if tag == b"COMMIT\0" => Some(true),
        (Kind::Postgres, [b'C', _, _, _, _, tag @ ..]) if tag == b"ROLLBACK\0" => Some(false),
        (Kind::Postgres, [b'E', ..]) => Some(false),
        (Kind::Mariadb, [_, _, _, _, 0xff, ..]) => Some(false),
        (Kind::Mariadb, [_, _, _, _, 0, rest @ ..]) => {
            let rest = after_number(after_number(rest)?)?;
            let status = u16::from_le_bytes([*rest.first()?, *rest.get(1)?]);
            // If one frame had several statements, the earlier ones are answered first.
            let more_to_come = status & 0x0008 != 0;
            (!more_to_come).then_some(true)
        }
        _ => None,
    }
}

/// Returns the bytes after a length-encoded integer of MariaDB, which has one to nine bytes.
fn after_number(bytes: &[u8]) -> Option<&[u8]> {
    let length = match bytes.first()? {
        0xfc => 3,
        0xfd => 4,
        0xfe => 9,
        _ => 1,
    };
    bytes.get(length..)
}
