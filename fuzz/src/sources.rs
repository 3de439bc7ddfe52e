//! Each door by itself. An input is a text as for `requests`, without what would lead elsewhere: in the place
//! of method and path stands a letter for one of the door's paths, and the door's own headers are added.

use super::requests::{DIVIDER, split};

/// A way in, or the reading API, whose inputs cannot leave it.
pub struct Target {
    pub name: &'static str,
    method: &'static str,
    /// The first is `a`. What follows the letter in an input's first line is added.
    paths: &'static [&'static str],
    /// Each after a line break; the first of two headers of one name counts.
    headers: &'static str,
    /// What a stage begins with.
    pub opening: &'static str,
}

const STREAMS: &[&str] = &[
    "/v1/streams/revenue/events",
    "/v1/streams/site_events/events",
    "/v1/streams/notifications/events",
    "/v1/streams/inventory/events",
];
const READS: &[&str] = &[
    "/userEvents/",
    "/stats",
    "/v1/streams/revenue/events",
    "/v1/streams/site_events/events",
    "/v1/streams/revenue/uploads/",
    "/v1/events/",
    "/v1/views",
    "/v1/views/revenue/balances",
    "/v1/views/inventory/rows",
    "/v1/views/site_events/rows",
    "/v1/views/site_stats/stats",
    "/v1/dead-letters",
    "/v1/notifications",
    "/v1/erasures",
    "/v1/keys",
    "/ready",
    "/metrics",
];

const fn target(name: &'static str, paths: &'static [&'static str], headers: &'static str) -> Target {
    Target { name, method: "POST", paths, headers, opening: "" }
}

pub const SOURCES: &[Target] = &[
    target("native_object", STREAMS, "\nContent-Type: application/json"),
    target("native_array", STREAMS, "\nContent-Type: application/json"),
    target("native_lines", STREAMS, "\nContent-Type: application/x-ndjson"),
    target("cloud_binary", STREAMS, "\nContent-Type: application/json\nce-specversion: 1.0"),
    target("cloud_structured", STREAMS, "\nContent-Type: application/cloudevents+json"),
    target("cloud_batch", STREAMS, "\nContent-Type: application/cloudevents-batch+json"),
    target("live_event", &["/liveEvent"], ""),
    target("ingest", &["/events/ingest"], ""),
    target("site_event", &["/event"], ""),
    Target {
        name: "reading",
        method: "GET",
        paths: READS,
        headers: "",
        opening: include_str!("opening.txt"),
    },
];

impl Target {
    /// An input of this door as one of `requests`.
    pub fn requests(&self, input: &[u8]) -> Vec<u8> {
        split(input, DIVIDER).map(|part| self.request(part)).collect::<Vec<_>>().join(DIVIDER)
    }

    fn request(&self, part: &[u8]) -> Vec<u8> {
        let Some((letter, rest)) = part.split_first() else { return Vec::new() };
        let line_end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let (more, rest) = rest.split_at(line_end);
        let path = self.paths[usize::from(letter.wrapping_sub(b'a')) % self.paths.len()];
        [self.method.as_bytes(), b" ", path.as_bytes(), more, self.headers.as_bytes(), rest].concat()
    }
}
