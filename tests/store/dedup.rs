//! The state of dedup in the store: seen ids and runs of lines, which expire after their window, skipped and
//! corrected events, and dead letters.

use std::sync::Arc;
use std::time::Duration;

use event::{BodyHash, EventId, Millis, UploadId};
use millrace::store::{
    ClockJumps, CorrectedEvent, DeadLetterChange, DeadLetterFilter, DeadLetterStatus, DedupEntry, DedupKey,
    NewDeadLetter, Plan, Skipped, ViewTables,
};

use crate::harness::StoreKind;
use crate::opened::{LOG, Opened, claim};

on_each_database!(
    a_seen_id_is_skipped_and_another_body_under_it_is_a_conflict,
    an_id_that_a_plan_contains_twice_counts_once,
    a_retried_plan_whose_answer_was_lost_finds_the_same_repeats,
    ids_expire_after_their_window_and_kept_uploads_never,
    each_id_has_its_own_expiry_and_the_longest_window_of_its_events_counts,
    ids_count_for_longer_by_the_jumps_of_the_clock_within_their_window,
    ids_of_an_earlier_version_get_their_expiry,
    only_the_new_lines_of_a_repeated_run_pass,
    dead_letters_are_written_once_and_change_status_from_the_expected_one,
    two_racing_nodes_record_each_id_once,
);

fn seen(name: &str, position: u64, body: u8, received: i64) -> DedupEntry {
    let id = EventId::derived("s", "o", name);
    DedupEntry {
        key: DedupKey::Event(id),
        hash: BodyHash([body; 8]),
        received: Millis(received),
        expires: Some(Millis(received + 1_000)),
        events: vec![(position, 0)],
        conflict: vec![dead_letter(position)],
    }
}

fn lines(first: u64, count: u32, position: u64, body: u8) -> DedupEntry {
    let events = (0..u64::from(count)).map(|line| (position + line, first + line)).collect();
    let key = DedupKey::Lines { upload: [3; 16], first, count };
    DedupEntry { key, expires: None, events, conflict: Vec::new(), ..seen("", position, body, 0) }
}

