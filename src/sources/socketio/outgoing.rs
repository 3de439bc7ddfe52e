//! Packets that wait to be sent to a client.

use std::collections::VecDeque;

use event::limits::SOCKET_OUTGOING_BYTES_MAX;

use super::engine_packet::SEPARATOR;

#[derive(Default)]
pub struct Outgoing {
    packets: VecDeque<String>,
    bytes: usize,
}

impl Outgoing {
    pub fn push(&mut self, packet: String) {
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
    pub fn take(&mut self) -> VecDeque<String> {
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

    /// Puts the packets of a polling answer that was not sent before all others.
    pub fn put_back(&mut self, payload: &str) {
        for packet in payload.rsplit(SEPARATOR) {
            self.bytes += packet.len();
            self.packets.push_front(packet.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_polling_answer_that_was_not_sent_is_put_back_in_order() {
        let mut outgoing = Outgoing::default();
        outgoing.push("2".to_owned());
        outgoing.push("42[\"a\"]".to_owned());
        let payload = outgoing.take_payload();
        assert_eq!((payload.as_str(), outgoing.is_empty(), outgoing.bytes), ("2\u{1e}42[\"a\"]", true, 0));
        outgoing.push("6".to_owned());
        outgoing.put_back(&payload);
        assert_eq!(outgoing.bytes, 9);
        assert_eq!(outgoing.take(), ["2", "42[\"a\"]", "6"]);
    }
}
