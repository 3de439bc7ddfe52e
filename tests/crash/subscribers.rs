//! A subscriber of a stream that comes again after each kill of the server. It has to see every position once, in order,
//! and each event as the log has it.

use std::time::Duration;

use journal::simulation::Rng;

use crate::checker::Checker;
use crate::harness::event_stream::EventStream;
use crate::harness::seed::{Seed, number};
use crate::harness::{Client, TestApp};
use crate::kills::start;
use crate::load::Load;

const CYCLES: u64 = 8;
const LIVE: &str = "/v1/streams/revenue/live";

/// What the subscriber has, over all its connections.
#[derive(Default)]
struct Subscriber {
    /// The id of the last message.
    place: String,
    /// The position that must come next.
    next: u64,
    /// Connections that continued after an earlier one.
    resumed: u64,
}

impl Subscriber {
    fn connect(&mut self, client: &Client) -> Option<EventStream> {
        if self.place.is_empty() {
            return EventStream::try_open(client, &format!("{LIVE}?from=0")).ok();
        }
        self.resumed += 1;
        EventStream::try_open(&client.clone().with_header("Last-Event-ID", &self.place), LIVE).ok()
    }

    /// Reads until the connection breaks, or until the subscriber has everything below `until`.
    fn read(&mut self, client: &Client, until: u64) {
        let Some(mut stream) = self.connect(client) else { return };
        while self.next < until
            && let Ok(Some(event)) = stream.read(Duration::from_secs(60))
        {
            if event.name == "end" {
                return;
            }
            let content = event.json();
            assert_eq!(
                (event.name.as_str(), content["position"].as_u64()),
                ("", Some(self.next)),
                "{event:?}"
            );
            self.next += 1;
            self.place.clone_from(&stream.id);
        }
    }
}

#[test]
fn a_subscriber_sees_every_position_in_order_although_the_server_is_killed() {
    let seed = Seed::new();
    let cycles = number("MILLRACE_CRASH_CYCLES").unwrap_or(CYCLES);
    let mut rng = Rng::new(seed.0);
    let mut app = TestApp::with(start(""));
    let history = app.folder.path().join("history");
    let mut subscriber = Subscriber::default();
    for _ in 0..cycles {
        let checker = Checker::open(&history);
        let life = Duration::from_micros(20_000 + rng.below(150_000));
        let client = app.client();
        std::thread::scope(|scope| {
            // It reads until the server is gone.
            scope.spawn(|| subscriber.read(&client, u64::MAX));
            Load::new(&checker, client.clone()).run(rng.draw(), || {
                // The kill must come at a random moment, and not at a condition.
                std::thread::sleep(life);
                app.kill();
            });
        });
        app.restart();
    }
    let end = app.log_end();
    while subscriber.next < end {
        let before = subscriber.next;
        subscriber.read(&app.client(), end);
        assert!(subscriber.next > before, "nothing comes after position {before} of {end}");
    }
    println!("{cycles} kills: {end} positions, {} connections continued", subscriber.resumed);
    assert!(end > 100 && subscriber.resumed > cycles / 2, "the run proves nothing");
}
