//! As much of the two databases' wire protocols as it takes to see a COMMIT pass, and its answer.

use super::servers::Kind;

/// Cuts what comes in one direction of a connection into the protocol's frames.
pub struct Frames {
    kind: Kind,
    of_client: bool,
    /// PostgreSQL's frames have a letter in front, but for what a client says before it is known.
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

    /// The frames that are whole with these bytes.
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
            // The one letter `N`: no TLS here. What follows `S` would be sealed to us.
            Kind::Postgres if !self.of_client => {
                self.started = true;
                match bytes.first()? {
                    b'N' if bytes.len() == 1 => Some(1),
                    _ => Some(1 + big(1)?),
                }
            }
            Kind::Postgres => {
                let length = big(0)?;
                // The request for TLS is followed by the true start.
                self.started = big(4)? != 80_877_103;
                Some(length)
            }
        }
    }
}

/// Whether a client's frame has the server commit.
pub fn commits(kind: Kind, frame: &[u8]) -> bool {
    let text = match (kind, frame) {
        (Kind::Postgres, [b'Q', _, _, _, _, text @ ..]) => text,
        // To prepare it stands for carrying it out: nobody keeps a prepared COMMIT.
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

/// Of a server's frame after a COMMIT: whether it says that the commit is done, or that it is not to be;
/// `None` where it is about something else.
pub fn committed(kind: Kind, frame: &[u8]) -> Option<bool> {
    match (kind, frame) {
        (Kind::Postgres, [b'C', _, _, _, _, tag @ ..]) if tag == b"COMMIT\0" => Some(true),
        (Kind::Postgres, [b'C', _, _, _, _, tag @ ..]) if tag == b"ROLLBACK\0" => Some(false),
        (Kind::Postgres, [b'E', ..]) => Some(false),
        (Kind::Mariadb, [_, _, _, _, 0xff, ..]) => Some(false),
        (Kind::Mariadb, [_, _, _, _, 0, rest @ ..]) => {
            let rest = after_number(after_number(rest)?)?;
            let status = u16::from_le_bytes([*rest.first()?, *rest.get(1)?]);
            // Of several statements in one frame, those that came before answer first.
            let more_to_come = status & 0x0008 != 0;
            (!more_to_come).then_some(true)
        }
        _ => None,
    }
}

/// What stands behind a number of one to nine bytes, as MariaDB writes them.
fn after_number(bytes: &[u8]) -> Option<&[u8]> {
    let length = match bytes.first()? {
        0xfc => 3,
        0xfd => 4,
        0xfe => 9,
        _ => 1,
    };
    bytes.get(length..)
}
