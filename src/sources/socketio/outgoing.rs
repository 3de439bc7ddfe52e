//! Packets that wait to be sent to a client.

use std::collections::VecDeque;

use event::limits::SOCKET_OUTGOING_BYTES_MAX;

use super::engine_packet::SEPARATOR;
use crate::http::websocket::Utf8Bytes;

#[derive(Default)]
pub struct Outgoing {
    packets: VecDeque<Utf8Bytes>,
    bytes: usize,
}

impl Outgoing {
    pub fn push(&mut self, packet: impl Into<Utf8Bytes>) {
        let packet = packet.into();
        self.bytes += packet.len();
        self.packets.push_back(packet);
    }

    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Returns whether so much waits that nothing should be read that has to be answered.
    pub fn is_full(&self) -> bool {
        self.bytes >= SOCKET_OUTGOING_BYTES_MAX
    }

    /// Takes all packets.
    pub fn take(&mut self) -> VecDeque<Utf8Bytes> {
        self.bytes = 0;
        std::mem::take(&mut self.packets)
    }

    /// Takes all packets as the content of one polling answer.
    pub fn take_payload(&mut self) -> String {
        let mut payload = String::with_capacity(self.bytes + self.packets.len());
        for packet in self.take() {
            if !payload.is_empty() {
                payload.push(SEPARATOR);
            }
            payload.push_str(&packet);
        }
        payload
    }
}
