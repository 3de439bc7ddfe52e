//! Packets of Socket.IO 5: `2/shop,7["order",{"price":10.99}]` is an event in namespace `/shop` that asks for the
//! acknowledgement 7.

use std::borrow::Cow;
use std::fmt;

use event::limits::ATTACHMENTS_MAX;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The namespace of clients that name none.
pub const MAIN_NAMESPACE: &str = "/";

/// A packet of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    pub kind: PacketKind,
    /// Binary messages that belong to the packet and follow it.
    pub attachments: usize,
    pub namespace: &'a str,
    /// The number of the acknowledgement that the client waits for.
    pub ack: Option<u64>,
    /// JSON; empty if the packet has no data.
    pub data: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    Connect,
    Disconnect,
    Event,
    /// An acknowledgement, for which the server never asks.
    Ack,
}

impl<'a> Packet<'a> {
    /// Returns `None` if the text is not a packet that a client may send.
    pub fn decode(text: &'a str) -> Option<Self> {
        let (kind, is_binary) = match text.as_bytes().first()? {
            b'0' => (PacketKind::Connect, false),
            b'1' => (PacketKind::Disconnect, false),
            b'2' => (PacketKind::Event, false),
            b'3' => (PacketKind::Ack, false),
            b'5' => (PacketKind::Event, true),
            b'6' => (PacketKind::Ack, true),
            _ => return None,
        };
        let mut rest = &text[1..];
        let mut attachments = 0;
        if is_binary {
            let (number, after) = rest.split_once('-')?;
            attachments = number.parse().ok().filter(|number| *number <= ATTACHMENTS_MAX)?;
            rest = after;
        }
        let mut namespace = MAIN_NAMESPACE;
        if rest.starts_with('/') {
            (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
            // Older clients append a query to it.
            namespace = namespace.split_once('?').map_or(namespace, |(name, _)| name);
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, data) = rest.split_at(digits);
        let ack = if number.is_empty() { None } else { Some(number.parse().ok()?) };
        Some(Self { kind, attachments, namespace, ack, data })
    }
}

/// The data of an event packet: its name, and what the client sent with it.
#[derive(Debug)]
pub struct Arguments<'a> {
    pub name: Cow<'a, str>,
    /// The text of the first argument.
    pub first: Option<&'a str>,
    /// The number of arguments.
    pub count: usize,
}

impl<'a> Arguments<'a> {
    /// Returns `None` if the data is not an array that begins with a name.
    pub fn parse(data: &'a str) -> Option<Self> {
        serde_json::from_str(data).ok()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Arguments<'a> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct ArgumentsVisitor;
        impl<'de> Visitor<'de> for ArgumentsVisitor {
            type Value = Arguments<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array that begins with a name")
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<Arguments<'de>, S::Error> {
                let name = items.next_element::<Name<'de>>()?;
                let name = name.ok_or_else(|| serde::de::Error::invalid_length(0, &self))?.0;
                let first = items.next_element::<&'de RawValue>()?.map(RawValue::get);
                let mut count = usize::from(first.is_some());
                while items.next_element::<IgnoredAny>()?.is_some() {
                    count += 1;
                }
                Ok(Arguments { name, first, count })
            }
        }
        reader.deserialize_seq(ArgumentsVisitor)
    }
}

/// A text that is borrowed unless it has escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Returns the packet of Engine.IO that contains this packet of Socket.IO.
pub fn encode(kind: char, namespace: &str, ack: Option<u64>, data: &str) -> String {
    let mut packet = String::with_capacity(data.len() + namespace.len() + 16);
    packet.push('4');
    packet.push(kind);
    if namespace != MAIN_NAMESPACE {
        packet.push_str(namespace);
        packet.push(',');
    }
    if let Some(ack) = ack {
        packet.push_str(&ack.to_string());
    }
    packet.push_str(data);
    packet
}

