//! Records of the log. Any bytes are decoded or refused; what is decoded, and what is built, is the same
//! once it is built and decoded again.

use event::{BodyHash, EventId, Millis, UploadId};
use millrace::log::{Entry, Header, Record, RecordBuilder, Retry, Shape, UploadLines};

const ENTRIES_MAX: u8 = 32;

/// The first byte says how many events there are, and its highest bit whether the rest is a record or
/// what one is to be built of.
pub fn run(bytes: &[u8]) {
    let Some((&first, rest)) = bytes.split_first() else { return };
    let count = first & 0x7f;
    match first & 0x80 == 0 {
        true => decode(rest, u32::from(count)),
        false => build(Source(rest), count % ENTRIES_MAX),
    }
}

fn decode(bytes: &[u8], count: u32) {
    let Ok(record) = Record::decode(0, count, bytes) else { return };
    assert!(record.entries().count() <= count as usize);
    let Ok(entries) = record.entries().collect::<Result<Vec<_>, _>>() else { return };
    assert!(entries.iter().enumerate().all(|(index, (position, _))| *position == index as u64));
    let header = record.header.as_ref().expect("only a hole has none");
    let entries: Vec<Entry<'_>> = entries.into_iter().map(|(_, entry)| entry).collect();
    comes_back(header, &entries);
}

fn build(mut source: Source<'_>, count: u8) {
    let (stream, view) = (source.text(), source.text());
    let upload = source.flag().then(|| UploadLines {
        id: UploadId(source.array()),
        first_line: u64::from_le_bytes(source.array()),
        lines: u32::from_le_bytes(source.array()),
        hash: BodyHash(source.array()),
        kept: source.flag(),
    });
    let retry = source.flag().then(|| Retry { view, dead_letter: EventId::from_bytes(source.array()) });
    let header = Header {
        stream,
        received: Millis(i64::from_le_bytes(source.array())),
        address: source.flag().then(|| match source.flag() {
            true => source.array::<4>().into(),
            false => source.array::<16>().into(),
        }),
        upload,
        retry,
        trace: source.flag().then(|| source.text()),
    };
    let entries: Vec<Entry<'_>> = (0..count)
        .map(|_| Entry {
            client: source.flag().then(|| (EventId::from_bytes(source.array()), BodyHash(source.array()))),
            line: u32::from_le_bytes(source.array()),
            // No log holds this many events.
            corrects: source.flag().then(|| u64::from_le_bytes(source.array()) >> 4),
            text: source.text(),
        })
        .collect();
    comes_back(&header, &entries);
}

fn comes_back(header: &Header<'_>, entries: &[Entry<'_>]) {
    let shape = Shape {
        ids: entries.iter().any(|entry| entry.client.is_some()),
        lines: entries.iter().any(|entry| entry.line != 0),
        corrections: entries.iter().any(|entry| entry.corrects.is_some()),
    };
    let mut builder = RecordBuilder::new(header, shape, 0);
    entries.iter().for_each(|entry| builder.push(entry));
    let record = Record::decode(7, builder.count(), builder.bytes()).expect("what was built is decoded");
    assert_eq!(record.header.as_ref(), Some(header));
    let read: Vec<_> = record.entries().collect::<Result<_, _>>().expect("what was built is read");
    assert!(read.iter().map(|(_, entry)| entry).eq(entries), "{read:?} was {entries:?}");
    assert!(read.iter().enumerate().all(|(index, (position, _))| *position == 7 + index as u64));
}

/// Values out of the fuzzer's bytes; zeros where they are used up.
struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
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
