//! The encoding of a record, which is the content of one append to the log. `docs/RECORD.md` describes the format.
//! Every later version must read what an earlier one wrote.

use event::{BodyHash, EventId, put_varint};

use super::byte_reader::{Bytes, RecordError, put_counted};
use super::record_header::{Header, decode_header, encode_header, personal_ranges};

const VERSION: u8 = 1;
const WITH_IDS: u8 = 1;
const WITH_LINES: u8 = 2;
const WITH_CORRECTIONS: u8 = 4;

/// One event in a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The id that is derived from the client's id, and the hash of the event's text.
    pub client: Option<(EventId, BodyHash)>,
    /// The number of lines after the chunk's first line.
    pub line: u32,
    /// The position of the event that this one undoes, if this one is a correction.
    pub corrects: Option<u64>,
    pub text: &'a str,
}

impl Entry<'_> {
    /// Returns whether the event was erased. An erased text consists of spaces only.
    pub fn erased(&self) -> bool {
        self.text.bytes().all(|byte| byte == b' ')
    }
}

/// A record that was read. Its header is decoded; its events are decoded by `entries`.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    pub position: u64,
    pub count: u32,
    /// `None` for a hole, which `repair` writes in place of lost events.
    pub header: Option<Header<'a>>,
    flags: u8,
    events: &'a [u8],
}

impl<'a> Record<'a> {
    pub fn decode(position: u64, count: u32, payload: &'a [u8]) -> Result<Self, RecordError> {
        let mut bytes = Bytes(payload);
        let version = bytes.byte()?;
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        let flags = bytes.byte()?;
        if flags & !(WITH_IDS | WITH_LINES | WITH_CORRECTIONS) != 0 {
            return Err(RecordError::Malformed);
        }
        let header = decode_header(bytes.counted()?)?;
        Ok(Self { position, count, header: Some(header), flags, events: bytes.0 })
    }

    pub fn hole(position: u64, count: u32) -> Self {
        Self { position, count, header: None, flags: 0, events: &[] }
    }

    pub fn end(&self) -> u64 {
        self.position + u64::from(self.count)
    }

    /// Returns whether dedup has to look up anything for this record.
    pub fn has_identity(&self) -> bool {
        self.flags & (WITH_IDS | WITH_CORRECTIONS) != 0
            || self.header.as_ref().is_some_and(|header| header.upload.is_some())
    }

    /// Decodes the events, each with its position. Stops after the first error.
    pub fn entries(&self) -> Entries<'a> {
        Entries {
            next: self.position,
            end: if self.header.is_some() { self.end() } else { self.position },
            flags: self.flags,
            bytes: Bytes(self.events),
        }
    }
}

pub struct Entries<'a> {
    next: u64,
    end: u64,
    flags: u8,
    bytes: Bytes<'a>,
}

impl<'a> Entries<'a> {
    fn entry(&mut self) -> Result<Entry<'a>, RecordError> {
        let client = if self.flags & WITH_IDS != 0 && self.bytes.byte()? == 1 {
            Some((EventId::from_bytes(self.bytes.array()?), BodyHash(self.bytes.array()?)))
        } else {
            None
        };
        let line = if self.flags & WITH_LINES != 0 {
            u32::try_from(self.bytes.varint()?).map_err(|_| RecordError::Malformed)?
        } else {
            0
        };
        let corrects =
            if self.flags & WITH_CORRECTIONS != 0 { self.bytes.varint()?.checked_sub(1) } else { None };
        let text = std::str::from_utf8(self.bytes.counted()?).map_err(|_| RecordError::Malformed)?;
        Ok(Entry { client, line, corrects, text })
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<(u64, Entry<'a>), RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.end {
            return None;
        }
        let position = self.next;
        let entry = self.entry();
        self.next = if entry.is_ok() { position + 1 } else { self.end };
        Some(entry.map(|entry| (position, entry)))
    }
}