/// Returns the packet of an event with one argument, which is JSON.
pub fn encode_event(namespace: &str, name: &str, argument: &str) -> String {
    let name = serde_json::Value::from(name);
    encode('2', namespace, None, &format!("[{name},{argument}]"))
}

/// Returns the packet of an acknowledgement with one argument, which is JSON.
pub fn encode_ack(namespace: &str, ack: u64, argument: &str) -> String {
    encode('3', namespace, Some(ack), &format!("[{argument}]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(
        kind: PacketKind,
        namespace: &'static str,
        ack: Option<u64>,
        data: &'static str,
    ) -> Packet<'static> {
        Packet { kind, attachments: 0, namespace, ack, data }
    }

    #[test]
    fn packets_are_read_as_the_protocol_defines_them() {
        use PacketKind::{Ack, Connect, Disconnect, Event};
        for (text, expected) in [
            ("0", packet(Connect, "/", None, "")),
            ("0{\"token\":\"a\"}", packet(Connect, "/", None, "{\"token\":\"a\"}")),
            ("0/shop,", packet(Connect, "/shop", None, "")),
            ("0/shop", packet(Connect, "/shop", None, "")),
            ("0/shop?a=b,{\"token\":\"a\"}", packet(Connect, "/shop", None, "{\"token\":\"a\"}")),
            ("1", packet(Disconnect, "/", None, "")),
            ("2[\"a\",1]", packet(Event, "/", None, "[\"a\",1]")),
            ("212[\"a\"]", packet(Event, "/", Some(12), "[\"a\"]")),
            ("2/shop,7[\"a\"]", packet(Event, "/shop", Some(7), "[\"a\"]")),
            ("3/shop,7[]", packet(Ack, "/shop", Some(7), "[]")),
            ("51-3[\"a\",{}]", Packet { attachments: 1, ..packet(Event, "/", Some(3), "[\"a\",{}]") }),
            ("60-/s,3[]", packet(Ack, "/s", Some(3), "[]")),
        ] {
            assert_eq!(Packet::decode(text), Some(expected), "{text}");
        }
        for text in ["", "4{}", "7", "5[\"a\"]", "5x-[]", "5999-[]", "é", "2123456789012345678901[]"] {
            assert_eq!(Packet::decode(text), None, "{text}");
        }
    }

    #[test]
    fn the_arguments_of_an_event_keep_their_text() {
        let arguments = Arguments::parse(r#"["order", {"price": 10.990}]"#).expect("arguments");
        assert_eq!(
            (&*arguments.name, arguments.first, arguments.count),
            ("order", Some(r#"{"price": 10.990}"#), 1)
        );
        let escaped = Arguments::parse(r#"["\u00e9"]"#).expect("arguments");
        assert_eq!((&*escaped.name, escaped.first, escaped.count), ("é", None, 0));
        assert_eq!(Arguments::parse(r#"["a",1,2,{}]"#).expect("arguments").count, 3);
        for data in ["", "[]", "{}", "[1,2]", "[\"a\"", "[\"a\",]", "\"a\""] {
            assert!(Arguments::parse(data).is_none(), "{data}");
        }
    }

    #[test]
    fn packets_are_written_as_the_protocol_defines_them() {
        assert_eq!(encode_event("/", "a\"b", "{}"), r#"42["a\"b",{}]"#);
        assert_eq!(encode_event("/shop", "a", "1"), r#"42/shop,["a",1]"#);
        assert_eq!(encode_ack("/", 7, "{}"), "437[{}]");
        assert_eq!(encode_ack("/shop", 7, "{}"), "43/shop,7[{}]");
        assert_eq!(encode('1', "/", None, ""), "41");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_decoding_panic(text: String, kind in "[0-9]", rest in "[-/,0-9a-z\\[\\]\"é]{0,12}") {
            for text in [&text, &format!("{kind}{rest}")] {
                if let Some(packet) = Packet::decode(text) {
                    drop(Arguments::parse(packet.data));
                }
                super::super::engine_packet::decode(text);
            }
        }
    }
}
