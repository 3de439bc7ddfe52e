//! The header of a record: what all of its events share. `docs/RECORD.md` describes the format.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::time::Duration;

use event::{BodyHash, EventId, Millis, SentFrom, UploadId, put_varint};

use super::byte_reader::{Bytes, RecordError, put_counted};

const TAG_STREAM: u8 = 1;
const TAG_RECEIVED: u8 = 2;
const TAG_ADDRESS: u8 = 3;
const TAG_UPLOAD: u8 = 4;
const TAG_RETRY: u8 = 5;
const TAG_TRACE: u8 = 6;
const TAG_WINDOW: u8 = 7;
const TAG_CLIENT: u8 = 8;
const TAG_USER_AGENT: u8 = 9;

/// The fields that describe a sender, which go with the last of its events.
const PERSONAL_TAGS: [u8; 3] = [TAG_ADDRESS, TAG_CLIENT, TAG_USER_AGENT];

/// The data that all events of a record share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    pub stream: &'a str,
    pub received: Millis,
    pub sent_from: SentFrom<'a>,
    pub upload: Option<UploadLines>,
    pub retry: Option<Retry<'a>>,
    /// The request's `traceparent`.
    pub trace: Option<&'a str>,
    /// How long dedup remembers the ids of the record, in whole milliseconds. Without it, as the configuration says.
    pub window: Option<Duration>,
}

impl<'a> Header<'a> {
    /// Returns the header of a record that millrace itself writes, without a sender.
    pub fn of(stream: &'a str, received: Millis) -> Self {
        let sent_from = SentFrom::default();
        Self { stream, received, sent_from, upload: None, retry: None, trace: None, window: None }
    }
}

/// A run of lines of an upload. Dedup recognises repeated lines by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadLines {
    pub id: UploadId,
    pub first_line: u64,
    /// The number of lines, including refused ones.
    pub lines: u32,
    pub hash: BodyHash,
    /// True if dedup remembers the lines without a time limit, and not only for its window.
    pub kept: bool,
}

/// The mark of a dead letter that is retried. Only `view` folds its event; for a dead letter of dedup, every view
/// does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry<'a> {
    pub view: &'a str,
    pub dead_letter: EventId,
}

pub fn encode_header(header: &Header<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    put_field(&mut bytes, TAG_STREAM, header.stream.as_bytes());
    put_field(&mut bytes, TAG_RECEIVED, &header.received.0.to_le_bytes());
    match header.sent_from.address {
        Some(IpAddr::V4(ip)) => put_field(&mut bytes, TAG_ADDRESS, &ip.octets()),
        Some(IpAddr::V6(ip)) => put_field(&mut bytes, TAG_ADDRESS, &ip.octets()),
        None => {}
    }
    for (tag, text) in [(TAG_CLIENT, header.sent_from.client), (TAG_USER_AGENT, header.sent_from.user_agent)]
    {
        if let Some(text) = text {
            put_field(&mut bytes, tag, text.as_bytes());
        }
    }
    if let Some(upload) = &header.upload {
        let mut value = Vec::with_capacity(36);
        value.extend_from_slice(&upload.id.0);
        value.extend_from_slice(&upload.hash.0);
        put_varint(&mut value, upload.first_line);
        put_varint(&mut value, u64::from(upload.lines) << 1 | u64::from(upload.kept));
        put_field(&mut bytes, TAG_UPLOAD, &value);
    }
    if let Some(retry) = &header.retry {
        let mut value = retry.dead_letter.as_bytes().to_vec();
        value.extend_from_slice(retry.view.as_bytes());
        put_field(&mut bytes, TAG_RETRY, &value);
    }
    if let Some(trace) = header.trace {
        put_field(&mut bytes, TAG_TRACE, trace.as_bytes());
    }
    if let Some(window) = header.window {
        put_field(&mut bytes, TAG_WINDOW, &(window.as_millis() as u64).to_le_bytes());
    }
    bytes
}

/// Decodes a header. Skips fields with unknown tags, which a later version may write.
pub fn decode_header(bytes: &[u8]) -> Result<Header<'_>, RecordError> {
    let mut header = Header::of("", Millis(0));
    let mut bytes = Bytes(bytes);
    while !bytes.0.is_empty() {
        let tag = bytes.byte()?;
        let mut value = Bytes(bytes.counted()?);
        match tag {
            TAG_STREAM => header.stream = value.text()?,
            TAG_RECEIVED => header.received = Millis(i64::from_le_bytes(value.array()?)),
            TAG_ADDRESS if value.0.len() == 4 => {
                header.sent_from.address = Some(Ipv4Addr::from(value.array::<4>()?).into());
            }
            TAG_ADDRESS => header.sent_from.address = Some(Ipv6Addr::from(value.array::<16>()?).into()),
            TAG_CLIENT => header.sent_from.client = value.text_unless_erased()?,
            TAG_USER_AGENT => header.sent_from.user_agent = value.text_unless_erased()?,
            TAG_UPLOAD => {
                let (id, hash) = (UploadId(value.array()?), BodyHash(value.array()?));
                let first_line = value.varint()?;
                let lines_and_kept = value.varint()?;
                let lines = u32::try_from(lines_and_kept >> 1).map_err(|_| RecordError::Malformed)?;
                header.upload =
                    Some(UploadLines { id, first_line, lines, hash, kept: lines_and_kept & 1 == 1 });
            }
            TAG_RETRY => {
                let dead_letter = EventId::from_bytes(value.array()?);
                header.retry = Some(Retry { view: value.text()?, dead_letter });
            }
            TAG_TRACE => header.trace = Some(value.text()?),
            TAG_WINDOW => header.window = Some(Duration::from_millis(u64::from_le_bytes(value.array()?))),
            _ => {}
        }
    }
    Ok(header)
}

fn put_field(bytes: &mut Vec<u8>, tag: u8, value: &[u8]) {
    bytes.push(tag);
    put_counted(bytes, value);
}

/// Returns the byte ranges in a payload that describe the sender.
pub fn personal_ranges(payload: &[u8]) -> Result<Vec<Range<usize>>, RecordError> {
    let mut rest = Bytes(payload.get(2..).ok_or(RecordError::Malformed)?);
    let mut header = Bytes(rest.counted()?);
    let after = rest.0.len();
    let mut ranges = Vec::new();
    while !header.0.is_empty() {
        let tag = header.byte()?;
        let value = header.counted()?;
        let end = payload.len() - after - header.0.len();
        if PERSONAL_TAGS.contains(&tag) {
            ranges.push(end - value.len()..end);
        }
    }
    Ok(ranges)
}