/// The optional parts that the events of a record have beside their texts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shape {
    /// Some events have a client's id.
    pub ids: bool,
    /// Each event has its line within the chunk.
    pub lines: bool,
    /// Some events are corrections.
    pub corrections: bool,
}

/// Replaces the texts of the events at `positions`, which must be sorted, by spaces. Returns how many of them are in
/// the record. If no other event is left in the record, what describes its sender becomes zeros. The length of the record
/// does not change, so that nothing in the log moves.
pub fn blank(position: u64, count: u32, payload: &mut [u8], positions: &[u64]) -> Result<u32, RecordError> {
    let bytes: &[u8] = payload;
    let mut entries = Record::decode(position, count, bytes)?.entries();
    let (mut texts, mut left) = (Vec::new(), false);
    while let Some(entry) = entries.next() {
        let (position, entry) = entry?;
        if positions.binary_search(&position).is_ok() {
            let end = bytes.len() - entries.bytes.0.len();
            texts.push(end - entry.text.len()..end);
        } else {
            left |= !entry.erased();
        }
    }
    let personal = if left || texts.is_empty() { Vec::new() } else { personal_ranges(bytes)? };
    let blanked = texts.len() as u32;
    texts.into_iter().for_each(|text| payload[text].fill(b' '));
    personal.into_iter().for_each(|range| payload[range].fill(0));
    Ok(blanked)
}

/// Builds a record's bytes, event by event.
pub struct RecordBuilder {
    bytes: Vec<u8>,
    count: u32,
    flags: u8,
}

impl RecordBuilder {
    pub fn new(header: &Header<'_>, shape: Shape, bytes_expected: usize) -> Self {
        let flag = |has: bool, flag: u8| if has { flag } else { 0 };
        let flags = flag(shape.ids, WITH_IDS)
            | flag(shape.lines, WITH_LINES)
            | flag(shape.corrections, WITH_CORRECTIONS);
        let mut bytes = Vec::with_capacity(bytes_expected + 128);
        bytes.extend_from_slice(&[VERSION, flags]);
        let encoded = encode_header(header);
        put_counted(&mut bytes, &encoded);
        Self { bytes, count: 0, flags }
    }

    pub fn push(&mut self, entry: &Entry<'_>) {
        if self.flags & WITH_IDS != 0 {
            match &entry.client {
                Some((id, hash)) => {
                    self.bytes.push(1);
                    self.bytes.extend_from_slice(id.as_bytes());
                    self.bytes.extend_from_slice(&hash.0);
                }
                None => self.bytes.push(0),
            }
        }
        if self.flags & WITH_LINES != 0 {
            put_varint(&mut self.bytes, u64::from(entry.line));
        }
        if self.flags & WITH_CORRECTIONS != 0 {
            put_varint(&mut self.bytes, entry.corrects.map_or(0, |position| position + 1));
        }
        put_counted(&mut self.bytes, entry.text.as_bytes());
        self.count += 1;
    }

