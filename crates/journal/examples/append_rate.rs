//! Measures how many small appends per second become durable. Each of PRODUCERS threads keeps IN_FLIGHT appends
//! unanswered: `cargo run --release --example append_rate -- FOLDER PRODUCERS IN_FLIGHT`.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use journal::{Disk, Journal, Options};

const TIME: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or_else(|| "append-rate".to_owned());
    let producers: usize = arguments.next().map_or(Ok(64), |text| text.parse())?;
    let in_flight: usize = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let journal = Journal::open(Disk::real(), Path::new(&folder), Options::default())?.journal;
    let begun = Instant::now();
    let counts = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..producers).map(|_| scope.spawn(|| produce(&journal, in_flight, begun))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or((0, 0))).collect::<Vec<_>>()
    });
    let seconds = begun.elapsed().as_secs_f64();
    let appends: u64 = counts.iter().map(|count| count.0).sum();
    let nanoseconds: u64 = counts.iter().map(|count| count.1).sum();
    println!("{producers} producers with {in_flight} in flight, 200 bytes each:");
    println!("{:.0} appends/s durable", appends as f64 / seconds);
    println!("{} ns in append() on average", nanoseconds / appends.max(1));
    journal.close()?;
    Ok(())
}

/// Returns the number of durable appends, and the nanoseconds spent in `append`.
fn produce(journal: &Journal, in_flight: usize, begun: Instant) -> (u64, u64) {
    let (sender, receiver) = mpsc::sync_channel(in_flight);
    let payload = [7; 200];
    let (mut appends, mut nanoseconds) = (0, 0);
    let mut append = || {
        let sender = sender.clone();
        let done = Box::new(move |answer| sender.send(answer).unwrap_or(()));
        let from = Instant::now();
        journal.append(&payload, NonZeroU32::MIN, done);
        nanoseconds += from.elapsed().as_nanos() as u64;
    };
    (0..in_flight).for_each(|_| append());
    while begun.elapsed() < TIME {
        match receiver.recv() {
            Ok(Ok(_)) => appends += 1,
            _ => break,
        }
        append();
    }
    (appends, nanoseconds)
}