fn dead_letter(position: u64) -> NewDeadLetter {
    NewDeadLetter {
        id: NewDeadLetter::id("gate", LOG, position),
        view: "gate".to_owned(),
        position,
        event_id: EventId::at(LOG, position),
        stream: "s".to_owned(),
        reason: "why 😀 'quoted'".to_owned(),
        event: format!(r#"{{"n":{position},"😀":"\u0000"}}"#),
        at: Millis(i64::from(u32::MAX) * 1_000),
        delivery: None,
    }
}

/// The position of dedup in a store, and the end of its log.
struct DedupView {
    opened: Opened,
    end: u64,
    clock_jumps: ClockJumps,
}

impl DedupView {
    fn on(store_kind: StoreKind) -> Self {
        let opened = Opened::on(store_kind);
        opened.begin("gate", ViewTables::default()).unwrap();
        Self { opened, end: 0, clock_jumps: ClockJumps::default() }
    }

    /// Applies a plan with these entries. Returns the skipped positions, each with the position of the first event
    /// and whether that had the same body.
    fn apply(&mut self, seen: Vec<DedupEntry>) -> Vec<(u64, u64, bool)> {
        let mut plan = Plan::new(claim("gate", self.end, self.end + 1));
        plan.seen = seen;
        plan.clock_jumps = self.clock_jumps.clone();
        self.end += 1;
        let skipped = self.opened.apply(plan).unwrap();
        skipped.iter().map(|skipped| (skipped.position, skipped.first_position, skipped.same_body)).collect()
    }

    fn dead_letters(&self) -> Vec<u64> {
        let dead_letters =
            self.opened.run(self.opened.store.dead_letters(&DeadLetterFilter::default(), None, 100)).unwrap();
        let mut positions: Vec<u64> = dead_letters.iter().map(|dead_letter| dead_letter.position).collect();
        positions.sort_unstable();
        positions
    }
}

fn a_seen_id_is_skipped_and_another_body_under_it_is_a_conflict(store_kind: StoreKind) {
    let mut dedup = DedupView::on(store_kind);
    assert_eq!(dedup.apply(vec![seen("a", 10, 1, 0), seen("b", 11, 1, 0)]), []);
    let repeats = vec![seen("a", 12, 1, 0), seen("c", 13, 1, 0), seen("b", 14, 2, 0)];
    assert_eq!(dedup.apply(repeats), [(12, 10, true), (14, 11, false)]);
    assert_eq!(dedup.dead_letters(), [14]);
    let store = &dedup.opened.store;
    let run = |position| dedup.opened.run(store.skipped(LOG, position)).unwrap();
    let skipped = Skipped { position: 14, first_log: LOG, first_position: 11, same_body: false };
    assert_eq!((run(14), run(13)), (Some(skipped), None));
    assert_eq!(dedup.opened.run(store.skipped_positions(LOG, 0, 100)), Ok(vec![12, 14]));
    let id = EventId::derived("s", "o", "a");
    assert_eq!(dedup.opened.run(store.first_position(id)), Ok(Some((LOG, 10))));
    assert_eq!(dedup.opened.run(store.first_hash(id, Millis(0))), Ok(Some(BodyHash([1; 8]))));
    assert_eq!(dedup.opened.run(store.first_position(EventId::derived("s", "o", "A"))), Ok(None));
}

fn an_id_that_a_plan_contains_twice_counts_once(store_kind: StoreKind) {
    let mut dedup = DedupView::on(store_kind);
    let batch = vec![seen("a", 0, 1, 0), seen("a", 1, 1, 0), seen("a", 2, 2, 0), seen("b", 3, 1, 0)];
    assert_eq!(dedup.apply(batch), [(1, 0, true), (2, 0, false)]);
    assert_eq!(dedup.dead_letters(), [2]);
    let runs = vec![lines(0, 3, 10, 1), lines(1, 3, 20, 2), lines(0, 4, 30, 3)];
    let repeats: Vec<u64> = dedup.apply(runs).iter().map(|(position, ..)| *position).collect();
    assert_eq!(repeats, [20, 21, 30, 31, 32, 33]);
}

/// Applies the same plan several times, as dedup does after a lost answer.
fn a_retried_plan_whose_answer_was_lost_finds_the_same_repeats(store_kind: StoreKind) {
    let mut dedup = DedupView::on(store_kind);
    assert_eq!(dedup.apply(vec![seen("a", 0, 1, 0)]), []);
    let mut plan = Plan::new(claim("gate", dedup.end, dedup.end + 1));
    plan.seen = vec![seen("a", 1, 1, 0), seen("b", 2, 1, 0), seen("a", 3, 2, 0)];
    let plan = Arc::new(plan);
    for _ in 0..3 {
        let skipped = dedup.opened.run(dedup.opened.store.apply(Arc::clone(&plan))).unwrap();
        let found: Vec<(u64, bool)> = skipped.iter().map(|found| (found.position, found.same_body)).collect();
        assert_eq!(found, [(1, true), (3, false)]);
    }
    assert_eq!(dedup.dead_letters(), [3]);
}

fn ids_expire_after_their_window_and_kept_uploads_never(store_kind: StoreKind) {
    let mut dedup = DedupView::on(store_kind);
    assert_eq!(dedup.apply(vec![seen("a", 0, 1, 10_000)]), []);
    assert_eq!(dedup.apply(vec![seen("a", 1, 1, 11_000)]), [(1, 0, true)]);
    assert_eq!(dedup.apply(vec![seen("a", 2, 1, 11_001)]), [], "the first was received before the window");
    assert_eq!(dedup.apply(vec![seen("a", 3, 1, 12_001)]), [(3, 2, true)]);
    assert_eq!(dedup.apply(vec![lines(0, 5, 10, 1)]), []);
    let later = DedupEntry { received: Millis(1 << 50), ..lines(0, 5, 20, 1) };
    assert_eq!(dedup.apply(vec![later]).len(), 5);
    let forget =
        |before, rows| dedup.opened.run(dedup.opened.store.prune_dedup(Millis(before), rows)).unwrap();
    assert_eq!(forget(i64::MIN, 10), 0, "no id is older than the minimum time");
    assert_eq!(forget(12_001, 10), 0, "an id that expires at that time stays");
    assert_eq!(forget(12_002, 10), 1);
    assert_eq!(forget(i64::MAX, 10), 0, "runs of lines are kept");
}

fn each_id_has_its_own_expiry_and_the_longest_window_of_its_events_counts(store_kind: StoreKind) {
    let mut dedup = DedupView::on(store_kind);
    let until = |name: &str, position, received, expires| DedupEntry {
        expires: Some(Millis(expires)),
        ..seen(name, position, 1, received)
    };
    assert_eq!(dedup.apply(vec![until("long", 0, 0, 9_000), until("short", 1, 0, 100)]), []);
    assert_eq!(dedup.apply(vec![until("long", 2, 101, 102), until("short", 3, 101, 102)]), [(2, 0, true)]);
    assert_eq!(dedup.apply(vec![until("both", 4, 0, 100), until("both", 5, 30, 9_030)]), [(5, 4, true)]);
    assert_eq!(
        dedup.apply(vec![until("both", 6, 9_000, 9_100), until("both", 7, 9_001, 9_101)]),
        [(6, 4, true)]
    );
    let hash = |name: &str, now| {
        let id = EventId::derived("s", "o", name);
        dedup.opened.run(dedup.opened.store.first_hash(id, Millis(now))).unwrap()
    };
    assert_eq!((hash("short", 102), hash("short", 103)), (Some(BodyHash([1; 8])), None));
    assert_eq!((hash("long", 9_000), hash("long", 9_001)), (Some(BodyHash([1; 8])), None));
}

fn ids_count_for_longer_by_the_jumps_of_the_clock_within_their_window(store_kind: StoreKind) {
    let mut dedup = DedupView::on(store_kind);
    let until = |name: &str, position, received, expires| DedupEntry {
        expires: Some(Millis(expires)),
        ..seen(name, position, 1, received)
    };
    dedup.clock_jumps = ClockJumps(
        [(100, 0), (9_000, 500)]
            .map(|(time, jump)| (Duration::from_millis(time), Duration::from_millis(jump)))
            .into(),
    );
    assert_eq!(dedup.apply(vec![until("long", 0, 0, 9_000), until("short", 1, 0, 100)]), []);
    // A source of the short window repeats the id of the long one.
    let later = vec![until("long", 2, 9_500, 9_600), until("short", 3, 101, 201)];
    assert_eq!(dedup.apply(later), [(2, 0, true)]);
    assert_eq!(dedup.apply(vec![until("long", 4, 9_501, 18_501)]), []);
}

fn ids_of_an_earlier_version_get_their_expiry(store_kind: StoreKind) {
    let mut dedup = DedupView::on(store_kind);
    let ids: Vec<DedupEntry> =
        (0..50).map(|n| seen(&n.to_string(), n, 1, if n < 20 { 0 } else { n as i64 })).collect();
    dedup.apply(ids);
    dedup.apply(vec![lines(0, 5, 60, 1)]);
    let on_table = store_kind.pick(["", "", " ON millrace_seen"]);
    dedup.opened.stored.sql(&format!("DROP INDEX millrace_seen_expiry{on_table}"));
    dedup.opened.stored.sql("ALTER TABLE millrace_seen DROP COLUMN expires");
    let version = store_kind.pick(["2", "'2'", "'2'"]);
    dedup.opened.stored.sql(&format!("UPDATE millrace_meta SET value = {version} WHERE name = 'schema'"));
    dedup.opened = dedup.opened.again();
    // The first page was written, then the process was killed; the next start has another window.
    dedup.opened.stored.sql("UPDATE millrace_seen SET expires = 60 WHERE kept = 0 AND received = 0");
    let store = &dedup.opened.store;
    dedup.opened.run(store.add_missing_expiries(Duration::from_millis(70), 10)).unwrap();
    let of_window = |window: u64| {
        dedup.opened.stored.sql(&format!(
            "SELECT count(*) FROM millrace_seen WHERE kept = 0 AND expires = received + {window}"
        ))
    };
    assert_eq!([of_window(60), of_window(70)], ["20", "30"]);
    assert_eq!(dedup.opened.stored.sql("SELECT count(*) FROM millrace_seen WHERE expires IS NULL"), "1");
}

fn only_the_new_lines_of_a_repeated_run_pass(store_kind: StoreKind) {
    let mut dedup = DedupView::on(store_kind);
    assert_eq!(dedup.apply(vec![lines(0, 100, 0, 1), lines(100, 50, 100, 2)]), []);
    let overlapping: Vec<u64> =
        dedup.apply(vec![lines(140, 20, 1_000, 3)]).iter().map(|(position, ..)| *position).collect();
    assert_eq!(overlapping, Vec::from_iter(1_000..1_010));
    let inside: Vec<u64> =
        dedup.apply(vec![lines(90, 20, 2_000, 4)]).iter().map(|(position, ..)| *position).collect();
    assert_eq!(inside, Vec::from_iter(2_000..2_020));
    let runs = dedup.opened.run(dedup.opened.store.upload_lines(UploadId([3; 16]), 0, 10)).unwrap();
    let runs: Vec<(u64, u64)> = runs.iter().map(|(first, count, _)| (*first, *count)).collect();
    // A run is also stored if only several earlier runs together contain its lines.
    assert_eq!(runs, [(0, 100), (90, 20), (100, 50), (140, 20)]);
}

fn dead_letters_are_written_once_and_change_status_from_the_expected_one(store_kind: StoreKind) {
    let mut dedup = DedupView::on(store_kind);
    let first = dead_letter(5);
    let mut write = |changes: Vec<DeadLetterChange>, by: &[(u64, u64)]| {
        let mut plan = Plan::new(claim("gate", dedup.end, dedup.end + 1));
        plan.dead_letters = changes;
        plan.corrected =
            by.iter().map(|(position, by)| CorrectedEvent { position: *position, by: *by }).collect();
        dedup.end += 1;
        dedup.opened.apply(plan).unwrap();
    };
    write(
        vec![DeadLetterChange::New(first.clone()), DeadLetterChange::New(dead_letter(6))],
        &[(1, 5), (2, 6)],
    );
    write(vec![DeadLetterChange::New(first.clone())], &[(1, 7)]);
    write(
        vec![DeadLetterChange::Again {
            id: first.id,
            view: "gate".to_owned(),
            position: 9,
            reason: "still".to_owned(),
            at: Millis(7),
        }],
        &[],
    );
    let store = &dedup.opened.store;
    let found = dedup.opened.run(store.dead_letter(first.id)).unwrap().unwrap();
    assert_eq!((found.reason.as_str(), found.attempts, found.status), ("still", 2, DeadLetterStatus::Open));
    assert_eq!((found.event.as_str(), found.created), (first.event.as_str(), first.at));
    assert_eq!(dedup.opened.run(store.open_dead_letters()), Ok(2));
    let moved = |from, to| dedup.opened.run(store.move_dead_letter(first.id, from, to, Millis(8))).unwrap();
    assert!(moved(DeadLetterStatus::Open, DeadLetterStatus::Retrying));
    assert!(!moved(DeadLetterStatus::Open, DeadLetterStatus::Dropped));
    // Setting the present status succeeds too.
    assert!(moved(DeadLetterStatus::Retrying, DeadLetterStatus::Retrying));
    assert_eq!(dedup.opened.run(store.open_dead_letters()), Ok(1));
    let attempts = dedup.opened.run(store.dead_letter_attempts(LOG, &[4, 5, 6])).unwrap();
    assert_eq!(attempts.len(), 2);
    // If an event is corrected twice, the first correction counts.
    assert_eq!(dedup.opened.run(store.corrected_by(LOG, 1)), Ok(Some(5)));
    assert_eq!(dedup.opened.run(store.corrected_positions(LOG, 0, 2)), Ok(vec![1]));
    assert_eq!(dedup.opened.run(store.corrections(LOG, 0, 9)), Ok(vec![(5, 1), (6, 2)]));
    dedup.opened.run(store.clear_dead_letters_at(LOG, &[5], Millis(9))).unwrap();
    let cleared = dedup.opened.run(store.dead_letter(first.id)).unwrap().unwrap();
    assert_eq!((cleared.event.as_str(), cleared.status), ("{}", DeadLetterStatus::Dropped));
}

/// Two nodes with one store, each with its own log and dedup. Clients send to either of them.
fn two_racing_nodes_record_each_id_once(store_kind: StoreKind) {
    const IDS: usize = 40;
    let first = Opened::on(store_kind);
    let second = first.again();
    let logs = [LOG, event::LogId([9; 16])];
    let nodes = [&first, &second];
    let skipped_count: Vec<usize> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|node| {
                let (opened, log) = (nodes[node], logs[node]);
                scope.spawn(move || {
                    let begin = millrace::store::Claim { log, ..claim("gate", 0, 0) };
                    opened.run(opened.store.begin_view(begin, ViewTables::default())).unwrap();
                    let mut skipped_count = 0;
                    for number in 0..IDS as u64 {
                        let mut plan =
                            Plan::new(millrace::store::Claim { log, ..claim("gate", number, number + 1) });
                        // One node goes forward and the other backward, so that they meet.
                        let of = if node == 0 { number } else { IDS as u64 - 1 - number };
                        plan.seen = vec![
                            seen(&format!("id {of}"), number, 1, 0),
                            seen(&format!("id {}", (of + 1) % IDS as u64), number, 1, 0),
                        ];
                        let stop = event::Stop::default();
                        let work = opened.store.apply_with_retry(Arc::new(plan), &stop, |_| {});
                        skipped_count += opened.run(work).unwrap().unwrap().len();
                    }
                    skipped_count
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    // Each id was sent four times and counts once.
    assert_eq!(skipped_count.iter().sum::<usize>(), 3 * IDS, "{skipped_count:?}");
    assert_eq!(first.stored.sql("SELECT count(*) FROM millrace_seen"), IDS.to_string());
}
