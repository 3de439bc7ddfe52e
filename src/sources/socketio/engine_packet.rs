//! Packets of Engine.IO 4, the protocol below Socket.IO. It opens and closes sessions, finds out whether the other side
//! is alive, and moves a session from polling to a WebSocket.

use std::time::Duration;

use event::limits::POLLING_PAYLOAD_BYTES;
use serde_json::json;

/// Separates the packets of one polling request or answer.
pub const SEPARATOR: char = '\u{1e}';

pub const CLOSE: &str = "1";
pub const PING: &str = "2";
pub const PROBE_ANSWER: &str = "3probe";
pub const NOOP: &str = "6";

/// A text packet of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnginePacket<'a> {
    Close,
    Pong,
    /// The first packet on a WebSocket that will replace polling.
    Probe,
    /// The WebSocket replaces polling from now on.
    Upgrade,
    /// A packet of Socket.IO.
    Message(&'a str),
    /// A binary message in a polling request, encoded as text.
    Binary,
    /// A packet that needs no reaction.
    Nothing,
}

/// Returns `None` if the text is not a packet that a client may send.
pub fn decode(text: &str) -> Option<EnginePacket<'_>> {
    let kind = text.as_bytes().first()?;
    Some(match kind {
        b'1' => EnginePacket::Close,
        b'2' if text == "2probe" => EnginePacket::Probe,
        b'3' => EnginePacket::Pong,
        b'4' => EnginePacket::Message(&text[1..]),
        b'5' => EnginePacket::Upgrade,
        b'6' => EnginePacket::Nothing,
        b'b' => EnginePacket::Binary,
        _ => return None,
    })
}

/// Returns the packet that opens a session.
pub fn open(id: &str, may_upgrade: bool, ping_interval: Duration, ping_timeout: Duration) -> String {
    let upgrades: &[&str] = if may_upgrade { &["websocket"] } else { &[] };
    let about = json!({
        "sid": id,
        "upgrades": upgrades,
        "pingInterval": ping_interval.as_millis() as u64,
        "pingTimeout": ping_timeout.as_millis() as u64,
        "maxPayload": POLLING_PAYLOAD_BYTES,
    });
    format!("0{about}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_told_apart_by_their_first_character() {
        for (text, packet) in [
            ("1", Some(EnginePacket::Close)),
            ("2probe", Some(EnginePacket::Probe)),
            ("3", Some(EnginePacket::Pong)),
            ("42[\"é\"]", Some(EnginePacket::Message("2[\"é\"]"))),
            ("4", Some(EnginePacket::Message(""))),
            ("5", Some(EnginePacket::Upgrade)),
            ("6", Some(EnginePacket::Nothing)),
            ("bAQI=", Some(EnginePacket::Binary)),
            ("", None),
            ("0", None),
            ("2", None),
            ("7", None),
            ("é", None),
        ] {
            assert_eq!(decode(text), packet, "{text}");
        }
    }

    #[test]
    fn the_first_packet_tells_the_client_how_the_session_works() {
        let open = open("abc", true, Duration::from_secs(25), Duration::from_secs(60));
        let about: serde_json::Value =
            serde_json::from_str(open.strip_prefix('0').expect("an open packet")).expect("JSON");
        assert_eq!(about["upgrades"], json!(["websocket"]));
        assert_eq!(
            (&about["sid"], &about["pingInterval"], &about["pingTimeout"]),
            (&json!("abc"), &json!(25_000), &json!(60_000))
        );
    }
}