    pub fn count(&self) -> u32 {
        self.count
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use super::*;
    use crate::log::{Retry, UploadLines};
    use event::{Millis, SentFrom, UploadId};
    use proptest::prelude::*;

    fn ids() -> impl Strategy<Value = Option<(EventId, BodyHash)>> {
        proptest::option::of(
            (any::<[u8; 16]>(), any::<[u8; 8]>())
                .prop_map(|(id, hash)| (EventId::from_bytes(id), BodyHash(hash))),
        )
    }

    proptest! {
        #[test]
        fn a_record_survives_encoding_and_decoding(
            stream in "[a-z]{1,20}", received: i64, address: Option<IpAddr>, client in proptest::option::of("[a-zA-Z0-9_-]{1,20}"), user_agent in proptest::option::of("[a-z/é]{1,40}"), view in "[a-z]{1,9}", dead_letter in proptest::option::of(any::<[u8; 16]>()), trace in proptest::option::of("[0-9a-f-]{55}"), window: Option<u64>,
            upload in proptest::option::of((any::<[u8; 16]>(), any::<u64>(), any::<u32>(), any::<[u8; 8]>(), any::<bool>())),
            events in proptest::collection::vec((ids(), any::<u32>(), proptest::option::of(0..u64::MAX), ".{0,40}"), 0..20), position in 0..u64::MAX / 2,
        ) {
            let header = Header {
                stream: &stream, received: Millis(received),
                sent_from: SentFrom { address, client: client.as_deref(), user_agent: user_agent.as_deref() },
                upload: upload.map(|(upload, first_line, lines, hash, kept)| UploadLines { id: UploadId(upload), first_line, lines, hash: BodyHash(hash), kept }),
                retry: dead_letter.map(|id| Retry { view: &view, dead_letter: EventId::from_bytes(id) }),
                trace: trace.as_deref(),
                window: window.map(Duration::from_millis),
            };
            let mut builder = RecordBuilder::new(&header, Shape { ids: true, lines: true, corrections: true }, 0);
            let entries: Vec<Entry<'_>> = events.iter().map(|(client, line, corrects, text)| Entry { client: *client, line: *line, corrects: *corrects, text }).collect();
            entries.iter().for_each(|entry| builder.push(entry));
            let record = Record::decode(position, builder.count(), builder.bytes()).expect("decodes");
            prop_assert_eq!(record.header.as_ref(), Some(&header));
            let read: Result<Vec<_>, _> = record.entries().collect();
            let expected: Vec<_> = entries.iter().enumerate().map(|(index, entry)| (position + index as u64, *entry)).collect();
            prop_assert_eq!(read, Ok(expected));
        }

        #[test]
        fn blanking_changes_the_chosen_texts_and_nothing_else(
            flags: (bool, bool), stream in "[a-z]{1,20}", position in 0..u64::MAX / 2,
            events in proptest::collection::vec((ids(), any::<u32>(), "[^ ].{0,40}", any::<bool>()), 1..20),
        ) {
            let address = Some(Ipv4Addr::new(10, 0, 0, 7).into());
            let sent_from = SentFrom { address, client: Some("client-1"), user_agent: Some("agent") };
            let header = Header { sent_from, ..Header::of(&stream, Millis(7)) };
            let shape = Shape { ids: flags.0, lines: flags.1, corrections: false };
            let mut builder = RecordBuilder::new(&header, shape, 0);
            events.iter().for_each(|(client, line, text, _)| builder.push(&Entry { client: *client, line: *line, corrects: None, text }));
            let before = builder.bytes().to_vec();
            let mut after = before.clone();
            let numbered = || (position..).zip(&events);
            let chosen = numbered().filter(|(_, event)| event.3).map(|(position, _)| position);
            // The positions may include some of other records.
            let positions: Vec<u64> = position.checked_sub(1).into_iter().chain(chosen).chain([position + 20]).collect();
            let blanked = blank(position, builder.count(), &mut after, &positions);
            prop_assert_eq!(blanked, Ok(events.iter().filter(|event| event.3).count() as u32));
            prop_assert_eq!(before.len(), after.len());

            let was = Record::decode(position, builder.count(), &before).expect("decodes");
            let is = Record::decode(position, builder.count(), &after).expect("decodes");
            prop_assert_eq!(is.flags, was.flags);
            // What describes the sender is erased together with the last event.
            let all = events.iter().all(|event| event.3);
            let erased = SentFrom { address: Some(Ipv4Addr::UNSPECIFIED.into()), ..SentFrom::default() };
            let sent_from = if all { erased } else { sent_from };
            prop_assert_eq!(&is.header, &Some(Header { sent_from, ..header.clone() }));
            prop_assert_eq!(all, !after.windows(5).any(|bytes| bytes == b"agent"));
            prop_assert_eq!(is.entries().count(), events.len());
            for ((was, is), (_, event)) in was.entries().zip(is.entries()).zip(numbered()) {
                let ((at, was), (at_now, is)) = (was.expect("decodes"), is.expect("decodes"));
                let text = if event.3 { " ".repeat(was.text.len()) } else { was.text.to_owned() };
                prop_assert_eq!((at_now, is), (at, Entry { text: &text, ..was }));
                prop_assert_eq!((was.erased(), is.erased()), (false, event.3));
            }
        }

        #[test]
        fn blanking_invalid_bytes_changes_nothing(bytes: Vec<u8>, count in 0_u32..100) {
            let mut after = bytes.clone();
            let positions: Vec<u64> = (0..100).collect();
            if blank(0, count, &mut after, &positions).is_err() {
                prop_assert_eq!(after, bytes);
            }
        }

        #[test]
        fn decoding_any_bytes_does_not_panic(bytes: Vec<u8>, count in 0_u32..100) {
            if let Ok(record) = Record::decode(0, count, &bytes) {
                prop_assert!(record.entries().count() <= count as usize);
            }
        }
    }

    /// Every later version must read version 1, so the expected bytes must never change.
    #[test]
    fn the_bytes_of_version_1_do_not_change() {
        let header = Header {
            stream: "revenue",
            received: Millis(1_761_991_200_000),
            sent_from: SentFrom { address: Some(Ipv4Addr::new(10, 0, 0, 7).into()), ..SentFrom::default() },
            upload: Some(UploadLines {
                id: UploadId([0xab; 16]),
                first_line: 1001,
                lines: 2,
                hash: BodyHash([0xcd; 8]),
                kept: true,
            }),
            retry: Some(Retry { view: "v", dead_letter: EventId::from_bytes([0xef; 16]) }),
            trace: None,
            window: None,
        };
        let client = Some((EventId::from_bytes([0x12; 16]), BodyHash([0x34; 8])));
        let entries = [
            Entry { client, text: "{}", ..Entry::default() },
            Entry { line: 1, text: "{\"a\":1}", ..Entry::default() },
        ];
        let mut builder =
            RecordBuilder::new(&header, Shape { ids: true, lines: true, corrections: false }, 0);
        entries.iter().for_each(|entry| builder.push(entry));
        let hex = event::hex(builder.bytes());
        assert_eq!(hex, VERSION_1);
        let record = Record::decode(7, 2, builder.bytes()).expect("decodes");
        assert_eq!(record.header, Some(header));
        assert_eq!(
            record.entries().collect::<Result<Vec<_>, _>>(),
            Ok(vec![(7, entries[0]), (8, entries[1])])
        );
    }

    #[test]
    fn the_bytes_of_a_trace_do_not_change() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = Some(text);
        let header = Header { trace, ..Header::of("s", Millis(1)) };
        let mut builder = RecordBuilder::new(&header, Shape::default(), 0);
        builder.push(&Entry { text: "{}", ..Entry::default() });
        let form = [b"\x01\0\x46\x01\x01s\x02\x08\x01\0\0\0\0\0\0\0\x06\x37", text.as_bytes(), b"\x02{}"];
        assert_eq!(builder.bytes(), form.concat());
        assert_eq!(Record::decode(7, 1, builder.bytes()).expect("decodes").header, Some(header));
    }

    #[test]
    fn the_bytes_of_a_window_do_not_change() {
        let header = Header { window: Some(Duration::from_millis(0x0102)), ..Header::of("s", Millis(1)) };
        let mut builder = RecordBuilder::new(&header, Shape::default(), 0);
        builder.push(&Entry { text: "{}", ..Entry::default() });
        assert_eq!(
            builder.bytes(),
            b"\x01\0\x17\x01\x01s\x02\x08\x01\0\0\0\0\0\0\0\x07\x08\x02\x01\0\0\0\0\0\0\x02{}"
        );
        assert_eq!(Record::decode(7, 1, builder.bytes()).expect("decodes").header, Some(header));
    }

    const VERSION_1: &str = concat!(
        "0103490107726576656e75650208000ddc3e9a01000003040a000007041bababababababababababababababab",
        "abcdcdcdcdcdcdcdcde907050511efefefefefefefefefefefefefefefef760112121212121212121212121212",
        "121212343434343434343400027b7d0001077b2261223a317d",
    );
}
