//! Requests to one source. An input is a text as for `requests`, but it cannot reach other sources. A letter for one
//! of the source's paths replaces method and path, and the source's headers are added.

use super::requests::{DIVIDER, split};

/// A source or the reading API. Its inputs cannot reach anything else.
pub struct Target {
    pub name: &'static str,
    method: &'static str,
    /// The paths by their letters: the first is `a`. The rest of an input's first line is added to the path.
    paths: &'static [&'static str],
    /// Headers, each after a line break. If a header occurs twice, the first one counts.
    headers: &'static str,
    /// The requests that a stage begins with.
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
    /// Converts an input of this source to an input of `requests`.
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
