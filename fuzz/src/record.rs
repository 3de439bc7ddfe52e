//! Records of the log. Any bytes are decoded or refused. A decoded or built record is the same after it is built and
//! decoded again.

use std::time::Duration;

use event::{BodyHash, EventId, Millis, SentFrom, UploadId};
use millrace::log::{Entry, Header, Record, RecordBuilder, Retry, Shape, UploadLines};

const ENTRIES_MAX: u8 = 32;

/// Runs one input. Its first byte gives the number of events. If its highest bit is set, the rest is the parts to
/// build a record from; otherwise the rest is a record.
pub fn run(bytes: &[u8]) {
    let Some((&first, rest)) = bytes.split_first() else { return };
    let count = first & 0x7f;
    if first & 0x80 == 0 { decode(rest, u32::from(count)) } else { build(Input(rest), count % ENTRIES_MAX) }
}

fn decode(bytes: &[u8], count: u32) {
    let Ok(record) = Record::decode(0, count, bytes) else { return };
    assert!(record.entries().count() <= count as usize);
    let Ok(entries) = record.entries().collect::<Result<Vec<_>, _>>() else { return };
    assert!(entries.iter().enumerate().all(|(index, (position, _))| *position == index as u64));
    let header = record.header.as_ref().expect("only a hole has no header");
    let entries: Vec<Entry<'_>> = entries.into_iter().map(|(_, entry)| entry).collect();
    check_round_trip(header, &entries);
}

fn build(mut input: Input<'_>, count: u8) {
    let (stream, view) = (input.text(), input.text());
    let upload = input.flag().then(|| UploadLines {
        id: UploadId(input.array()),
        first_line: u64::from_le_bytes(input.array()),
        lines: u32::from_le_bytes(input.array()),
        hash: BodyHash(input.array()),
        kept: input.flag(),
    });
    let retry = input.flag().then(|| Retry { view, dead_letter: EventId::from_bytes(input.array()) });
    let received = Millis(i64::from_le_bytes(input.array()));
    let address = input
        .flag()
        .then(|| if input.flag() { input.array::<4>().into() } else { input.array::<16>().into() });
    let header = Header {
        stream,
        received,
        sent_from: SentFrom { address, client: None, user_agent: None },
        upload,
        retry,
        trace: input.flag().then(|| input.text()),
        window: None,
    };
    let entries: Vec<Entry<'_>> = (0..count)
        .map(|_| Entry {
            client: input.flag().then(|| (EventId::from_bytes(input.array()), BodyHash(input.array()))),
            line: u32::from_le_bytes(input.array()),
            // No log has as many events as 64 bits can count.
            corrects: input.flag().then(|| u64::from_le_bytes(input.array()) >> 4),
            text: input.text(),
        })
        .collect();
    // Read last, so that the corpus of earlier versions keeps its meaning.
    let window = input.flag().then(|| Duration::from_millis(u64::from_le_bytes(input.array())));
    // A text that begins with a zero counts as erased.
    let mut sender_text = || input.flag().then(|| input.text()).filter(|text| !text.starts_with('\0'));
    let sent_from = SentFrom { client: sender_text(), user_agent: sender_text(), ..header.sent_from };
    check_round_trip(&Header { window, sent_from, ..header }, &entries);
}

fn check_round_trip(header: &Header<'_>, entries: &[Entry<'_>]) {
    let shape = Shape {
        ids: entries.iter().any(|entry| entry.client.is_some()),
        lines: entries.iter().any(|entry| entry.line != 0),
        corrections: entries.iter().any(|entry| entry.corrects.is_some()),
    };
    let mut builder = RecordBuilder::new(header, shape, 0);
    entries.iter().for_each(|entry| builder.push(entry));
    let record = Record::decode(7, builder.count(), builder.bytes()).expect("a built record can be decoded");
    assert_eq!(record.header.as_ref(), Some(header));
    let read: Vec<_> = record.entries().collect::<Result<_, _>>().expect("a built record can be read");
    assert!(read.iter().map(|(_, entry)| entry).eq(entries), "{read:?} was {entries:?}");
    assert!(read.iter().enumerate().all(|(index, (position, _))| *position == 7 + index as u64));
}

/// Takes values from the fuzzer's bytes, and zeros once these are used up.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.take(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    fn flag(&mut self) -> bool {
        self.array::<1>()[0] & 1 == 1
    }

    fn text(&mut self) -> &'a str {
        let length = usize::from(self.array::<1>()[0]);
        match std::str::from_utf8(self.take(length)) {
            Ok(text) => text,
            Err(_) => "é",
        }
    }
}
